"""Distribution matching (DM): embeddings of condensed images have the mean of the real ones', in untrained networks.

Zhao, Bilen. Dataset Condensation with Distribution Matching. 2021. arXiv:2110.04181, equation 5 and algorithm 1: in
each iteration a network with new random weights, and for each class the squared distance between the mean embeddings
of a real batch and of the condensed images, both augmented alike. Needs no experts. Defaults are the authors' command
line (https://github.com/VICO-UoE/DatasetCondensation).

Departure: networks with batch normalisation, for which the authors embed all classes at once, are refused.
"""

from typing import Any, Literal

from pydantic import Field

from condense.images import Learner, Task
from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params


class Config(Params):
    """See arXiv:2110.04181, section 4.1.

    Attributes:
        iterations: updates of the condensed set, each with a network of its own.
        batch_size: real images of a class in an iteration.
        optimizer: of the condensed set: sgd with momentum 0.5, or adam.
        image_learning_rate: for the pixels.
        augmentation: of real and condensed images, with the same draws for both.
    """

    method: Literal["distribution_matching"] = "distribution_matching"
    iterations: int = Field(20000, ge=1)
    batch_size: int = Field(256, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    image_learning_rate: float = Field(1.0, gt=0)
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"


def distribution_matching(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`; starts from real images drawn at random.

    The loss is the sum over the classes.

    Raises:
        ParamsError: the network has batch normalisation.
    """
    import torch

    from condense.images._embedding import augment_alike, draw_real, match_classes, squared_mean_distance
    from condense.images._learning import MatchingLearner, Variables, at_random, real_images
    from condense.nets.flat import FlatNet
    from condense.nets.opening import open_net
    from datagen.contracts.seeding import derive_seed

    def network(seed: int) -> FlatNet:
        shape = (task.images.shape[1], task.images.shape[2], task.images.shape[3])
        return FlatNet(open_net(task.net, shape, task.n_classes, width=task.width, seed=seed))

    network(task.seed)  # refused before the first iteration
    pixels, labels = real_images(task, at_random(task))
    variables = Variables({"pixels": pixels}, {"pixels": config.image_learning_rate}, config.optimizer)

    def gradients(iteration: int) -> tuple[Any, dict[str, Any]]:
        seed = derive_seed(task.seed, "distribution_matching", iteration)
        net = network(derive_seed(seed, "net"))
        theta = net.initial().to(pixels.device)

        def distance(label: int, condensed: torch.Tensor) -> torch.Tensor:
            drawn = derive_seed(seed, "augmentation", label)
            with torch.no_grad():
                batch = draw_real(task, label, config.batch_size, seed)
                real = net.features(theta, augment_alike(batch, config.augmentation, drawn))
            condensed = net.features(theta, augment_alike(condensed, config.augmentation, drawn))
            return squared_mean_distance(real, condensed)

        total, gradient = match_classes(variables["pixels"], labels, distance)
        return total, {"pixels": gradient}

    return MatchingLearner(variables, labels, config.iterations, gradients)
