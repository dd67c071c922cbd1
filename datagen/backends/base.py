"""Who answers: the requests that stages make, the completions they get, and the Protocols that backends follow.

A backend module offers `Config` and a function named like its file that opens it: `local(config, environment)`. It
answers through the ledger, so that no answer is asked for twice, and it yields outcomes in the order of the requests.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from pydantic import Field

from datagen.backends.budget import Budget
from datagen.backends.ledger import Ledger, request_key
from datagen.contracts.params import Params
from datagen.contracts.records import Message

NOTIFY_EVERY_S = 0.25  # a progress bar redraws no faster


class Sampling(Params):
    """How an answer is drawn; every field is part of the request's identity.

    `temperature` 0 is greedy. `top_p` is the nucleus (Holtzman et al. 2019, arXiv:1904.09751). `seed` is the run's;
    every request gets one of its own, derived from it. `cache_epoch` is raised to buy new answers to old requests.
    """

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=512, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = 0
    cache_epoch: int = Field(default=0, ge=0, lt=2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer asked for.

    Attributes:
        messages: the conversation up to the answer; none where there is a `prompt`.
        sampling: options, with the request's own seed.
        sample_index: tells apart the attempts at one conversation, from 0.
        tools: JSON text of tool definitions.
        response_schema: JSON text of the JSON schema, an object, that the answer has to follow. A server is asked to
            hold it to that, local and vllm_offline do so themselves, scripted pays no heed.
        prompt: text that goes to the model as it is: no chat template, no special token added. In the answer's text
            special tokens stand as text, but for the one that ended it.
    """

    messages: Sequence[Message] = ()
    sampling: Sampling
    sample_index: int = 0
    tools: str | None = None
    response_schema: str | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        """Either a conversation or a raw prompt.

        Raises:
            ValueError: both, or tools or a schema with a raw prompt, which no template puts anywhere.
        """
        if self.prompt is not None and (self.messages or self.tools or self.response_schema):
            raise ValueError("a request with a raw prompt has no messages, no tools and no response_schema")

    @property
    def said(self) -> Sequence[Message]:
        """What budgets count: the messages, or the raw prompt as one."""
        return self.messages if self.prompt is None else [Message(role="user", content=self.prompt)]

    def key(self, identity: Mapping[str, Any]) -> bytes:
        """SHA-256 of everything that can change the answer; `identity` is the backend's."""
        fields = {
            "identity": dict(identity),
            "messages": list(self.messages),
            "tools": self.tools,
            "sampling": self.sampling.__dict__,  # as model_dump(mode="json"), for a third of the time
            "sample_index": self.sample_index,
        }
        if self.response_schema is not None:  # a request without one keeps the key of a ledger that knew none
            fields["response_schema"] = self.response_schema
        if self.prompt is not None:  # likewise
            fields["prompt"] = self.prompt
        return request_key(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An answer.

    Attributes:
        text: without the reasoning.
        reasoning: where the server gives it apart.
        finish_reason: `stop`, `length`, or the server's word.
        n_prompt_tokens: as the teacher counted; None where it did not say, 0 where another sample of the same request
            bears them (`choices`).
        n_completion_tokens: likewise, reasoning included.
        logprobs: (token, natural-log probability) of each completion token, where asked for.
        top_logprobs: the likeliest (token, log-probability) at each completion token, where asked for.
        tool_calls: JSON text.
        prompt_token_ids: what the teacher's tokenizer made of the messages, where it says so.
        token_ids: of the answer as the teacher drew it, so that nobody need retokenise the text.
    """

    text: str
    reasoning: str | None = None
    finish_reason: str | None = None
    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None
    logprobs: list[tuple[str, float]] | None = field(default=None)
    top_logprobs: list[list[tuple[str, float]]] | None = field(default=None)
    tool_calls: str | None = None
    prompt_token_ids: list[int] | None = field(default=None)
    token_ids: list[int] | None = field(default=None)

    def to_bytes(self) -> bytes:
        """As the ledger keeps it: compact JSON."""
        held = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        return _to_json(held).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Completion":
        """The completion that `to_bytes` wrote."""
        held = json.loads(stored.decode("utf-8", "surrogatepass"))
        if held.get("logprobs") is not None:
            held["logprobs"] = [(token, value) for token, value in held["logprobs"]]
        if held.get("top_logprobs") is not None:
            held["top_logprobs"] = [[(token, value) for token, value in one] for one in held["top_logprobs"]]
        return cls(**held)


_FIELDS = tuple(f.name for f in fields(Completion))
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request has no answer: a code to count by and a sentence. No error is stored, so a rerun asks again."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a request; `key` is the ledger's, `from_ledger` says that nothing was asked."""

    request: Request
    key: bytes
    answer: Completion | Failure
    from_ledger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Machine facts, which never change a request or a row.

    Attributes:
        ledger: where answers are kept.
        concurrency: requests in flight at once, for backends that have a wire.
        budget: what the run may spend; attempts that cost anything go through it.
        notify: called now and then after a count, from any thread, so that progress shows what no outcome has told yet.
        counts: what the backend did (`requests`, `ledger_hits`, `retries_429`, ...), for the run's metrics.
    """

    ledger: Ledger
    concurrency: int = 16
    budget: Budget = field(default_factory=Budget)
    notify: Callable[[], None] = lambda: None
    counts: dict[str, float] = field(default_factory=lambda: {"requests": 0, "ledger_hits": 0})
    _notified: list[float] = field(default_factory=lambda: [0.0])

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a counter; notify, at most every `NOTIFY_EVERY_S`."""
        self.counts[name] = self.counts.get(name, 0) + amount
        now = time.monotonic()
        if now - self._notified[0] >= NOTIFY_EVERY_S:
            self._notified[0] = now
            self.notify()

    def describe(self, seconds: float) -> list[str]:
        """For a progress bar: what was asked and what not, in flight, tokens a second, retries by kind, cost."""
        counts = self.counts
        parts = [f"{counts.get('requests', 0):.0f} asked", f"{counts.get('ledger_hits', 0):.0f} from the ledger"]
        if "in_flight" in counts:
            parts.append(f"{counts['in_flight']:.0f} in flight")
        parts.append(f"{counts.get('completion_tokens', 0) / seconds:.0f} tokens/s")
        retries = [
            f"{name.removeprefix('retries_')} {n:.0f}" for name, n in sorted(counts.items()) if "retries_" in name
        ]
        if retries:
            parts.append(f"retries {', '.join(retries)}")
        if (paid := self.budget.cost(self.budget.spent)) is not None:
            parts.append(f"cost {paid:.2f}")
        return parts


class TextBackend(Protocol):
    """Answers text requests.

    `identity` goes into every key and into the manifest: model, revision and endpoint, never a secret.
    `generate` is lazy: it draws requests as it can take them, holds a bounded number, and yields outcomes in order.
    """

    identity: Mapping[str, Any]

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order."""
        ...


class OpenTextBackend(Protocol):
    """The function that a backend module is named after."""

    def __call__(self, config: Any, environment: Environment) -> AbstractContextManager[TextBackend]:
        """Check everything that can be checked before work (model, key, device), then open."""
        ...


class EmbeddingBackend(Protocol):
    """Embeds texts."""

    identity: Mapping[str, Any]

    def embed(self, texts: Sequence[str]) -> Any:
        """(len(texts), dimension) float32 array, rows of unit length."""
        ...
