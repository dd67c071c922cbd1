"""The augmentations that params may name, readable without torch; `condense.pixels.augmentation` does them."""

from typing import Literal

Strategy = Literal["color_crop_cutout_flip_scale_rotate", "color_crop_cutout_scale_rotate", "none"]
"""The papers' for photographs; the same without flips, for what reads from left to right; or none."""
