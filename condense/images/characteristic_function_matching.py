"""Characteristic function matching (NCFM): embeddings of condensed images are distributed as the real ones' are.

Wang et al. Dataset Distillation with Neural Characteristic Function: A Minmax Perspective. 2025. arXiv:2502.20653,
section 3: in place of means, as in distribution matching, whole distributions are compared, by their characteristic
functions at random frequencies. The network of an iteration lies on the straight line between the first and the last
parameters of one expert; to the distance comes the cross-entropy of the trained expert on the condensed images.
Defaults are the authors' settings for CIFAR-10 (https://github.com/gszfwsb/NCFM), where these say nothing else.

Departures: frequencies are drawn from a normal distribution, as in those settings, and no network is trained to choose
them; an image holds one image, not four smaller ones; the classes are updated together, with Adam at one rate, without
weight decay and without cutting pixels to what can be shown. Their rate is 0.001 for pixels in [0, 1]; ours is for
pixels of standard deviation 1, four times as wide on CIFAR-10.
"""

from typing import Any, Literal

from pydantic import Field

from condense.images import Learner, Task
from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params

DISTANCE_SCALE = 300.0  # of the authors' code, beside the cross-entropy


class Config(Params):
    """See arXiv:2502.20653, section 3.

    Attributes:
        iterations: updates of the condensed set.
        batch_size: real images of a class in an iteration.
        n_frequencies: at which the characteristic functions are compared, drawn anew for each class and iteration.
        amplitude_weight: of the difference in amplitude, which makes images diverse.
        phase_weight: of the difference in phase, which makes them realistic.
        calibration_weight: of the trained expert's cross-entropy; 0 leaves it out.
        optimizer: of the condensed set: adam, or sgd with momentum 0.5.
        image_learning_rate: for the pixels.
        augmentation: of real and condensed images, with the same draws for both.
    """

    method: Literal["characteristic_function_matching"] = "characteristic_function_matching"
    iterations: int = Field(20000, ge=1)
    batch_size: int = Field(1024, ge=1)
    n_frequencies: int = Field(4096, ge=1)
    amplitude_weight: float = Field(0.5, ge=0)
    phase_weight: float = Field(0.5, ge=0)
    calibration_weight: float = Field(1.0, ge=0)
    optimizer: Literal["sgd", "adam"] = "adam"
    image_learning_rate: float = Field(0.004, gt=0)
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"


def characteristic_function_matching(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`; starts from real images drawn at random.

    The loss is the sum over the classes.
    """
    import torch
    import torch.nn.functional as F

    from condense.images._characteristic import characteristic_distance
    from condense.images._embedding import augment_alike, draw_real, match_classes
    from condense.images._learning import MatchingLearner, Variables, at_random, experts_of, real_images
    from datagen.contracts.seeding import derive_seed

    experts = experts_of(task, config.method)
    pixels, labels = real_images(task, at_random(task))
    variables = Variables({"pixels": pixels}, {"pixels": config.image_learning_rate}, config.optimizer)
    net, device = experts.net, pixels.device

    def gradients(iteration: int) -> tuple[Any, dict[str, Any]]:
        seed = derive_seed(task.seed, "characteristic_function_matching", iteration)
        draw = torch.Generator().manual_seed(derive_seed(seed, "net"))
        expert = int(torch.randint(len(experts), (), generator=draw))
        first, trained = (experts.at(expert, epoch).to(device) for epoch in (0, experts.n_epochs))
        theta = torch.lerp(first, trained, float(torch.rand((), generator=draw)))

        def loss(label: int, condensed: torch.Tensor) -> torch.Tensor:
            drawn = derive_seed(seed, "augmentation", label)
            condensed = augment_alike(condensed, config.augmentation, drawn)
            with torch.no_grad():
                batch = draw_real(task, label, config.batch_size, seed)
                real = F.normalize(net.features(theta, augment_alike(batch, config.augmentation, drawn)), dim=1)
            generator = torch.Generator().manual_seed(derive_seed(seed, "frequencies", label))
            frequencies = torch.randn(config.n_frequencies, real.shape[1], generator=generator).to(device)
            value = DISTANCE_SCALE * characteristic_distance(
                real, F.normalize(net.features(theta, condensed), dim=1), frequencies,
                amplitude_weight=config.amplitude_weight, phase_weight=config.phase_weight,
            )  # fmt: skip
            if config.calibration_weight:
                targets = torch.full((len(condensed),), label, device=device)
                value = value + config.calibration_weight * F.cross_entropy(net(trained, condensed), targets)
            return value

        total, gradient = match_classes(variables["pixels"], labels, loss)
        return total, {"pixels": gradient}

    return MatchingLearner(variables, labels, config.iterations, gradients)
