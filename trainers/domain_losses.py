"""The mean held-out loss of each domain: of a student on its way, and once of the model that it is compared with.

Source: none; what the rules of datagen/mixture ask for. Every token weighs the same, whatever its sequence.

Axes: D domains.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.contracts.dataset import write_json
from datagen.contracts.errors import DataError
from trainers import loop
from trainers.lm_rows import LearnedRow
from trainers.teachers._models import Dtype, check_tokenizer, context_of, load_frozen, load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch

log = logging.getLogger(__name__)


def losses(
    network: "torch.nn.Module", rows: Mapping[str, Sequence[LearnedRow]], max_tokens: int, layout: loop.Layout
) -> "np.ndarray":
    """(D,) float64: mean negative log-likelihood of each domain's rows in nats per token, the same in every process.

    Args:
        network: a `trainers.language_models.StudentModel`, in eval mode; of several processes each takes a part.
        rows: by domain, at least one of each.
        max_tokens: of a batch, padding included.
        layout: of batches.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    from trainers.lm_loss import RowsLoss
    from trainers.weighted import combined

    device = next(network.parameters()).device
    state = PartialState(cpu=device.type == "cpu")
    loss = RowsLoss(combined("supervised"), None, layout=layout)
    found = torch.zeros(len(rows), 2, dtype=torch.float64, device=device)
    with torch.no_grad():
        for total, mine in zip(found, rows.values(), strict=True):
            for part in filter(
                None, loop.micro_batches(mine, max_tokens, state.num_processes, layout)[state.process_index]
            ):
                one = loss(network, part, device)
                total += torch.stack([one.sum.double(), one.n.double()])
    total: Any = reduce(found, reduction="sum")
    return (total[:, 0] / total[:, 1]).cpu().numpy()


def losses_of_reference(
    name: str,
    dtype: Dtype,
    rows: Mapping[str, Sequence[LearnedRow]],
    tokenizer: Any,
    device: "torch.device",
    max_tokens: int,
    folder: Path,
) -> "np.ndarray":
    """As `losses`, of a frozen model, which is read once: `folder` keeps what it said for a run that goes on.

    Args:
        name: of the model, or its folder.
        dtype: that it computes in.
        rows: by domain.
        tokenizer: of the student.
        device: that it is read on.
        max_tokens: of a batch.
        folder: of this training's checkpoints.

    Raises:
        DataError: it has another tokenizer than the student, or fewer positions than a row has tokens.
        MissingError: it is not there.
    """
    import numpy as np
    from accelerate import PartialState

    from trainers.language_models import StudentModel

    kept = folder / "reference_losses.json"
    if kept.exists():
        said = json.loads(kept.read_text())
        return np.array([said[domain] for domain in rows])
    _, own = load_tokenizer(name)
    check_tokenizer(name, own, tokenizer)
    model = load_frozen(name, dtype, device)
    longest = max(len(row) for mine in rows.values() for row in mine)
    if longest > context_of(model.config):
        raise DataError(
            f"held-out rows have up to {longest} tokens, the context of {name!r} is shorter; lower max_tokens"
        )
    log.info("%s reads the held-out rows of %d domains, once", name, len(rows))
    found = losses(StudentModel(model), rows, max_tokens, "padded")
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, dict(zip(rows, found.tolist(), strict=True)))
    return found
