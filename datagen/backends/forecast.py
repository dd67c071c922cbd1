"""What a run would ask for, before it asks: counted by the method itself, against the ledger.

The method runs once with a stand-in for the teacher, which answers from the ledger and lets every other request fail.
So a method that stops at the first good answer counts all the attempts that it may need, and the forecast is the most.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice
from typing import Any

from datagen.backends.base import Completion, Failure, Outcome, Request
from datagen.backends.budget import Budget, Tokens, estimated_prompt_tokens
from datagen.backends.choices import Groups
from datagen.backends.ledger import Ledger

REQUESTS_A_LOOKUP = 256

log = logging.getLogger(__name__)


@dataclass
class Forecast:
    """Counts what `generate` is asked.

    Attributes:
        n_requests: that the ledger has no answer to, equal ones once in a lookup; several samples may share one.
        n_answered: samples that it has.
        tokens: of those without: prompts as estimated, once a request, answers as long as they may be.
    """

    ledger: Ledger
    identity: Mapping[str, Any]
    n_requests: int = 0
    n_answered: int = 0
    tokens: Tokens = field(default_factory=Tokens)

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The ledger's answer to each, in order; a failure where it has none."""
        groups = Groups(iter(requests), self.identity.get("choices_per_request", 1))
        while block := [{one.key(self.identity): one for one in group} for group in islice(groups, REQUESTS_A_LOOKUP)]:
            stored = self.ledger.get_many(dict.fromkeys(chain.from_iterable(block)))
            missing = {tuple(group): group for group in block if not group.keys() <= stored.keys()}
            self.n_requests += len(missing)
            n_missing = sum(key not in stored for key in set(chain.from_iterable(missing)))
            self.n_answered += sum(map(len, block)) - n_missing
            for group in missing.values():
                requests_of_group = list(group.values())
                prompt = estimated_prompt_tokens(requests_of_group[0].said, requests_of_group[0].tools)
                self.tokens += Tokens(prompt, sum(one.sampling.max_new_tokens for one in requests_of_group))
            for key, request in chain.from_iterable(group.items() for group in block):
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
