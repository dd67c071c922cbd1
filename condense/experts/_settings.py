"""What every method that trains experts asks."""

from typing import Literal

from pydantic import Field

from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params


class Settings(Params):
    """Stochastic gradient descent over batches in a new order each epoch; the last batch of an epoch may be smaller.

    Defaults are those of arXiv:2203.11932's code.

    Attributes:
        learning_rate: of every step.
        batch_size: images a step.
        epochs: of each expert.
        augmentation: of every batch.
        precision: of the network's passes over a batch; parameters and their steps are float32. tf32 is CUDA's, with
            ten bits of the mantissa in products of matrices; bfloat16 has seven, under autocast. Steps of descent
            forgive that, and the differences of parameters that are matched later do not: those stay float32.
    """

    learning_rate: float = Field(0.01, gt=0)
    batch_size: int = Field(256, ge=1)
    epochs: int = Field(50, ge=1)
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
