"""Steps of the optimiser, whatever the number of rows: what students of images and of graphs have in common.

Source: none; the schedule and the optimisers are those of `trainers.loop`.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers import loop

if TYPE_CHECKING:
    from trainers import graph_steps, image_steps


@dataclass(frozen=True, slots=True)
class Position:
    """Where an image or a graph stands in its set: a row of the loop, which counts one."""

    at: int

    def __len__(self) -> int:
        """One row."""
        return 1


def loop_config(
    steps: "image_steps.Steps | graph_steps.Steps", n_rows: int, learning_rate: float, seed: int, *, n_steps: int
) -> loop.Config:
    """The loop's own Config: so many epochs that there are `n_steps`, a batch in one piece, no gradient cut.

    The batches of an epoch are as equal as they can be: a step on the two rows that are left over would weigh as much
    as one on all the others of a batch.
    """
    n_batches = math.ceil(n_rows / steps.batch_size)
    batch_size = math.ceil(n_rows / n_batches)
    return loop.Config(
        epochs=math.ceil(n_steps / n_batches),
        max_steps=n_steps,
        batch_size=batch_size,
        micro_batch_tokens=batch_size,
        learning_rate=learning_rate,
        optimizer=steps.optimizer,
        momentum=steps.momentum if steps.optimizer == "sgd" else 0.0,
        weight_decay=steps.weight_decay,
        schedule=steps.schedule,
        warmup_share=steps.warmup_share,
        max_gradient_norm=None,
        precision=steps.precision,
        n_threads=steps.n_threads,
        seed=seed,
    )
