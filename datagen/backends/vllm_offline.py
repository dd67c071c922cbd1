"""Answers from a vLLM engine in this process: for a node with GPUs, without a server.

Source: vLLM (Kwon et al. 2023, arXiv:2309.06180) and the reference of `vllm.LLM`.

Requests are taken in blocks of fixed size. What the ledger lacks of a block is asked at once and enters it in one
transaction, so a killed run repeats at most one block. The engine is loaded for the first block that lacks anything.
Unlike `local`, a block that lacks one answer asks for that one alone: the engine makes its own batches, and promises
the same answer in another batch only where `batch_invariant` is asked for.

Runs by the interpreter of the environment that has vLLM, with this package beside it: vLLM wants other versions than
the extra `lm`.
"""

import importlib
import importlib.util
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, TextBackend
from datagen.backends.in_batches import answer_batch
from datagen.backends.models import Model, resolve_model
from datagen.backends.transformers_models import template_message
from datagen.backends.vllm_params import VllmParams, check_options
from datagen.contracts.errors import BackendError, MissingError

DEFAULT_MAX_LOGPROBS = 20  # of vllm.LLM
_CONNECTION: JsonDict = {"connection": True}
_OURS = frozenset({  # arguments of vllm.LLM that other parameters, or this module, give
    "model", "tokenizer", "dtype", "max_model_len", "max_logprobs", "logprobs_mode", "tensor_parallel_size",
    "generation_config", "hf_token",
})  # fmt: skip


