"""What a run may spend, and what it did: a bound in tokens or money that is never exceeded.

Before a request goes out, the most that it can cost is set aside; once its answer is here, what it did cost takes the
place of that. A request waits while what is set aside for others leaves too little; where nothing is in flight and it
still does not fit, the run ends. What the ledger has is free, and so is what an earlier run bought.

A teacher's own count of tokens is what counts. Where it gives none, a prompt's tokens are estimated as a quarter of its
UTF-8 bytes and 4 a message (OpenAI's rule of thumb of 4 characters a token, and its cookbook's overhead of a message),
an answer's as a quarter of its bytes; a raw prompt counts as one message. The most that a prompt can have is a token a
byte, as in any tokenizer that works on bytes, those of what `extra_body` says beside numbers (a schema, more tools)
too, and what a chat template may add: 64, 16 a message, and 512 where there are tools; where an answer shows that the
server adds more, so much more is set aside for every later request. An attempt that ended without the server's word,
such as a timeout, a gateway's too, may have been billed and counts with its most.
"""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

from datagen.contracts.errors import BackendError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Message

BYTES_A_TOKEN = 4
TOKENS_A_MESSAGE = 4
MOST_TEMPLATE_TOKENS, MOST_TOKENS_A_MESSAGE, MOST_TOOL_TOKENS = 64, 16, 512
MILLION = 1_000_000
EMPTY: Mapping[str, Any] = {}
_CONNECTION: JsonDict = {"connection": True}


