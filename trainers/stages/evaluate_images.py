"""Evaluate condensed images by one protocol for all: coresets of equal bytes, equal steps, paired seeds, several nets.

--condensed is a folder with a condensed set for each arm, named so, or one set. The dataset holds a StudentScore for
each student, accuracy.json what is plotted; the metrics say how each set stands and whether it was worth its making.
Each set is one draw of its method, which manifest and metrics state as `seeds_of_condensing`: intervals hold students'
seeds alone. Test images among those that are trained or chosen on are refused, but for a few (`max_shared_share`).
"""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, checkpoint_key
from datagen.contracts.dataset import DatasetWriter, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.licences import made_of
from datagen.contracts.stage import Run, Stage, main
from trainers.image_protocol import Config, StudentScore, check_nets, parse, scores
from trainers.image_steps import Steps
from trainers.students import check_before_training

if TYPE_CHECKING:
    from condense.condensed import CondensedSet
    from datagen.contracts.images import ImageSet

PARTS = ("train", "validation", "test")
SEEDS_OF_CONDENSING = 1  # a set is one draw of its method


def run(run: Run) -> dict[str, Any]:
    """Write the students' scores; what is done is kept, so that a run that was killed goes on."""
    check_before_training(run)
    import torch

    from condense.condensed import is_condensed
    from condense.nets.opening import open_net
    from datagen.contracts.images import check_classes, read_images
    from trainers import image_bench
    from trainers.evaluated import (
        add_joules,
        compare_shown,
        condensing_joules,
        condensing_seconds,
        count_shared,
        facts_of,
        find_arms,
        hashes_of,
        is_of_others,
    )
    from trainers.image_students import check_fits
    from trainers.protocol_figures import figures, plot_rows, with_seconds

    config, steps = run.params[Config], run.params[Steps]
    if device_type() == "cpu":  # a teacher's logits are computed here, even where workers or an earlier run trained it
        torch.set_num_threads(steps.n_threads)
    check_nets(config.nets)
    images = {part: read_images(run.inputs[part]) for part in PARTS}
    train = images["train"]
    check_classes(train, run.inputs["train"], 1)
    for part in PARTS[1:]:
        check_fits(images[part], run.inputs[part], train.classes, train.shape)
    hashes = {part: hashes_of(one.pixels) for part, one in images.items()}
    ids = {part: one.ids for part, one in images.items()}
    shared = count_shared(hashes, ids, run.inputs, config.max_shared_share, "images")
    for net in config.nets:
        open_net(net, train.shape, len(train.classes), width=config.width, seed=0)
    paths = find_arms(run.inputs["condensed"], config.coresets, is_condensed)
    condensed = {name: _read_arm(path, train, config) for name, path in paths.items()}
    counts = {name: read_manifest(path)["bytes"] for name, path in paths.items()}
    facts = facts_of(run, ("torch",))
    of_others = {name: is_of_others(path, facts["inputs"], run.inputs, "images") for name, path in paths.items()}
    times = run.inputs.get("run_metrics")
    seconds = {name: condensing_seconds(name, path, times, "condense_images") for name, path in paths.items()}
    joules = {name: condensing_joules(name, path, times, "condense_images") for name, path in paths.items()}
    bench = image_bench.open_bench(config, steps, images["train"], images["validation"], images["test"], condensed)
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        found = compare_shown(run, bench, counts, checkpoints.folder, image_bench)
        labels: list[int] = images["test"].labels.tolist()
        stated = figures(found, config, chance=max(Counter(labels).values()) / len(labels))
        for name, entry in stated["condensed"].items():
            entry["made_of_other_images"] = of_others[name]
        stated |= {"seeds_of_condensing": SEEDS_OF_CONDENSING, "shared_images": shared}
        manifest = {
            "stage": run.name,
            "params": run.params.values(),
            **made_of({name: path for name, path in run.inputs.items() if name != "run_metrics"}),
            "classes": list(train.classes),
            "seeds_of_condensing": SEEDS_OF_CONDENSING,
            "figures": stated,
        }
        with DatasetWriter(run.out, StudentScore, manifest) as writer:
            for outcome in found.outcomes.values():
                for score in scores(outcome):
                    writer.read()
                    writer.write(score)
            writer.attach("accuracy.json", json.dumps(plot_rows(stated), indent=1) + "\n")
        checkpoints.clear()
    lengths = {"n_steps": steps.n_steps, "whole_steps": config.whole_steps}
    timed = with_seconds(stated, found, config, seconds)
    add_joules(timed["condensed"], joules)
    return timed | {"rows": writer.rows, **lengths}


def _read_arm(path: Path, train: "ImageSet", config: Config) -> "CondensedSet":
    from condense.condensed import read_condensed

    condensed = read_condensed(path)
    if list(condensed.classes) != list(train.classes) or condensed.pixels.shape[1:] != train.shape:
        raise DataError(
            f"{path}: has classes {', '.join(condensed.classes)} and shape {condensed.pixels.shape[1:]}, the training "
            f"images {', '.join(train.classes)} and {train.shape}; condense these"
        )
    if config.regimes == ["soft"] and condensed.soft_labels is None:
        raise DataError(f"{path}: has no soft labels; name another of the regimes, such as hard")
    return condensed


STAGE = Stage(
    name="evaluate_images",
    parse=parse,
    inputs={
        "train": "images that were condensed: a dataset of Images or an .npz file",
        "validation": "images that learning rates are chosen on",
        "test": "images that students are judged on",
        "condensed": "folder with a condensed set for each arm, named so, or one set",
    },
    run=run,
    optional_inputs={"run_metrics": "folder of the metrics of their making, for the verdict: was it worth it?"},
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
