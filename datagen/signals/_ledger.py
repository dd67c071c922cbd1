"""Distributions from the answers of a server, as the ledger keeps them: the likeliest tokens alone, so `topk` only.

Nothing is asked for. The answers need token ids and top log-probs named by id, which vLLM gives where `logprobs`,
`top_logprobs`, `return_token_ids` and `return_tokens_as_token_ids` are in the request. The tail's mass is what the
likeliest leave of 1, log(1 - exp(logsumexp)) in float64: a server says no more.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from datagen.backends.base import Completion
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import Example
from datagen.contracts.errors import MissingError
from datagen.contracts.params import Params
from datagen.contracts.records import Trace

_ID = "token_id:"  # how vLLM names a token by its id
_HOW = "ask with logprobs=true, extra_body={top_logprobs: K, return_token_ids: true, return_tokens_as_token_ids: true}"


class Config(Params):
    """Which backend answered, and the model, by name, folder or hub name, whose tokenizer is the teacher's."""

    backend: Literal["openai_api", "vllm_server"]
    model: str
    max_tokens: int = Field(default=4096, ge=2)


class Teacher:
    """A `datagen.stages.teacher_signals` teacher."""

    def __init__(self, config: Config) -> None:
        """Load the tokenizer.

        Raises:
            MissingError: there is none, or it has no chat template.
        """
        try:
            from transformers import AutoTokenizer, GenerationConfig
        except ModuleNotFoundError as error:
            raise MissingError(f"teacher signals need {error.name}: `pip install 'datastill[lm]'`") from None
        model = resolve_model(config.model)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model.folder)
        if not self.tokenizer.chat_template:
            raise MissingError(f"model {config.model!r} has no chat template; add chat_template.jinja to its folder")
        ends: list[int] | int | None = None
        if (model.folder / "generation_config.json").is_file():
            ends = GenerationConfig.from_pretrained(model.folder).eos_token_id
        self.end_tokens = frozenset(
            {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        )
        self.max_tokens = config.max_tokens
        self.vocabulary = max(self.tokenizer.get_vocab().values()) + 1
        self.identity: Mapping[str, Any] = {
            "backend": config.backend,
            "tokenizer": model.name,
            "log_tail": "1 minus the likeliest, in float64",
        }

    def signals(
        self, method: Any, config: Any, examples: Sequence[tuple[Trace, Example]]
    ) -> Iterator[tuple[Trace, Any]]:
        """The signal of every trace, or why there is none."""
        keys = {trace.id: bytes.fromhex(trace.request_key) for trace, _ in examples if trace.request_key}
        with Ledger.open(ledger_path()) as ledger:
            answers = ledger.get_many(keys.values())
        for trace, example in examples:
            stored = answers.get(keys.get(trace.id, b""))
            if stored is None:
                yield trace, ("not_in_ledger", "the ledger holds no answer of its request_key")
            else:
                yield trace, read_answer(Completion.from_bytes(stored), example, config.k, self.vocabulary)


def read_answer(answer: Completion, example: Example, k: int, vocabulary: int) -> Any:
    """The Signal in an answer, or (reason, detail) where it has none for the tokens that a student learns."""
    import numpy as np

    from datagen.contracts.signal_columns import Signal

    if answer.token_ids is None or answer.top_logprobs is None:
        return "no_logprobs", f"the answer has no token ids with top log-probs; {_HOW}"
    learned = example.tokens[example.n_prompt_tokens :]
    given = answer.prompt_token_ids
    if given is not None and given != example.tokens[: example.n_prompt_tokens]:
        return "tokens_differ", "the server read the prompt as other tokens than the student's chat template gives"
    if answer.token_ids != learned or len(answer.top_logprobs) != len(learned):
        same = [a == b for a, b in zip(answer.token_ids, learned, strict=False)]
        place = same.index(False) if False in same else len(same)
        return (
            "tokens_differ",
            f"the server drew other tokens than the student learns, from token {place} of the answer",
        )
    if not all(token.startswith(_ID) for one in answer.top_logprobs for token, _ in one):
        return "no_logprobs", f"the answer's top log-probs name texts, not ids; {_HOW}"
    pairs = [[(int(token.removeprefix(_ID)), value) for token, value in one] for one in answer.top_logprobs]
    likeliest = [sorted(one, key=lambda pair: (-pair[1], pair[0]))[:k] for one in pairs]
    if (fewest := min(map(len, likeliest), default=0)) < k:
        return "too_few_logprobs", f"{fewest} log-probs at a token, k is {k}; lower k, or {_HOW}"
    ids = np.array([[token for token, _ in one] for one in likeliest], np.int64).reshape(len(learned), k)
    if ids.max(initial=0) >= vocabulary:
        return "unknown_token", f"id {ids.max()} is beyond the tokenizer's {vocabulary} tokens; name the server's model"
    log_probs = np.array([[value for _, value in one] for one in likeliest], np.float64).reshape(len(learned), k)
    mass = np.minimum(np.logaddexp.reduce(log_probs, axis=1), 0.0)
    with np.errstate(divide="ignore"):
        log_tail = np.log(-np.expm1(mass))
    none = np.zeros(0, np.int64)
    return Signal(
        ids=ids,
        log_probs=log_probs,
        log_tail=log_tail,
        n_draws=0,
        n_drawn=np.zeros(len(learned), np.int64),
        drawn_ids=none,
        drawn_counts=none,
        drawn_log_ratios=np.zeros(0),
    )
