"""Realistic patches (RDED): the crops of real images that a trained expert knows best, put together as images.

Sun et al. On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm. 2023.
arXiv:2312.03526, section 4: of each real image several random crops are scored by the expert's cross-entropy, the best
one of each stands for it, and the best of a class fill the condensed images, `factor` x `factor` in each. Nothing is
learned. Defaults are the authors' command line for CIFAR-10 (https://github.com/LINs-lab/RDED).

Departures: the expert labels each condensed image once; the authors ask it again for every crop in training. Images are
cut as networks see them, so whitened ones after whitening.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from condense.images import Learned, Learner, Task
from datagen.contracts.params import Params


class Config(Params):
    """See arXiv:2312.03526, section 4.

    Attributes:
        factor: patches along each side of a condensed image.
        n_images: of a class that are cut, drawn at random; all where there are fewer.
        n_crops: of each image, the best of which is kept.
        soft_labels: whether the expert's logits on each condensed image go with it.
    """

    method: Literal["realistic_patches"] = "realistic_patches"
    factor: int = Field(1, ge=1)
    n_images: int = Field(300, ge=1)
    n_crops: int = Field(5, ge=1)
    soft_labels: bool = True


def realistic_patches(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`; an iteration makes the images of one class; its loss is their patches' mean.

    The expert is the first one, at the end of its training.

    Raises:
        ParamsError: `factor` is larger than an image's side, or `n_images` is too small for the images it must fill.
        DataError: a class has too few.
    """
    import torch

    from condense.images._learning import experts_of
    from datagen.contracts.errors import DataError, ParamsError

    _, _, height, width = task.images.shape
    needed = task.images_per_class * config.factor**2
    if config.factor > min(height, width):
        raise ParamsError(
            f"factor: images are {height} x {width}; give at most {min(height, width)} (got {config.factor})"
        )
    if config.n_images < needed:
        raise ParamsError(f"n_images: {needed} patches fill a class, one of each image (got {config.n_images})")
    counts = torch.bincount(task.labels, minlength=task.n_classes).tolist()
    for label, count in enumerate(counts):
        if count < needed:
            raise DataError(
                f"images: class {label} has {count}, {needed} patches fill its condensed images, one of each; add "
                f"some, or lower images_per_class={task.images_per_class} or factor={config.factor}"
            )
    experts = experts_of(task, config.method)
    return _Patchwork(config, task, experts.net, experts.at(0, experts.n_epochs).to(task.images.device))


class _Patchwork:
    """A `Learner` that fills the images of one class an iteration; those to come are 0."""

    def __init__(self, config: Config, task: Task, net: Any, theta: Any) -> None:
        import torch

        self.n_iterations = task.n_classes
        self._config, self._task, self._net, self._theta = config, task, net, theta
        n_condensed = task.n_classes * task.images_per_class
        self._pixels = task.images.new_zeros(n_condensed, *task.images.shape[1:])
        self._soft_labels = task.images.new_zeros(n_condensed, task.n_classes)
        labels = torch.arange(task.n_classes, device=task.labels.device)
        self._labels = labels.repeat_interleave(task.images_per_class)

    def step(self, iteration: int) -> float:
        """See `condense.images.Learner`; the iteration is the class."""
        import torch

        from condense.images._embedding import draw_real
        from condense.images._patches import pad, random_crops, stitch
        from datagen.contracts.seeding import derive_seed

        task, factor = self._task, self._config.factor
        height, width = task.images.shape[2:]
        seed = derive_seed(task.seed, "realistic_patches", iteration)
        generator = torch.Generator().manual_seed(derive_seed(seed, "crops"))
        with torch.no_grad():
            images = draw_real(task, iteration, self._config.n_images, seed)
            crops = torch.stack([random_crops(images, factor, generator) for _ in range(self._config.n_crops)])
            losses = torch.stack([self._loss(pad(one, height, width), iteration) for one in crops])
            least, best = losses.min(0)
            order = least.argsort(stable=True)[: task.images_per_class * factor**2]
            filled = self._labels == iteration
            self._pixels[filled] = stitch(crops[best, torch.arange(len(best))][order], factor, height, width)
            self._soft_labels[filled] = self._net(self._theta, self._pixels[filled])
        return float(least[order].mean())

    def _loss(self, images: Any, label: int) -> Any:
        return -self._net(self._theta, images).log_softmax(1)[:, label]

    def result(self) -> Learned:
        """See `condense.images.Learner`."""
        soft_labels = self._soft_labels.clone() if self._config.soft_labels else None
        return Learned(pixels=self._pixels.clone(), labels=self._labels, soft_labels=soft_labels)

    def state_dict(self) -> dict[str, Any]:
        """See `condense.images.Learner`."""
        return {"pixels": self._pixels, "soft_labels": self._soft_labels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `condense.images.Learner`."""
        self._pixels.copy_(state["pixels"])
        self._soft_labels.copy_(state["soft_labels"])
