"""Answers from a vLLM server of our own: started when the first answer is needed, ended with the run.

Source: vLLM (Kwon et al. 2023, arXiv:2309.06180) and the reference of `vllm serve`, of which this module knows: the
server gives 20 log-probs a token unless `--max-logprobs` says more; `--logprobs-mode` says what a log-prob is;
`return_token_ids` makes it give the ids of prompt and answer; the model's generation_config.json would change every
request's sampling unless `--generation-config vllm` keeps it out; log-probs of a prompt take memory by its length; and
batch invariance is there on some devices alone (vLLM's documentation, features/batch_invariance).

Requests go through `openai_api`. A server that ends is started again, and what it had not answered is asked again.
"""

import asyncio
import json
import logging
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp
from pydantic import Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

from datagen.backends import openai_api as client
from datagen.backends.base import Completion, Environment, Failure, TextBackend
from datagen.backends.chat_format import error_message, request_body
from datagen.backends.endpoint_params import check_extra_body
from datagen.backends.in_flight import Ask, Job, Reply
from datagen.backends.models import Model, resolve_model
from datagen.backends.vllm_params import VllmParams, check_options
from datagen.backends.vllm_process import VllmProcess, find_vllm, interpreter_of
from datagen.contracts.errors import BackendError, MissingError

DEFAULT_MAX_LOGPROBS = 20  # of `vllm serve`
PROBE_TIMEOUT_S = 300.0
_COUNTED = ("model", "messages", "tools", "prompt", "add_special_tokens")  # what /tokenize takes of a request
N_COUNT_TRIES, COUNT_AGAIN_S = 8, 1.0  # of a prompt's tokens
_CONNECTION: JsonDict = {"connection": True}
# options that other parameters, or this module, give
_OURS = frozenset({
    "model", "served_model_name", "host", "port", "uds", "dtype", "max_model_len", "max_logprobs", "logprobs_mode",
    "tensor_parallel_size", "tp", "data_parallel_size", "dp", "api_key", "hf_token",
})  # fmt: skip
_OPTION = re.compile(r"--?(?=[A-Za-z])(?:no-)?(?P<name>[^=]*)")

log = logging.getLogger(__name__)


