"""Batches of requests through the ledger: each enters it in one transaction, and no other process asks meanwhile."""

import random
import time
from collections.abc import Callable, Collection, Mapping

from datagen.backends.base import Completion, Environment, Failure, Request
from datagen.backends.budget import Budget, most_tokens
from datagen.backends.ledger import POLL_S

Answers = dict[bytes, tuple[Completion | Failure, bool]]
"""Key to the answer, and whether it was in the ledger."""


def answer_batch(
    environment: Environment,
    requests: Mapping[bytes, Request],
    ask: Callable[[Collection[bytes]], Mapping[bytes, Completion | Failure]],
    *,
    epoch: int = 0,
) -> Answers:
    """The answers of a batch, from the ledger where it has all of them.

    Args:
        environment: its ledger answers first; hits are counted.
        requests: the batch, by key.
        ask: given the keys that have no answer, returns at least theirs; more are ignored, as the first answer stands.
        epoch: the requests' `cache_epoch`.

    Raises:
        BudgetSpent: what there is to ask could exceed the budget; nothing was asked.
    """
    ledger = environment.ledger
    claimed = ledger.claim(requests)
    while claimed.taken:  # hold nothing while waiting for another process, which may wait for what is held
        ledger.release(claimed.granted)
        time.sleep(POLL_S * random.uniform(1, 2))
        claimed = ledger.claim(requests)
    environment.count("ledger_hits", len(claimed.answered))
    answers: Answers = {key: (Completion.from_bytes(stored), True) for key, stored in claimed.answered.items()}
    if claimed.granted:
        try:
            missing = _bought(environment.budget, {key: requests[key] for key in claimed.granted}, ask)
            ledger.put_many({key: a.to_bytes() for key, a in missing.items() if isinstance(a, Completion)}, epoch)
        finally:
            ledger.release(claimed.granted)
        answers |= {key: (answer, False) for key, answer in missing.items()}
    return answers


def _bought(
    budget: Budget,
    requests: Mapping[bytes, Request],
    ask: Callable[[Collection[bytes]], Mapping[bytes, Completion | Failure]],
) -> dict[bytes, Completion | Failure]:
    """What `ask` gives, paid from the budget; all is asked or nothing, as a batch is one piece of work."""
    most = (most_tokens(one.said, one.tools, one.sampling.max_new_tokens) for one in requests.values())
    purchases = budget.take(most)
    try:
        if len(purchases) < len(requests):
            for purchase in purchases:
                purchase.free()
            raise budget.exceeded()
        fresh = ask(list(requests))
        for purchase, (key, request) in zip(purchases, requests.items(), strict=True):
            answer = fresh[key]
            if isinstance(answer, Completion):
                texts = (answer.text, answer.reasoning, answer.tool_calls)
                counts = answer.n_prompt_tokens, answer.n_completion_tokens
                purchase.answered(*counts, request.said, request.tools, *texts)
            else:
                purchase.free()
    finally:
        budget.settle(purchases)
    return {key: fresh[key] for key in requests}
