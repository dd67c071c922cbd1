"""Answers from a transformers model on this machine's CPU or GPU.

Requests are taken in blocks of fixed size, sorted by prompt length inside a block, and cut into batches. So who shares
a batch depends on the requests alone, never on what is answered; a batch in which anything is missing runs whole and
enters the ledger in one transaction, where the answers that stand stay. An empty answer enters it too, as the model
would give it again and its batch would never be whole; whoever asked is told of a failure.

An answer with a schema is held to it while it is drawn (`guided`), and ends where nothing may follow.

Source: none; `decoding` cites how a token is drawn.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from pydantic import Field

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request
from datagen.backends.guided import Guide, Guides, UnknownSchema
from datagen.backends.in_batches import Answers, answer_batch
from datagen.backends.models import EMBEDDED, Model, resolve_model
from datagen.backends.transformers_models import device_type, end_tokens, template_message
from datagen.contracts.errors import MissingError
from datagen.contracts.params import Params

BLOCK_REQUESTS = 512


class Config(Params):
    """A model by name, folder or hub name.

    A prompt of more than `max_prompt_tokens` gets no answer, and is never cut. float32 is the faster type on CPUs
    without bfloat16 instructions, bfloat16 on GPUs.
    """

    backend: Literal["local"] = "local"
    model: str = EMBEDDED
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = Field(default=64, ge=1)
    max_prompt_tokens: int = Field(default=1024, ge=1)


@contextmanager
def local(config: Config, environment: Environment) -> Iterator["_Backend"]:
    """Load the model.

    Raises:
        MissingError: the model, torch or transformers, a chat template or the device is not there.
        ParamsError: `$DATASTILL_DEVICE` names no kind of device.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar
    except ModuleNotFoundError as error:
        raise MissingError(f"backend local needs {error.name}: `pip install 'datastill[lm]'`") from None
    device = device_type()
    model = resolve_model(config.model)
    disable_progress_bar()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model.folder)
        if not tokenizer.chat_template:
            raise MissingError(f"model {config.model!r} has no chat template; add chat_template.jinja to its folder")
        network: Any = AutoModelForCausalLM.from_pretrained(model.folder, dtype=getattr(torch, config.dtype))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise MissingError(
            f"model {config.model!r} cannot be loaded; its folder needs a tokenizer and weights beside config.json: "
            f"{' '.join(str(error).split())}"
        ) from None
    yield _Backend(config, environment, model, tokenizer, network.to(device).eval())


@dataclass(frozen=True, slots=True)
class _Row:
    request: Request
    key: bytes
    prompt: list[int]


