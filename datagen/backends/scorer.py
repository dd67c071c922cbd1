"""One tokenizer and one scoring model for every teacher's answers: tokens, and how surprising they are.

Lengths by each teacher's own tokenizer cannot be compared, nor can perplexities under different models. The perplexity
filter is that of DeepDistill (arXiv:2504.17565). Where the paper is silent: an answer is scored after its prompt in the
scoring model's chat template, as a student would be trained on it; the tokens of the answer count, not those of the
prompt nor the end of the turn. Reasoning, answer and tool calls are one text, an empty line between them.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.transformers_models import device_type, template_message
from datagen.contracts.errors import MissingError
from datagen.contracts.params import Params
from datagen.contracts.records import Trace


class Config(Params):
    """The scoring model by name, folder or hub name.

    A prompt and answer of more than `max_tokens` together are not scored, and never cut; a batch holds `batch_tokens`
    at most, padding included, or one answer.
    """

    model: str = EMBEDDED
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_tokens: int = Field(default=4096, ge=1)
    batch_tokens: int = Field(default=1024, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An answer's tokens; `nll` is their negative log-likelihood in nats, None where `not_scored` says why."""

    tokens: list[int]
    nll: float | None = None
    not_scored: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    position: int
    prompt: list[int]
    answer: list[int]


class Scorer:
    """The loaded model; `identity` says which, for manifests."""

    def __init__(self, config: Config) -> None:
        """Load it.

        Raises:
            MissingError: the model, torch or transformers, a chat template or the device is not there.
        """
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from transformers.utils.logging import disable_progress_bar
        except ModuleNotFoundError as error:
            raise MissingError(f"the scoring model needs {error.name}: `pip install 'datastill[lm]'`") from None
        self._config = config
        self._device = device_type()
        model = resolve_model(config.model)
        disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model.folder)
            network: Any = AutoModelForCausalLM.from_pretrained(model.folder, dtype=getattr(torch, config.dtype))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise MissingError(
                f"model {config.model!r} cannot be loaded; its folder needs a tokenizer and weights beside config.json:"
                f" {' '.join(str(error).split())}"
            ) from None
        if not self._tokenizer.chat_template:
            raise MissingError(f"model {config.model!r} has no chat template; add chat_template.jinja to its folder")
        self._network = network.to(self._device).eval()
        self.identity: Mapping[str, Any] = {"model": model.name, "revision": model.revision, "dtype": config.dtype}

    def score(self, traces: Sequence[Trace]) -> list[Score]:
        """Tokens and negative log-likelihood of each trace's answer, in order."""
        scores: list[Score] = []
        rows: list[_Row] = []
        for position, trace in enumerate(traces):
            answer: list[int] = self._tokenizer(answer_text(trace), add_special_tokens=False).input_ids
            prompt = self._prompt(trace)
            reason = prompt if isinstance(prompt, str) else self._obstacle(len(prompt), len(answer))
            scores.append(Score(tokens=answer, not_scored=reason))
            if not isinstance(prompt, str) and reason is None:
                rows.append(_Row(position, prompt, answer))
        for batch in self._batches(rows):
            for row, nll in zip(batch, self._nll(batch), strict=True):
                scores[row.position] = Score(tokens=row.answer, nll=nll)
        return scores

    def _prompt(self, trace: Trace) -> list[int] | str:
        """The prompt's tokens, or why there are none."""
        from jinja2 import TemplateError

        if not trace.prompt.messages:
            return "no_prompt"
        try:
            return self._tokenizer.apply_chat_template(
                [template_message(message) for message in trace.prompt.messages],
                tools=json.loads(trace.prompt.tools) if trace.prompt.tools else None,
                add_generation_prompt=True,
                return_dict=False,
            )
        except (TemplateError, TypeError, ValueError, RecursionError):
            return "chat_template"

    def _obstacle(self, n_prompt: int, n_answer: int) -> str | None:
        positions = getattr(self._network.config, "max_position_embeddings", None) or sys.maxsize
        if not n_answer:
            return "empty"
        return "too_long" if n_prompt + n_answer > min(self._config.max_tokens, positions) else None

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        batch: list[_Row] = []
        for row in sorted(rows, key=lambda row: len(row.prompt) + len(row.answer)):
            if batch and (len(batch) + 1) * (len(row.prompt) + len(row.answer)) > self._config.batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _nll(self, batch: Sequence[_Row]) -> list[float]:
        """Rows end together, padded on the left, so that logits are needed for the last positions alone."""
        import torch

        width = max(len(row.prompt) + len(row.answer) for row in batch)
        n_kept = max(len(row.answer) for row in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        counted = torch.zeros((len(batch), n_kept), dtype=torch.bool)
        for i, row in enumerate(batch):
            tokens = row.prompt + row.answer
            ids[i, width - len(tokens) :] = torch.tensor(tokens)
            mask[i, width - len(tokens) :] = 1
            counted[i, n_kept - len(row.answer) :] = True
        ids, mask, counted = (tensor.to(self._device) for tensor in (ids, mask, counted))
        with torch.inference_mode():
            logits = self._network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                logits_to_keep=n_kept + 1,
                use_cache=False,
            ).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits[counted].float(), ids[:, -n_kept:][counted], reduction="none"
            )
        per_row = losses.double().split([len(row.answer) for row in batch])
        return [float(one.sum()) for one in per_row]


def answer_text(trace: Trace) -> str:
    """All that the teacher said: reasoning, answer and tool calls."""
    return "\n\n".join(part for part in (trace.reasoning, trace.completion, trace.tool_calls) if part)