class BudgetParams(Params):
    """Prices, in whatever currency, and the most that a run may spend.

    Bounds change no row and are in no manifest; prices are, as they say what the rows cost.
    """

    price_per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    price_per_million_completion_tokens: float | None = Field(default=None, ge=0, validate_default=True)
    max_total_tokens: int | None = Field(default=None, ge=1, json_schema_extra=_CONNECTION)  # prompts and answers
    max_cost: float | None = Field(default=None, gt=0, json_schema_extra=_CONNECTION)

    @field_validator("price_per_million_completion_tokens")
    @classmethod
    def _check_prices(cls, value: float | None, info: ValidationInfo) -> float | None:
        if (value is None) != (info.data.get("price_per_million_prompt_tokens") is None):
            raise ValueError("give both price_per_million_prompt_tokens and price_per_million_completion_tokens")
        return value

    @field_validator("max_cost")
    @classmethod
    def _check_max_cost(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("price_per_million_completion_tokens") is None:
            raise ValueError("needs price_per_million_prompt_tokens and price_per_million_completion_tokens")
        return value


class BudgetSpent(BackendError):
    """The next request could exceed the budget; what was bought is in the ledger."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of prompts and of answers."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)

    @property
    def total(self) -> int:
        """Both."""
        return self.prompt + self.completion


def estimated_prompt_tokens(messages: Sequence[Message], tools: str | None = None) -> int:
    """By the rule above."""
    return -(-_n_bytes(messages, tools) // BYTES_A_TOKEN) + TOKENS_A_MESSAGE * len(messages)


def estimated_text_tokens(*texts: str | None) -> int:
    """Of an answer, by the rule above."""
    return -(-sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if text) // BYTES_A_TOKEN)


def most_tokens(
    messages: Sequence[Message], tools: str | None, max_new_tokens: int, extra_body: Mapping[str, Any] = EMPTY,
    n_answers: int = 1,
) -> Tokens:  # fmt: skip
    """What one request for `n_answers` can be billed for at most; `extra_body` may set another limit on each."""
    has_tools = tools or extra_body.get("tools")
    template = MOST_TEMPLATE_TOKENS + MOST_TOKENS_A_MESSAGE * len(messages) + (MOST_TOOL_TOKENS if has_tools else 0)
    said = [value for value in extra_body.values() if isinstance(value, str | list | dict)]
    more = len(json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")) if said else 0
    limit = max(_limits(extra_body, max_new_tokens), default=max_new_tokens)
    return Tokens(_n_bytes(messages, tools) + more + template, limit * n_answers)


def cost(tokens: Tokens, prices: Mapping[str, Any], *, price_share: float = 1.0) -> Decimal | None:
    """In the currency of the prices, exactly; None where they are not given.

    Args:
        tokens: what is paid for.
        prices: holds the two `price_per_million_...`, such as a manifest's params.
        price_share: of the price that is paid, below 1 for batches.
    """
    prompt = prices.get("price_per_million_prompt_tokens")
    completion = prices.get("price_per_million_completion_tokens")
    if prompt is None or completion is None:
        return None
    a_million = Decimal(str(prompt)) * tokens.prompt + Decimal(str(completion)) * tokens.completion
    return a_million * Decimal(str(price_share)) / MILLION


def price_share(params: Mapping[str, Any]) -> float:
    """The share of the price that a backend with these parameters pays: `batch_price_share`, else all of it."""
    return float(params.get("batch_price_share", 1.0))


class Purchase:
    """One attempt: what was set aside for it, and what became of it. Without a word it counts with its most."""

    def __init__(self, most: Tokens, surplus: int = 0) -> None:
        self.surplus = surplus  # of a prompt's tokens, over the most by the rule
        self.most = self.paid = most + Tokens(surplus)
        self.known = False
        self.estimated = 0  # answers

    def free(self) -> None:
        """The server refused it, or was never reached."""
        self.paid, self.known = Tokens(), True

    def answered(
        self, n_prompt_tokens: int | None, n_completion_tokens: int | None, messages: Sequence[Message],
        tools: str | None, *texts: str | None,
    ) -> None:  # fmt: skip
        """As the teacher counted; where it did not, by the estimate from messages and texts."""
        self.known = True
        self.estimated = int(n_prompt_tokens is None or n_completion_tokens is None)
        self.paid = Tokens(
            estimated_prompt_tokens(messages, tools) if n_prompt_tokens is None else n_prompt_tokens,
            estimated_text_tokens(*texts) if n_completion_tokens is None else n_completion_tokens,
        )


class Bill:
    """What the answers of a dataset cost at the prices that its manifest holds, whichever run bought them.

    Attempts without an answer are in no dataset, and so in no bill.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self._tokens = Tokens()
        self._n_estimated = 0
        self.has_prices = cost(Tokens(), params) is not None

    def add(
        self, n_prompt_tokens: int | None, n_completion_tokens: int | None, messages: Sequence[Message],
        tools: str | None, *texts: str | None,
    ) -> None:  # fmt: skip
        """One answer; see `Purchase.answered`."""
        purchase = Purchase(Tokens())
        purchase.answered(n_prompt_tokens, n_completion_tokens, messages, tools, *texts)
        self._tokens += purchase.paid
        self._n_estimated += purchase.estimated

    def figures(self, n_verified: int) -> dict[str, Any]:
        """In all and for each of `n_verified` rows, and how many answers count by estimate; empty without prices."""
        total = cost(self._tokens, self._params, price_share=price_share(self._params))
        if total is None:
            return {}
        return {
            "total": float(total),
            "per_verified_row": float(total / n_verified) if n_verified else None,
            "answers_with_estimated_usage": self._n_estimated,
        }


class Budget:
    """The spending of one run; every method may be called from any thread."""

    def __init__(self, params: BudgetParams | None = None, *, price_share: float = 1.0) -> None:
        self.params = params or BudgetParams()
        self.price_share = price_share
        self.spent = Tokens()
        self.n_estimated = 0  # answers without the teacher's count
        self.n_unknown = 0  # attempts that may have been billed, counted with their most
        self._prices = self.params.model_dump()
        self._max_cost = None if self.params.max_cost is None else Decimal(str(self.params.max_cost))
        self._set_aside = Tokens()
        self._surplus = 0  # of a prompt over the most that the rule allows it
        self._n_open = 0
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound."""
        return self.params.max_total_tokens is not None or self._max_cost is not None

    def check(self, extra_body: Mapping[str, Any]) -> None:
        """Raise ParamsError where there is a bound, and no limit on an answer's tokens that would let it hold."""
        if self.is_bounded and not _limits(extra_body, 1):
            raise ParamsError(
                "extra_body.max_tokens: takes away the limit that a budget needs; set a number, or no budget"
            )

    def cost(self, tokens: Tokens) -> Decimal | None:
        """What these cost here."""
        return cost(tokens, self._prices, price_share=self.price_share)

    def take(self, most: Iterable[Tokens]) -> list[Purchase]:
        """As many of these, from the first, as fit; each must be settled."""
        taken: list[Purchase] = []
        with self._lock:
            for one in most:
                if not self._fits(one):
                    break
                taken.append(self._set_apart(one))
        return taken

    def settle(self, purchases: Iterable[Purchase]) -> None:
        """Count what these cost in place of what was set aside."""
        with self._lock:
            for one in purchases:
                self._set_aside -= one.most
                self._n_open -= 1
                self.spent += one.paid
                self._surplus = max(self._surplus, one.paid.prompt - (one.most.prompt - one.surplus))
                self.n_estimated += one.estimated
                self.n_unknown += not one.known
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.get_loop().call_soon_threadsafe(_wake, future)

    @asynccontextmanager
    async def purchase(self, most: Tokens) -> AsyncGenerator[Purchase]:
        """One attempt, for asyncio: waits until it fits, and settles it.

        Raises:
            BudgetSpent: it does not fit, and nothing is in flight that could come cheaper than its most.
        """
        purchase = await self._take_or_wait(most)
        try:
            yield purchase
        finally:
            self.settle([purchase])

    async def _take_or_wait(self, most: Tokens) -> Purchase:
        while True:
            with self._lock:
                if self._fits(most):
                    return self._set_apart(most)
                if not self._n_open:
                    raise self.exceeded()
                freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(freed)
            await freed

    def exceeded(self) -> BudgetSpent:
        """What to raise where the next request does not fit: what was spent, and how to go on."""
        held = ", ".join(
            f"{name}={value}"
            for name in ("max_total_tokens", "max_cost")
            if (value := getattr(self.params, name)) is not None
        )
        return BudgetSpent(
            f"the next request could exceed {held}: {self.spending()} by this run. What was bought is in the ledger: "
            "raise the bound and run again, and only the rest is asked for"
        )

    def spending(self) -> str:
        """One clause: tokens, and cost where prices are known."""
        money = "" if (paid := self.cost(self.spent)) is None else f" at a cost of {paid:.6f}"
        spent = f"{self.spent.prompt} prompt and {self.spent.completion} completion tokens{money} spent"
        if self.n_estimated:
            spent += f", {self.n_estimated} answers by estimate as the teacher gave no usage"
        if self.n_unknown:
            spent += f", {self.n_unknown} attempts without the server's word with their most"
        return spent

    def facts(self) -> dict[str, Any]:
        """For the run's metrics: tokens, and cost where prices are known."""
        paid = self.cost(self.spent)
        return {
            "spent_prompt_tokens": self.spent.prompt,
            "spent_completion_tokens": self.spent.completion,
            "answers_with_estimated_usage": self.n_estimated,
            "attempts_counted_with_their_most": self.n_unknown,
        } | ({} if paid is None else {"spent_cost": float(paid)})

    def _set_apart(self, most: Tokens) -> Purchase:
        purchase = Purchase(most, self._surplus)
        self._set_aside += purchase.most
        self._n_open += 1
        return purchase

    def _fits(self, most: Tokens) -> bool:
        if not self.is_bounded:
            return True
        tokens = self.spent + self._set_aside + Tokens(self._surplus) + most
        if self.params.max_total_tokens is not None and tokens.total > self.params.max_total_tokens:
            return False
        paid = self.cost(tokens)
        return self._max_cost is None or paid is None or paid <= self._max_cost


def _limits(extra_body: Mapping[str, Any], max_new_tokens: int) -> list[int]:
    """Those on an answer's tokens that a request says."""
    if not extra_body:
        return [max_new_tokens]
    limits = {"max_tokens": max_new_tokens} | {
        name: extra_body[name] for name in ("max_tokens", "max_completion_tokens") if name in extra_body
    }
    return [value for value in limits.values() if isinstance(value, int)]


def _n_bytes(messages: Sequence[Message], tools: str | None) -> int:
    """UTF-8 bytes of all that is said, and of the tools."""
    n_bytes = len(tools.encode("utf-8", "surrogatepass")) if tools else 0
    for message in messages:
        for name, text in message.items():
            if name != "role" and isinstance(text, str):
                n_bytes += len(text.encode("utf-8", "surrogatepass"))
    return n_bytes


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
