"""What every method that trains experts asks."""

from pydantic import Field

from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params


class Settings(Params):
    """Stochastic gradient descent over batches in a new order each epoch; the last batch of an epoch may be smaller.

    Defaults are those of arXiv:2203.11932's code.
    """

    learning_rate: float = Field(0.01, gt=0)
    batch_size: int = Field(256, ge=1)
    epochs: int = Field(50, ge=1)
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"
