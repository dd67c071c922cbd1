"""Steps of the optimiser, whatever the number of rows: what students of images and of graphs have in common.

Source: none; the schedule and the optimisers are those of `trainers.loop`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from datagen.contracts.params import Params
from trainers import loop


class RowSteps(Params):
    """What a student's training on images or graphs is told; each of the two has defaults of its own.

    Attributes:
        batch_size: rows a step; all of them where there are fewer.
        optimizer: sgd; adam, its weight decay a part of the gradient; or adamw, its weight decay beside it.
        momentum: of sgd.
        weight_decay: of any; of sgd a part of the gradient.
        schedule: as the loop's.
        warmup_share: likewise.
        precision: likewise.
        n_threads: on the CPU, where rounding depends on it.
        seed: of initial weights, order and noise.
    """

    batch_size: int = Field(256, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    schedule: loop.Schedule = "constant"
    warmup_share: float = Field(0.0, ge=0, le=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    n_threads: int = Field(2, ge=1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Where an image or a graph stands in its set: a row of the loop, which counts one."""

    at: int

    def __len__(self) -> int:
        """One row."""
        return 1


def loop_config(steps: RowSteps, n_rows: int, learning_rate: float, seed: int, *, n_steps: int) -> loop.Config:
    """The loop's own Config: so many epochs that there are `n_steps`, a batch in one piece, no gradient cut.

    The batches of an epoch are as equal as they can be: a step on the two rows that are left over would weigh as much
    as one on all the others of a batch.
    """
    n_batches = math.ceil(n_rows / steps.batch_size)
    batch_size = math.ceil(n_rows / n_batches)
    return loop.Config(
        epochs=math.ceil(n_steps / n_batches),
        steps=n_steps,
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
        non_finite="go_on",  # who trains such students says what one that diverged means
    )
