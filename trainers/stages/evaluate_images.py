"""Evaluate condensed images by one protocol for all: coresets of equal bytes, equal steps, paired seeds, several nets.

--condensed is a folder with a condensed set for each arm, named so, or one set. The dataset holds a StudentScore for
each student, accuracy.json what is plotted; the metrics say how each set stands and whether it was worth its making.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, checkpoint_key, code_hash
from datagen.contracts.dataset import DatasetWriter, content_hash, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.stage import PACKAGES, Run, Stage, log, main
from trainers.image_steps import Steps
from trainers.protocol import WHOLE, Cell, Config, StudentScore, parse, scores
from trainers.students import check_before_training

if TYPE_CHECKING:
    from condense.condensed import CondensedSet
    from datagen.contracts.images import ImageSet
    from trainers.comparison import Comparison
    from trainers.protocol_bench import Bench

_CODE = Path(__file__).parents[2]
PARTS = ("train", "validation", "test")


def run(run: Run) -> dict[str, Any]:
    """Write the students' scores; what is done is kept, so that a run that was killed goes on."""
    check_before_training(run)
    from condense.nets.opening import open_net
    from datagen.contracts.images import check_classes, read_images
    from trainers.image_students import check_fits
    from trainers.protocol_bench import open_bench
    from trainers.protocol_figures import figures, plot_rows, with_seconds

    config, steps = run.params[Config], run.params[Steps]
    images = {part: read_images(run.inputs[part]) for part in PARTS}
    train = images["train"]
    check_classes(train, run.inputs["train"], 1)
    for part in PARTS[1:]:
        check_fits(images[part], run.inputs[part], train.classes, train.shape)
    for net in config.nets:
        open_net(net, train.shape, len(train.classes), width=config.width, seed=0)
    paths = find_arms(run.inputs["condensed"], config)
    condensed = {name: _read_arm(path, train, config) for name, path in paths.items()}
    counts = {name: read_manifest(path)["bytes"] for name, path in paths.items()}
    seconds = {name: condensing_seconds(name, path, run.inputs.get("run_metrics")) for name, path in paths.items()}
    bench = open_bench(config, steps, images["train"], images["validation"], images["test"], condensed)
    facts = {
        "stage": run.name,
        "section": run.params.values(),
        "inputs": {name: content_hash(path) for name, path in sorted(run.inputs.items()) if name != "run_metrics"},
        "code": code_hash(*(_CODE / package for package in PACKAGES)),
        "torch": version("torch"),
        "device": device_type(),
    }
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        found = _compare(run, bench, counts, checkpoints.folder)
        labels: list[int] = images["test"].labels.tolist()
        stated = figures(found, config, chance=max(Counter(labels).values()) / len(labels))
        manifest = {
            "stage": run.name,
            "params": run.params.values(),
            "inputs": facts["inputs"],
            "classes": list(train.classes),
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
    return with_seconds(stated, found, config, seconds) | {"rows": writer.rows, "n_steps": steps.n_steps}


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

    if is_condensed(folder):
        return {folder.name: folder}
    found = {path.name: path for path in sorted(folder.iterdir()) if is_condensed(path)} if folder.is_dir() else {}
    if not found:
        raise DataError(f"{folder}: holds no condensed set; give the folder with one for each arm, named so")
    taken = re.compile(rf"({'|'.join(map(re.escape, config.coresets))})-\d+|{WHOLE}")
    for name, path in found.items():
        if taken.fullmatch(name):
            raise DataError(f"{path}: {name} is what the evaluation calls an arm of its own; name the folder otherwise")
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
        total += float(json.loads(files[0].read_text())["seconds"])
    return round(total, 3)


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
