"""What a run would ask for, before it asks: counted by the method itself, against the ledger.

The method runs once with a stand-in for the teacher, which answers from the ledger and lets every other request fail.
So a method that stops at the first good answer counts all the attempts that it may need, and the forecast is the most.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

from datagen.backends.base import Completion, Failure, Outcome, Request
from datagen.backends.budget import Budget, Tokens, estimated_prompt_tokens
from datagen.backends.ledger import Ledger

REQUESTS_A_LOOKUP = 256

log = logging.getLogger(__name__)


@dataclass
class Forecast:
    """Counts what `generate` is asked.

    Attributes:
        n_requests: that the ledger has no answer to, equal ones once in a lookup.
        n_answered: that it has.
        tokens: of those without: prompts as estimated, answers as long as they may be.
    """

    ledger: Ledger
    identity: Mapping[str, Any]
    n_requests: int = 0
    n_answered: int = 0
    tokens: Tokens = field(default_factory=Tokens)

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The ledger's answer to each, in order; a failure where it has none."""
        remaining = iter(requests)
        while block := list(islice(remaining, REQUESTS_A_LOOKUP)):
            keys = [request.key(self.identity) for request in block]
            stored = self.ledger.get_many(dict.fromkeys(keys))
            missing = {key: request for key, request in zip(keys, block, strict=True) if key not in stored}
            self.n_requests += len(missing)
            self.n_answered += len(block) - len(missing)
            prompt = sum(estimated_prompt_tokens(one.messages, one.tools) for one in missing.values())
            self.tokens += Tokens(prompt, sum(one.sampling.max_new_tokens for one in missing.values()))
            for request, key in zip(block, keys, strict=True):
                answer = Completion.from_bytes(stored[key]) if key in stored else _NOT_ASKED
                yield Outcome(request=request, key=key, answer=answer, from_ledger=key in stored)

    def facts(self, budget: Budget) -> dict[str, Any]:
        """For the run's metrics."""
        price = budget.cost(self.tokens)
        return {
            "forecast_requests": self.n_requests,
            "forecast_ledger_hits": self.n_answered,
            "forecast_prompt_tokens": self.tokens.prompt,
            "forecast_completion_tokens": self.tokens.completion,
        } | ({} if price is None else {"forecast_cost": float(price)})

    def announce(self, stage: str, budget: Budget) -> None:
        """Tell the log."""
        log.info("%s: to buy: %s", stage, self.describe(budget))

    def describe(self, budget: Budget) -> str:
        """In one line."""
        said = (
            f"{self.n_requests} requests at most, {self.n_answered} more in the ledger; about {self.tokens.prompt} "
            f"prompt tokens (estimated), at most {self.tokens.completion} completion tokens"
        )
        price = budget.cost(self.tokens)
        return said if price is None else f"{said}; a cost of at most about {_rounded(price)}"


# An empty answer, as of a teacher that never succeeds: any other failure would end a prompt's attempts.
_NOT_ASKED = Failure(reason="empty_answer", detail="a forecast asks nothing")


def _rounded(price: Decimal) -> str:
    return f"{price:.6f}" if price < 1 else f"{price:.2f}"