class _Backend:
    """A `TextBackend`."""

    def __init__(self, config: Config, environment: Environment, model: Model, tokenizer: Any, network: Any) -> None:
        self.identity: Mapping[str, Any] = {
            "backend": config.backend,
            "model": model.name,
            "revision": model.revision,
            "dtype": config.dtype,
        }
        self._config = config
        self._environment = environment
        self._tokenizer = tokenizer
        self._network = network
        self._end_tokens = end_tokens(network, tokenizer)

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order, a block in memory at a time.

        Raises:
            MissingError: a request has a schema, and what holds an answer to it is not here.
        """
        remaining = iter(requests)
        while block := list(islice(remaining, BLOCK_REQUESTS)):
            keys = [request.key(self.identity) for request in block]
            answers = self._answer_block(dict(zip(keys, block, strict=True)))
            for request, key in zip(block, keys, strict=True):
                answer, from_ledger = answers[key]
                if isinstance(answer, Completion) and not answer.text.strip():
                    answer = Failure(reason="empty_answer", detail=f"no text; finish_reason is {answer.finish_reason}")
                yield Outcome(request=request, key=key, answer=answer, from_ledger=from_ledger)

    def _answer_block(self, requests: Mapping[bytes, Request]) -> Answers:
        answers: Answers = {}
        rows: list[_Row] = []
        for key, request in requests.items():
            prompt = self._encode(request)
            if isinstance(prompt, Failure):
                answers[key] = prompt, False
            else:
                rows.append(_Row(request, key, prompt))
        rows.sort(key=lambda row: len(row.prompt))
        for start in range(0, len(rows), self._config.batch_size):
            batch = rows[start : start + self._config.batch_size]
            wanted = {row.key: row.request for row in batch}
            epoch = batch[0].request.sampling.cache_epoch
            answers |= answer_batch(
                self._environment, wanted, lambda _, batch=batch: self._run_batch(batch), epoch=epoch
            )  # fmt: skip
        return answers

    def _encode(self, request: Request) -> list[int] | Failure:
        from jinja2 import TemplateError

        prompt: list[int]
        try:
            if request.prompt is not None:
                prompt = self._tokenizer.encode(request.prompt, add_special_tokens=False)
            else:
                prompt = self._tokenizer.apply_chat_template(
                    [template_message(message) for message in request.messages],
                    tools=json.loads(request.tools) if request.tools else None,
                    add_generation_prompt=True,
                    return_dict=False,
                )
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            return Failure(reason="chat_template", detail=f"the model's chat template refuses the messages: {error}")
        if not prompt:
            return Failure(reason="empty_prompt", detail="the raw prompt has no token; give at least one")
        positions = getattr(self._network.config, "max_position_embeddings", None) or sys.maxsize
        limit = min(self._config.max_prompt_tokens, positions - request.sampling.max_new_tokens)
        if len(prompt) > limit:
            return Failure(reason="prompt_too_long", detail=f"{len(prompt)} tokens, at most {limit} are taken")
        try:
            self._guide(request)
        except UnknownSchema as error:
            return Failure(reason="bad_schema", detail=f"{error}; mend it, or set structured_output=none")
        return prompt

    @cached_property
    def _guides(self) -> Guides:
        return Guides(self._tokenizer, self._end_tokens)

    def _guide(self, request: Request) -> Guide | None:
        return None if request.response_schema is None else self._guides.guide(request.response_schema)

    def _run_batch(self, rows: Sequence[_Row]) -> dict[bytes, Completion]:
        from datagen.backends.decoding import decode_batch

        def is_stopped(row: int, tokens: Sequence[int]) -> bool:
            stop = rows[row].request.sampling.stop
            return bool(stop) and _find_stop(self._text(tokens, rows[row].request), stop) is not None

        guides = [self._guide(row.request) for row in rows]
        completions = decode_batch(
            self._network,
            [row.prompt for row in rows],
            [row.request.sampling for row in rows],
            end_tokens=self._end_tokens,
            is_stopped=is_stopped,
            guides=guides,
        )
        count = self._environment.count
        count("batches")
        count("requests", len(rows))
        count("prompt_tokens", sum(len(row.prompt) for row in rows))
        count("completion_tokens", sum(len(tokens) for tokens in completions))
        drawn = zip(rows, completions, guides, strict=True)
        return {row.key: self._completion(row, tokens, guide) for row, tokens, guide in drawn}

    def _completion(self, row: _Row, tokens: Sequence[int], guide: Guide | None) -> Completion:
        text = self._text(tokens, row.request)
        stop = _find_stop(text, row.request.sampling.stop)
        is_whole = stop is not None or tokens[-1] in self._end_tokens or (guide is not None and guide.is_complete)
        finish_reason = "stop" if is_whole else "length"
        return Completion(
            text=text[:stop],
            finish_reason=finish_reason,
            n_prompt_tokens=len(row.prompt),
            n_completion_tokens=len(tokens),
        )

    def _text(self, tokens: Sequence[int], request: Request) -> str:
        if request.prompt is None:
            return self._tokenizer.decode(tokens, skip_special_tokens=True)
        said = tokens[:-1] if tokens[-1] in self._end_tokens else tokens
        return self._tokenizer.decode(said, skip_special_tokens=False)


def _find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string begins."""
    return min((text.index(one) for one in stop if one in text), default=None)
