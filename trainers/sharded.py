"""Sharded training: weights, gradients and the optimiser's state are cut over the processes.

Zhao et al. PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel. 2023. arXiv:2304.11277; torch's second
version of it, by accelerate. A unit is a layer that transformers says is not to be split.
"""

import os
from typing import TYPE_CHECKING, Any, cast

from datagen.contracts.errors import ParamsError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


def is_wanted() -> bool:
    """`$DATASTILL_SHARD`: 1 or, by default, 0. It shows in rounding and memory alone.

    Raises:
        ParamsError: it is something else.
    """
    named = os.environ.get("DATASTILL_SHARD") or "0"
    if named not in ("0", "1"):
        raise ParamsError(f"$DATASTILL_SHARD: expected 0 or 1 (got {named!r})")
    return named == "1"


def plugin_for(model: "torch.nn.Module") -> Any:
    """What accelerate takes to shard `model`."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    whole = {name for part in model.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    found = {type(part).__name__ for part in model.modules()}
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap" if whole & found else "no_wrap",
        transformer_cls_names_to_wrap=sorted(whole & found),
        cpu_ram_efficient_loading=False,
        state_dict_type="SHARDED_STATE_DICT",
    )


def shard_on_cpu(accelerator: "Accelerator", plugin: Any) -> None:
    """Have accelerate shard on the CPU too, where gloo does what is needed: by itself it shards on GPUs alone.

    One process has nothing to share with.
    """
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    if accelerator.num_processes == 1:
        return
    for state in (PartialState._shared_state, AcceleratorState._shared_state):
        state["distributed_type"] = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin


def number_of(value: Any) -> float:
    """A number that each process may hold a part of."""
    return float(value.full_tensor() if hasattr(value, "full_tensor") else value)


def gather(model: "torch.nn.Module") -> None:
    """Give every process the whole weights, in place, to be read and written; those that are shared stay so.

    What ran through the model once more would be the parts that training left.
    """
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    from torch.distributed.tensor import DTensor  # slow to import

    whole: dict[int, torch.nn.Parameter] = {}
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            if isinstance(parameter, DTensor):
                if id(parameter) not in whole:
                    held = cast(DTensor, parameter.detach())
                    whole[id(parameter)] = torch.nn.Parameter(held.full_tensor())
                setattr(part, name, whole[id(parameter)])