class Config(VllmParams):
    """A model in this process.

    `engine_args` are more arguments of `vllm.LLM`, and part of a request's key, as `dtype`, `max_model_len` and the
    logprobs mode are. `machine_args` are those that only fit the engine to the machine
    (`vllm_params.MACHINE_OPTIONS`, such as `max_num_seqs`), and with the parallel size and the block's they are no part
    of it.
    """

    backend: Literal["vllm_offline"]
    engine_args: dict[str, Any] = Field(default_factory=dict)
    machine_args: dict[str, Any] = Field(default_factory=dict, json_schema_extra=_CONNECTION)
    tensor_parallel_size: int = Field(1, ge=1, json_schema_extra=_CONNECTION)
    block_size: int = Field(1024, ge=1, json_schema_extra=_CONNECTION)  # requests

    @field_validator("engine_args", "machine_args")
    @classmethod
    def _check_args(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        check_options(value, ours=_OURS, for_machine=info.field_name == "machine_args")
        return value


@contextmanager
def vllm_offline(config: Config, environment: Environment) -> Iterator[TextBackend]:
    """Find vLLM and the model; the engine is loaded when the ledger lacks an answer.

    Raises:
        MissingError: vLLM, the model, or batch invariance is not here.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingError(
            "backend vllm_offline needs vLLM in the Python that runs it: start datastill by the interpreter that has "
            "it (.venv-vllm/bin/python -m datagen.stages.traces, with this project on PYTHONPATH), or take vllm_server"
        )
    model = resolve_model(config.model)
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    # In this process, so that nothing is left where it is killed; with more GPUs than one, vLLM's workers watch it.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_BATCH_INVARIANT"] = "1" if config.batch_invariant else "0"  # read when vLLM is imported
    if config.batch_invariant:
        _check_batch_invariance()
    yield _Backend(config, environment, model)


def _check_batch_invariance() -> None:
    """Devices as vLLM's documentation lists them (features/batch_invariance)."""
    from vllm import envs  # pyright: ignore[reportMissingImports]  # in an environment of its own
    from vllm.platforms import current_platform as device  # pyright: ignore[reportMissingImports]

    has_device = device.is_rocm() or device.is_xpu() or (device.is_cuda() and device.has_device_capability(80))
    if not (has_device and hasattr(envs, "VLLM_BATCH_INVARIANT")):
        raise MissingError(
            f"batch_invariant: this vLLM does not offer it on {device.device_type}; it needs a GPU of compute "
            "capability 8.0, an AMD Instinct or an Intel XPU: leave batch_invariant out"
        )


class _Backend:
    """A `TextBackend`."""

    def __init__(self, config: Config, environment: Environment, model: Model) -> None:
        self.identity: Mapping[str, Any] = {
            "backend": config.backend,
            "model": model.name,
            "revision": model.revision,
            "dtype": config.dtype,
            "max_model_len": config.max_model_len,
            "logprobs": config.logprobs,
            "top_logprobs": config.top_logprobs,
            "logprobs_mode": config.logprobs_mode,
            "batch_invariant": config.batch_invariant,
            "engine_args": config.engine_args,
        }
        self._config = config
        self._environment = environment
        self._model = model
        self._engine: Any = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order, a block in memory at a time.

        Raises:
            BackendError: the engine does not load, or refuses a request's schema.
        """
        remaining = iter(requests)
        while block := list(islice(remaining, self._config.block_size)):
            keys = [request.key(self.identity) for request in block]
            wanted = dict(zip(keys, block, strict=True))
            answers = answer_batch(
                self._environment,
                wanted,
                lambda granted, wanted=wanted: self._ask({key: wanted[key] for key in granted}),
                epoch=block[0].sampling.cache_epoch,
            )
            for request, key in zip(block, keys, strict=True):
                answer, from_ledger = answers[key]
                if isinstance(answer, Completion) and not answer.text.strip():
                    answer = Failure(reason="empty_answer", detail=f"no text; finish_reason is {answer.finish_reason}")
                yield Outcome(request=request, key=key, answer=answer, from_ledger=from_ledger)

    def _ask(self, requests: Mapping[bytes, Request]) -> dict[bytes, Completion | Failure]:
        engine = self._loaded()
        prompts = {key: self._encode(engine, request) for key, request in requests.items()}
        answers: dict[bytes, Completion | Failure] = {k: p for k, p in prompts.items() if isinstance(p, Failure)}
        rows = {key: prompt for key, prompt in prompts.items() if not isinstance(prompt, Failure)}
        if not rows:
            return answers
        try:
            outputs = engine.generate(
                [{"prompt_token_ids": prompt} for prompt in rows.values()],
                [self._sampling_params(requests[key]) for key in rows],
                use_tqdm=False,
            )
        except _refusals() as error:
            if all(requests[key].response_schema is None for key in rows):
                raise
            said = " ".join(str(error).split())
            raise BackendError(f"vLLM refuses a schema: {said}; structured_output=none asks without one") from error
        completions = [self._completion(output) for output in outputs]
        self._count(completions)
        return answers | dict(zip(rows, completions, strict=True))

    def _loaded(self) -> Any:
        if self._engine is None:
            from vllm import LLM  # pyright: ignore[reportMissingImports]  # in an environment of its own

            config = self._config
            given = config.engine_args | config.machine_args
            given |= {"max_model_len": config.max_model_len} if config.max_model_len else {}
            try:
                self._engine = LLM(
                    model=str(self._model.folder),
                    dtype=config.dtype,
                    max_logprobs=max(DEFAULT_MAX_LOGPROBS, config.top_logprobs),
                    logprobs_mode=config.logprobs_mode,
                    tensor_parallel_size=config.tensor_parallel_size,
                    generation_config="vllm",  # else the model's own defaults would join what the request says
                    **given,
                )
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                said = " ".join(str(error).split())
                raise BackendError(f"vLLM does not load {config.model!r}: {said}") from error
        return self._engine

    def _encode(self, engine: Any, request: Request) -> list[int] | Failure:
        from jinja2 import TemplateError

        prompt: list[int]
        try:
            if request.prompt is not None:
                prompt = engine.get_tokenizer().encode(request.prompt, add_special_tokens=False)
            else:
                prompt = engine.get_tokenizer().apply_chat_template(
                    [template_message(message) for message in request.messages],
                    tools=json.loads(request.tools) if request.tools else None,
                    add_generation_prompt=True,
                    return_dict=False,
                )
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            return Failure(reason="chat_template", detail=f"the model's chat template refuses the messages: {error}")
        limit = engine.llm_engine.model_config.max_model_len - request.sampling.max_new_tokens
        if len(prompt) > limit:
            return Failure(reason="prompt_too_long", detail=f"{len(prompt)} tokens, at most {limit} are taken")
        return prompt or Failure(reason="empty_prompt", detail="the raw prompt has no token; give at least one")

    def _sampling_params(self, request: Request) -> Any:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]  # in an environment of its own

        sampling, form = request.sampling, {}
        if request.response_schema is not None:
            from vllm.sampling_params import StructuredOutputsParams  # pyright: ignore[reportMissingImports]

            form = {"structured_outputs": StructuredOutputsParams(json=request.response_schema)}
        if request.prompt is not None:
            form = {"skip_special_tokens": False}
        return SamplingParams(
            **form,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop),
            seed=sampling.seed,
            logprobs=self._config.top_logprobs if self._config.logprobs else None,  # beside the drawn token's
        )

    def _completion(self, output: Any) -> Completion:
        (drawn,) = output.outputs
        tokens = list(drawn.token_ids)
        logprobs = top_logprobs = None
        if drawn.logprobs is not None:
            logprobs = [_pair(position[token]) for position, token in zip(drawn.logprobs, tokens, strict=True)]
        if drawn.logprobs is not None and (n_top := self._config.top_logprobs):
            ranked = [sorted(position.values(), key=lambda one: one.rank) for position in drawn.logprobs]
            top_logprobs = [[_pair(one) for one in position[:n_top]] for position in ranked]
        return Completion(
            text=drawn.text,
            finish_reason=drawn.finish_reason,
            n_prompt_tokens=len(output.prompt_token_ids),
            n_completion_tokens=len(tokens),
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            prompt_token_ids=list(output.prompt_token_ids),
            token_ids=tokens,
        )

    def _count(self, completions: Collection[Completion]) -> None:
        count = self._environment.count
        count("batches")
        count("requests", len(completions))
        count("prompt_tokens", sum(one.n_prompt_tokens or 0 for one in completions))
        count("completion_tokens", sum(one.n_completion_tokens or 0 for one in completions))


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises where it does not take a request: an error of its own, in older versions a ValueError."""
    named = "vllm.exceptions"
    own = importlib.import_module(named) if importlib.util.find_spec(named) else None
    return ValueError, getattr(own, "VLLMClientError", ValueError)


def _pair(one: Any) -> tuple[str, float]:
    """Token and log-prob; some ids have no text."""
    return one.decoded_token or "", float(one.logprob)
