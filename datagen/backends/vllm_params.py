"""What both ways to run vLLM share: the model, how it is loaded, and which options may differ between machines."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from datagen.contracts.params import Params

# Options that fit the engine to the machine, in the words of vLLM's EngineArgs. They may change the order of a float
# sum, as another GPU does, and nothing else; so they are no part of a request's key.
MACHINE_OPTIONS = frozenset({
    "api_server_count", "async_scheduling", "block_size", "cpu_offload_gb", "cuda_graph_sizes",
    "disable_custom_all_reduce", "disable_log_requests", "disable_log_stats", "disable_uvicorn_access_log",
    "distributed_executor_backend", "download_dir", "enable_chunked_prefill", "enable_expert_parallel",
    "enable_log_requests", "enable_prefix_caching", "enforce_eager", "gpu_memory_utilization",
    "kv_cache_memory_bytes", "load_format", "max_num_batched_tokens", "max_num_partial_prefills", "max_num_seqs",
    "max_parallel_loading_workers", "num_gpu_blocks_override", "pipeline_parallel_size", "scheduling_policy",
    "swap_space", "use_tqdm_on_load", "uvicorn_log_level",
})  # fmt: skip


class VllmParams(Params):
    """The model by name, folder or hub name, and what of its loading can change an answer."""

    model: str
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0)  # at each token, with `logprobs`
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"] = "raw_logprobs"
    batch_invariant: bool = False

    @field_validator("top_logprobs")
    @classmethod
    def _check_top_logprobs(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs logprobs=true")
        return value


def check_options(names: Iterable[str], *, ours: frozenset[str], for_machine: bool) -> None:
    """Refuse options that the backend sets itself, and among the machine's those that can change an answer.

    Args:
        names: as EngineArgs spells them.
        ours: that the backend or a parameter of its own sets.
        for_machine: whether they are `machine_args`.

    Raises:
        ValueError: names them all.
    """
    names = sorted(set(names))
    if set_here := [name for name in names if name in ours]:
        raise ValueError(f"{', '.join(set_here)}: not given here, the backend or a parameter of its own sets it")
    if for_machine and (others := [name for name in names if name not in MACHINE_OPTIONS]):
        raise ValueError(
            f"{', '.join(others)}: not known to leave answers as they are, so it must be part of their keys; give it "
            "in engine_args"
        )
