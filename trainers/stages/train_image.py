"""Train students of images: fresh nets learn from a condensed set or from real images, one for each seed.

--images is what condense_images wrote, a dataset of Images, or an .npz file with `image` and `label`; the students are
judged on --test, transformed as the images were.
"""

from typing import Any

from datagen.contracts.stage import Run, Stage, main
from trainers.image_students import Config, parse
from trainers.students import check_before_training, train_once


def run(run: Run) -> dict[str, Any]:
    """Write the students' weights; go on from a checkpoint where an earlier run was killed."""
    check_before_training(run)
    from condense.nets.opening import parse_net

    parse_net(run.params[Config].net)
    return train_once(run, "trainers.image_students:fit", "fresh")


STAGE = Stage(
    name="train_image",
    parse=parse,
    inputs={
        "images": "condensed set, dataset of Images or .npz file to learn from",
        "test": "dataset of Images or .npz file that the students are judged on",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