class Config(VllmParams):
    """A model served by the vLLM that `vllm_process.find_vllm` finds.

    `engine_args` are more options of `vllm serve`, and part of a request's key, as `dtype`, `max_model_len` and the
    logprobs mode are. `machine_args` are those that only fit the server to the machine (`vllm_params.MACHINE_OPTIONS`,
    such as `--max-num-seqs`), and with both parallel sizes, the limits and attempts they are no part of it. Both may be
    one text, split as a shell would. On a CPU give `machine_args` `--no-enable-chunked-prefill --max-num-batched-tokens
    8192`: without them a seed of its own for each request ends the engine.

    `batch_invariant` asks for answers that do not depend on who shares a batch. Where `extra_body` asks for
    `prompt_logprobs`, a prompt of more than `max_prompt_logprobs_tokens` is a rejection.
    """

    backend: Literal["vllm_server"]
    choices_per_request: int = Field(1, ge=1, json_schema_extra={"unless_default": True})  # see `openai_api`
    max_prompt_logprobs_tokens: int = Field(4096, ge=1)
    engine_args: tuple[str, ...] = ()
    extra_body: dict[str, Any] = Field(default_factory=dict)
    machine_args: tuple[str, ...] = Field((), json_schema_extra=_CONNECTION)
    tensor_parallel_size: int = Field(1, ge=1, json_schema_extra=_CONNECTION)
    data_parallel_size: int = Field(1, ge=1, json_schema_extra=_CONNECTION)
    start_timeout_s: float = Field(1800.0, gt=0, json_schema_extra=_CONNECTION)
    max_restarts: int = Field(3, ge=0, json_schema_extra=_CONNECTION)  # of one run
    timeout_s: float = Field(3600.0, gt=0, json_schema_extra=_CONNECTION)  # of one attempt

    @field_validator("extra_body")
    @classmethod
    def _check_extra_body(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_extra_body(value)

    @field_validator("engine_args", "machine_args", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @field_validator("engine_args", "machine_args")
    @classmethod
    def _check_args(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        names = [found["name"].replace("-", "_") for one in value if (found := _OPTION.match(one))]
        check_options(names, ours=_OURS, for_machine=info.field_name == "machine_args")
        return value


@contextmanager
def vllm_server(config: Config, environment: Environment) -> Iterator[TextBackend]:
    """Find vLLM and the model; the server starts when the first request is not in the ledger.

    Raises:
        MissingError: vLLM, the model, or batch invariance is not here.
    """
    program = find_vllm()
    model = resolve_model(config.model)
    if config.batch_invariant:
        _check_batch_invariance(program)
    process = VllmProcess(
        _command(program, model, config), _variables(program, config), start_timeout_s=config.start_timeout_s
    )
    keeping = _Kept(process, config, environment)

    def locate() -> str:
        return f"{process.address}/v1"

    section = {
        "backend": "openai_api",
        "base_url": locate(),
        "model": model.name,
        "api_key_env": "VLLM_API_KEY",  # the server takes the key that this names
        "logprobs": config.logprobs,
        "extra_body": _extra_body(config),
        "choices_per_request": config.choices_per_request,
        "timeout_s": config.timeout_s,
        "first_byte_timeout_s": config.timeout_s,
    }

    def around(ask: Ask) -> Ask:
        return keeping.asking(_bounded(ask, process, model, config))

    try:
        with client.openai_api(
            client.Config.model_validate(section), environment, identity=_identity(config, model), around=around,
            locate=locate,
        ) as backend:  # fmt: skip
            yield backend
    finally:
        process.stop()


def _identity(config: Config, model: Model) -> dict[str, Any]:
    """All that can change an answer: no address, no device."""
    return {
        "backend": config.backend,
        "model": model.name,
        "revision": model.revision,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "logprobs": config.logprobs,
        "top_logprobs": config.top_logprobs,
        "logprobs_mode": config.logprobs_mode,
        "batch_invariant": config.batch_invariant,
        "engine_args": list(config.engine_args),
        "extra_body": config.extra_body,
    }


def _command(program: Path, model: Model, config: Config) -> list[str]:
    asked = (config.top_logprobs, config.extra_body.get("prompt_logprobs") or 0)
    options = {
        "--served-model-name": model.name,
        "--dtype": config.dtype,
        "--max-logprobs": max(DEFAULT_MAX_LOGPROBS, *asked),
        "--logprobs-mode": config.logprobs_mode,
        "--generation-config": "vllm",
        "--tensor-parallel-size": config.tensor_parallel_size,
        "--data-parallel-size": config.data_parallel_size,
    }
    if config.max_model_len:
        options["--max-model-len"] = config.max_model_len
    given = [str(word) for option in options.items() for word in option]
    return [str(program), "serve", str(model.folder), *given, *config.engine_args, *config.machine_args]


def _variables(program: Path, config: Config) -> dict[str, str]:
    """The server's environment variables; what is built while it runs needs programs of its own environment."""
    kept = {name: value for name, value in os.environ.items() if name != "VLLM_BATCH_INVARIANT"}
    path = f"{program.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    chosen = {"VLLM_BATCH_INVARIANT": "1"} if config.batch_invariant else {}
    return kept | {"PATH": path, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"} | chosen


def _extra_body(config: Config) -> dict[str, Any]:
    top = {"top_logprobs": config.top_logprobs} if config.top_logprobs else {}
    return {"return_token_ids": True} | top | config.extra_body


def _check_batch_invariance(program: Path) -> None:
    """Ask the vLLM there; devices as its documentation lists them."""
    code = (
        "from vllm.platforms import current_platform as p; import vllm.envs\n"
        "cuda = p.is_cuda() and p.has_device_capability(80)\n"
        "print(p.device_type, hasattr(vllm.envs, 'VLLM_BATCH_INVARIANT') and (cuda or p.is_rocm() or p.is_xpu()))"
    )
    try:
        done = subprocess.run(
            [interpreter_of(program), "-c", code], env=os.environ | {"VLLM_NO_USAGE_STATS": "1"}, capture_output=True,
            text=True, timeout=PROBE_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MissingError(f"{program}: did not say within {PROBE_TIMEOUT_S:g} s what device it has") from None
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    said = lines[-1] if lines else "nothing"
    if done.returncode or not said.endswith(" True"):
        raise MissingError(
            f"batch_invariant: the vLLM of {program} does not offer it here (it says: {said}); it needs a GPU of "
            "compute capability 8.0, an AMD Instinct or an Intel XPU: leave batch_invariant out"
        )


class _Kept:
    """Keeps a server running while requests need it."""

    def __init__(self, process: VllmProcess, config: Config, environment: Environment) -> None:
        self._process = process
        self._max_restarts = config.max_restarts
        self._environment = environment
        self._n_starts = 0
        self._starting = asyncio.Lock()
        self._failed: BackendError | None = None

    def asking(self, ask: Ask) -> Ask:
        """`ask`, where an attempt that the server's end broke is no attempt of the row's."""

        async def ask_running(job: Job) -> Reply:
            await self._run()
            n_starts = self._n_starts
            try:
                reply = await ask(job)
            except BackendError:
                if self._is_same(n_starts):
                    raise
                reply = 0.0
            if isinstance(reply, Completion | list) or self._is_same(n_starts):
                return reply
            job.n_failed = 0
            return 0.0

        return ask_running

    def _is_same(self, n_starts: int) -> bool:
        return n_starts == self._n_starts and self._process.is_running()

    async def _run(self) -> None:
        if self._process.is_running() and not self._starting.locked():
            return
        async with self._starting:
            while not self._process.is_running():
                if self._failed:  # another request's error ends the run
                    raise self._failed
                try:
                    await self._start()
                except BackendError as error:
                    self._failed = error
                    raise

    async def _start(self) -> None:
        if self._n_starts > self._max_restarts:
            times = f"{self._n_starts} time{'s' if self._n_starts > 1 else ''}"
            what = f"the vLLM server ended {times}, and max_restarts is {self._max_restarts}; the answers that came"
            raise BackendError(self._process.explain(f"{what} are kept: run again once that is mended"))
        if self._n_starts:
            log.warning("%s", self._process.explain("the vLLM server ended and is started again"))
        self._n_starts += 1
        self._environment.count("server_starts")
        try:
            await asyncio.to_thread(self._process.start)
        except BackendError as error:
            if self._n_starts == 1:
                raise
            log.warning("%s", error)


def _bounded(ask: Ask, process: VllmProcess, model: Model, config: Config) -> Ask:
    """`ask`, where a prompt whose log-probs are wanted is counted first: they take tokens times vocabulary."""
    if not config.extra_body.get("prompt_logprobs"):
        return ask
    limit = config.max_prompt_logprobs_tokens

    async def ask_bounded(job: Job) -> Reply:
        try:
            written = request_body(job.request, model=model.name, logprobs=False, extra_body={})
        except (ValueError, RecursionError):
            return await ask(job)  # which says why the row cannot be asked
        body: dict[str, Any] = json.loads(written)
        asked = {name: body[name] for name in _COUNTED if name in body}
        url = f"{process.address}/tokenize"
        try:
            n_tokens = await _count_tokens(url, asked, config.timeout_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            job.n_failed += 1  # begun anew where the server itself ended
            if job.n_failed < N_COUNT_TRIES:
                return COUNT_AGAIN_S
            return Failure(reason="not_counted", detail=f"{url}: {type(error).__name__}: {error}")
        if isinstance(n_tokens, Failure):
            return n_tokens
        if n_tokens > limit:
            detail = f"{n_tokens} tokens; max_prompt_logprobs_tokens is {limit}"
            return Failure(reason="prompt_too_long", detail=detail)
        return await ask(job)

    return ask_bounded


async def _count_tokens(url: str, asked: Mapping[str, Any], timeout_s: float) -> int | Failure:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=asked) as response:
        said = await response.read()
        if response.status == 200:
            return json.loads(said)["count"]
        if response.status >= 500:
            response.raise_for_status()
        return Failure(reason=f"http_{response.status}", detail=f"{url}: {error_message(said)}")
