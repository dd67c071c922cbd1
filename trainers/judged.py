"""A judge of a network that is being trained: which weights it found best, and when training them is enough.

Its answers are in the records of the steps, so that a run that was killed finds in its checkpoint whatever it needs to
go on; the best weights lie beside the checkpoints.

Source: none; early stopping as Prechelt, Early Stopping - But When? 1998, defines it by strips without progress.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import DataError

if TYPE_CHECKING:  # a stage reads the loop's Config without torch
    import torch
    from accelerate import Accelerator


def best(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The step, from 1, of the lowest `judged`, the first of equal ones; None where there is none."""
    asked = [(record["judged"], record["step"]) for record in records if "judged" in record]
    return min(asked)[1] if asked else None


def is_enough(records: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` judgements found nothing better than one before them."""
    if patience is None:
        return False
    asked = [record["step"] for record in records if "judged" in record]
    at = best(records)
    return at is not None and len(asked) - 1 - asked.index(at) >= patience


@contextlib.contextmanager
def at_rest(network: "torch.nn.Module") -> Generator[None]:
    """Without gradients, in eval mode; each part in the mode that it was in afterwards."""
    import torch

    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def ask(
    accelerator: "Accelerator",
    network: "torch.nn.Module",
    model: "torch.nn.Module",
    judge: "Callable[[torch.nn.Module], float]",
    step: int,
) -> float:
    """What the first process's judge says of `model`, which `network` wraps.

    Raises:
        DataError: it is no finite number.
    """
    import torch

    with at_rest(network):
        told = torch.tensor(judge(model), dtype=torch.float64, device=accelerator.device)
    if accelerator.num_processes > 1:
        torch.distributed.broadcast(told, src=0)
    if not math.isfinite(value := told.item()):
        raise DataError(f"step {step + 1}: the judge says {value} of the network; lower learning_rate, or look there")
    return value


def keep(accelerator: "Accelerator", network: "torch.nn.Module", checkpoints: Checkpoints, step: int) -> None:
    """Write the weights after a step, complete before they have their name."""
    import torch

    weights = accelerator.get_state_dict(network)
    if accelerator.is_main_process:
        checkpoints.folder.mkdir(parents=True, exist_ok=True)
        writing = checkpoints.folder / "best-writing.pt"
        torch.save(weights, writing)
        writing.rename(checkpoints.best(step))
    accelerator.wait_for_everyone()


def restore(model: "torch.nn.Module", checkpoints: Checkpoints, step: int) -> None:
    """Give `model` the weights that `keep` wrote after a step."""
    import torch

    weights: Mapping[str, torch.Tensor] = torch.load(checkpoints.best(step), map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
