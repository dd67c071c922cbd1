"""Evaluate condensed images by one protocol for all: coresets of equal bytes, equal steps, paired seeds, several nets.

--condensed is a folder with a condensed set for each arm, named so, or one set. The dataset holds a StudentScore for
each student, accuracy.json what is plotted; the metrics say how each set stands and whether it was worth its making.
Each set is one draw of its method, which manifest and metrics state as `seeds_of_condensing`: intervals hold students'
seeds alone. Test images among those that are trained or chosen on are refused, but for a few (`max_shared_share`).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, checkpoint_key, code_hash
from datagen.contracts.dataset import DatasetWriter, content_hash, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.stage import PACKAGES, Run, Stage, log, main
from trainers.image_steps import Steps
from trainers.protocol import WHOLE, Cell, Config, StudentScore, check_nets, parse, scores
from trainers.students import check_before_training

if TYPE_CHECKING:
    from condense.condensed import CondensedSet
    from datagen.contracts.images import ImageSet
    from trainers.comparison import Comparison
    from trainers.protocol_bench import Bench

_CODE = Path(__file__).parents[2]
PARTS = ("train", "validation", "test")
SEEDS_OF_CONDENSING = 1  # a set is one draw of its method


def run(run: Run) -> dict[str, Any]:
    """Write the students' scores; what is done is kept, so that a run that was killed goes on."""
    check_before_training(run)
    import torch

    from condense.nets.opening import open_net
    from datagen.contracts.images import check_classes, read_images
    from trainers.image_students import check_fits
    from trainers.protocol_bench import open_bench
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
    shared = count_shared(images, run.inputs, config.max_shared_share)
    for net in config.nets:
        open_net(net, train.shape, len(train.classes), width=config.width, seed=0)
    paths = find_arms(run.inputs["condensed"], config)
    condensed = {name: _read_arm(path, train, config) for name, path in paths.items()}
    counts = {name: read_manifest(path)["bytes"] for name, path in paths.items()}
    hashes = {name: content_hash(path) for name, path in sorted(run.inputs.items()) if name != "run_metrics"}
    of_others = {name: _is_of_others(path, hashes["train"], run.inputs["train"]) for name, path in paths.items()}
    seconds = {name: condensing_seconds(name, path, run.inputs.get("run_metrics")) for name, path in paths.items()}
    bench = open_bench(config, steps, images["train"], images["validation"], images["test"], condensed)
    facts = {
        "stage": run.name,
        "section": run.params.values(),
        "inputs": hashes,
        "code": code_hash(*(_CODE / package for package in PACKAGES)),
        "torch": version("torch"),
        "device": device_type(),
    }
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        found = _compare(run, bench, counts, checkpoints.folder)
        labels: list[int] = images["test"].labels.tolist()
        stated = figures(found, config, chance=max(Counter(labels).values()) / len(labels))
        for name, entry in stated["condensed"].items():
            entry["made_of_other_images"] = of_others[name]
        stated |= {"seeds_of_condensing": SEEDS_OF_CONDENSING, "shared_images": shared}
        manifest = {
            "stage": run.name,
            "params": run.params.values(),
            "inputs": facts["inputs"],
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
        for kept in checkpoints.folder.glob("outcome-*"):
            kept.unlink()
    lengths = {"n_steps": steps.n_steps, "whole_steps": config.whole_steps}
    return with_seconds(stated, found, config, seconds) | {"rows": writer.rows, **lengths}


def _compare(run: Run, bench: "Bench", counts: Mapping[str, Mapping[str, int]], kept: Path) -> "Comparison":
    from trainers.comparison import compare

    with run.progress(None, "arms") as bar:

        def advance(cell: Cell, left: int) -> None:
            bar.advance(1, note=f"{cell.arm.name}, {cell.regime} labels, {cell.net}; {left} left")

        return compare(bench, counts, kept, advance)


def find_arms(folder: Path, config: Config) -> dict[str, Path]:
    """Name to condensed set, by name.

    Raises:
        DataError: there is none, or one has a name that a coreset or everything has.
    """
    from condense.condensed import is_condensed

    paths = [folder] if is_condensed(folder) else sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name: path for path in paths if is_condensed(path)}
    if not found:
        raise DataError(f"{folder}: holds no condensed set; give the folder with one for each arm, named so")
    taken = re.compile(rf"({'|'.join(map(re.escape, config.coresets))})-\d+|{WHOLE}")
    for name, path in found.items():
        if taken.fullmatch(name):
            raise DataError(f"{path}: {name} is what the evaluation calls an arm of its own; name the folder otherwise")
    return found


def count_shared(images: "Mapping[str, ImageSet]", paths: Mapping[str, Path], max_share: float) -> dict[str, int]:
    """Images of the smaller of two parts that are in the other byte for byte, whatever their labels.

    Args:
        images: part to its images; of equal ones the later counts as the smaller.
        paths: part to where they are, for the error.
        max_share: of the smaller part, that may be in the other; below 1, so that no part is another.

    Returns:
        `train_and_validation` and so on to the number.

    Raises:
        DataError: two parts share more.
    """
    hashes = {
        part: [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in some.pixels]
        for part, some in images.items()
    }
    found: dict[str, int] = {}
    for first, second in combinations(images, 2):
        small, large = (first, second) if len(images[first]) < len(images[second]) else (second, first)
        others = set(hashes[large])
        same = [i for i, one in enumerate(hashes[small]) if one in others]
        found[f"{first}_and_{second}"] = len(same)
        if len(same) > max_share * len(images[small]):
            raise DataError(
                f"{paths[small]}: {len(same)} of its {len(images[small])} images are in {paths[large]} too, the first "
                f"is {images[small].ids[same[0]]}; --{first} and --{second} must not share more than {max_share:.2%}: "
                "take them out of one, or raise max_shared_share where they are known duplicates"
            )
    return found


def condensing_seconds(name: str, path: Path, run_metrics: Path | None) -> float | None:
    """Seconds of making a set, those of its experts among them, from the runs' own metrics; None where they lack.

    Args:
        name: of the set; condense_images_NAME.run.json or NAME.run.json holds its seconds.
        path: of the set; its manifest says whether it had experts, of which experts.run.json holds the seconds.
        run_metrics: folder with these files, or None.
    """
    if run_metrics is None:
        return None
    wanted = [[f"condense_images_{name}", name]]
    if "experts" in read_manifest(path).get("inputs", {}):
        wanted.append(["experts"])
    total = 0.0
    for names in wanted:
        files = [file for one in names if (file := run_metrics / f"{one}.run.json").is_file()]
        if not files:
            log.warning("%s: no %s.run.json, so the seconds of making %s are not known", run_metrics, names[0], name)
            return None
        facts = json.loads(files[0].read_text())
        total += facts["cpu_seconds" if device_type() == "cpu" else "seconds"]
        total += facts.get("seconds_before_resuming", 0.0)  # of runs that were killed
    return round(total, 3)


def _is_of_others(path: Path, train: str, given: Path) -> bool:
    """Whether a set's manifest names other images than those with the hash `train`; a warning says so."""
    made_of = read_manifest(path).get("inputs", {}).get("images")
    if made_of != train:
        log.warning(
            "%s: its manifest does not say that it was made of %s, whose hash is %s, but of %s; the same images in "
            "another form have another hash", path, given, train, made_of or "nothing",
        )  # fmt: skip
    return made_of != train


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
