"""Batches of requests through the ledger: each enters it in one transaction, and no other process asks meanwhile."""

import random
import time
from collections.abc import Callable, Collection, Mapping

from datagen.backends.base import Completion, Environment, Failure
from datagen.backends.ledger import POLL_S

Answers = dict[bytes, tuple[Completion | Failure, bool]]
"""Key to the answer, and whether it was in the ledger."""


def answer_batch(
    environment: Environment,
    keys: Collection[bytes],
    ask: Callable[[Collection[bytes]], Mapping[bytes, Completion | Failure]],
    *,
    epoch: int = 0,
) -> Answers:
    """The answers of a batch, from the ledger where it has all of them.

    Args:
        environment: its ledger answers first; hits are counted.
        keys: the batch, each once.
        ask: given the keys that have no answer, returns at least theirs; more are ignored, as the first answer stands.
        epoch: the requests' `cache_epoch`.
    """
    ledger = environment.ledger
    claimed = ledger.claim(keys)
    while claimed.taken:  # hold nothing while waiting for another process, which may wait for what is held
        ledger.release(claimed.granted)
        time.sleep(POLL_S * random.uniform(1, 2))
        claimed = ledger.claim(keys)
    environment.count("ledger_hits", len(claimed.answered))
    answers: Answers = {key: (Completion.from_bytes(stored), True) for key, stored in claimed.answered.items()}
    if claimed.granted:
        try:
            fresh = ask(claimed.granted)
            missing = {key: fresh[key] for key in claimed.granted}
            ledger.put_many({key: a.to_bytes() for key, a in missing.items() if isinstance(a, Completion)}, epoch)
        finally:
            ledger.release(claimed.granted)
        answers |= {key: (answer, False) for key, answer in missing.items()}
    return answers
