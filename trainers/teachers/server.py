"""A teacher behind a vLLM server: the likeliest tokens at each position, and the mass of all others as one.

Source: vLLM's `prompt_logprobs`. A server says no more than some log-probs; the tail is what they leave of 1. It stays
an outcome of its own, as a teacher cut to its likeliest tokens would move a student that equals it.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from datagen.backends.endpoint_params import CONNECTION, checked_url
from datagen.contracts.errors import BackendError, DataError
from datagen.contracts.params import Params
from trainers.lm_rows import LearnedRow
from trainers.model_server import Refused
from trainers.teachers._models import check_tokenizer, context_of, load_tokenizer
from trainers.teachers._prompt_log_probs import Pairs, PromptLogProbs

if TYPE_CHECKING:
    import torch

    from trainers.batches import Batch
    from trainers.signals import SparseLogProbs


class Config(Params):
    """`teacher` is the folder or hub name whose tokenizer the server has, `served_as` the model's name on the server.

    `top_logprobs` are asked for at each token; vLLM allows 20 unless started with --max-logprobs. `provider` names the
    server in the ledger, so that one that moved counts as the same. The API key is in the variable `api_key_env`.
    """

    teacher: str
    base_url: str = Field(json_schema_extra=CONNECTION)
    served_as: str
    top_logprobs: int = Field(default=20, ge=1)
    provider: str | None = None
    api_key_env: str = Field(default="OPENAI_API_KEY", json_schema_extra=CONNECTION, pattern=r"^[A-Z_][A-Z0-9_]*$")
    timeout_s: float = Field(default=600.0, gt=0, json_schema_extra=CONNECTION)

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return checked_url(value)


class ServerTeacher:
    """A `trainers.teachers.Teacher`."""

    def __init__(self, client: PromptLogProbs, identity: Mapping[str, Any], context: int, vocabulary: int) -> None:
        """Ask through `client` about a model of so many logits and positions."""
        self._client, self._vocabulary = client, vocabulary
        self.identity = identity
        self.context = context
        self._answers: dict[str, tuple[list[int], Pairs]] = {}

    def prepare(self, rows: Sequence[LearnedRow], folder: Path) -> dict[str, tuple[str, str]]:
        """Ask about every row.

        Raises:
            BackendError: the server is not there, or answers nothing at all.
        """
        refused = self._ask(rows)
        if rows and len(refused) == len(rows):
            raise BackendError(f"not one of {len(rows)} rows was scored; the first: {next(iter(refused.values()))}")
        return {id: ("not_scored", str(problem)) for id, problem in refused.items()}

    def signal(self, rows: Sequence[LearnedRow], batch: "Batch") -> "SparseLogProbs":
        """The server's log-probs; rows that are new, such as rollouts, are asked about now.

        Raises:
            DataError: the server cannot score one of them.
        """
        import torch

        from trainers.signals import SparseLogProbs

        new = [row for row in rows if self._answers.get(row.id, ([],))[0] != row.example.tokens]
        if refused := self._ask(new):
            id, problem = next(iter(refused.items()))
            raise DataError(f"row {id!r} was not scored: {problem}")
        positions = [at for row in rows for at in self._answers[row.id][1]]
        width = max(map(len, positions), default=0)
        ids = torch.zeros(len(positions), width, dtype=torch.int64)
        log_weights = torch.full((len(positions), width), -math.inf, dtype=torch.float64)
        for i, at in enumerate(positions):
            ids[i, : len(at)] = torch.tensor([id for id, _ in at])
            log_weights[i, : len(at)] = torch.tensor([value for _, value in at], dtype=torch.float64)
        held = log_weights.logsumexp(dim=-1).clamp(max=0.0)
        held[torch.tensor([len(at) >= self._vocabulary for at in positions])] = 0.0  # else rounding is left
        tail = torch.log(-torch.expm1(held))
        return SparseLogProbs(ids, log_weights, tail, vocabulary=self._vocabulary)

    def _ask(self, rows: Sequence[LearnedRow]) -> dict[str, Refused]:
        asked = [(row.example.tokens, row.example.n_prompt_tokens) for row in rows]
        refused: dict[str, Refused] = {}
        for row, answer in zip(rows, self._client.ask(asked) if asked else [], strict=True):
            if isinstance(answer, Refused):
                refused[row.id] = answer
            else:
                self._answers[row.id] = (row.example.tokens, answer)
        return refused


def server(config: Config, student_tokenizer: Any, device: "torch.device") -> ServerTeacher:
    """Name the server; the first rows show whether it is there.

    Raises:
        DataError: the teacher has another tokenizer than the student.
        MissingError: its tokenizer is not there.
        ParamsError: the key in the environment is none that a header can hold.
    """
    from transformers import AutoConfig

    found, tokenizer = load_tokenizer(config.teacher)
    check_tokenizer(config.teacher, tokenizer, student_tokenizer)
    network: Any = AutoConfig.from_pretrained(found.folder)
    positions = context_of(network)
    context = positions if positions == sys.maxsize else positions - 1  # the request draws a token behind
    client = PromptLogProbs(
        config.base_url, config.served_as, config.top_logprobs, provider=config.provider,
        api_key=_api_key(config), timeout_s=config.timeout_s,
    )  # fmt: skip
    identity = {
        "server": config.provider or config.served_as,
        "tokenizer": found.name,
        "top_logprobs": config.top_logprobs,
    }
    return ServerTeacher(client, identity, context, network.vocab_size)


def _api_key(config: Config) -> str:
    from datagen.backends.endpoint_params import Endpoint, read_api_key

    named = {"base_url": config.base_url, "model": config.served_as, "api_key_env": config.api_key_env}
    return read_api_key(Endpoint.model_validate(named))
