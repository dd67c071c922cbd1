"""Condensed images against coresets of equal bytes: every cell by the stages themselves, judged by one protocol.

    python -m benchmarks.condensing [--images-per-class 1 10] [--methods ...] [--out FILE.json]
    python -m benchmarks.condensing --train train.npz --validation validation.npz --test test.npz --net convnet3 ...

Without files, scikit-learn's digits, in parts of another seed than the pipeline's. The settings below were chosen on
digits, in parts of seed 0; experts are trained once and shared by all methods. What is made stays in --work, so a run
that was killed goes on, and a stage that ended is not run again. The table gives the accuracy of students of each net
with its 95 % interval over seeds, and what a set is above the best coreset of as many bytes, seed by seed.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import is_dataset, write_json

PARTS = ("train", "validation", "test")
EXPERTS = ["n_trajectories=6", "epochs=20", "learning_rate=0.2", "batch_size=64"]
MATCHING = ["iterations=200", "student_steps=20", "expert_epochs=2", "optimizer=adam", "step_size=0.2",
            "step_size_learning_rate=0.02"]  # fmt: skip
METHODS: dict[str, list[str]] = {
    "trajectory_matching": [*MATCHING, "image_learning_rate=0.1"],
    "smooth_trajectory_matching": [*MATCHING, "image_learning_rate=0.1", "step_size=0.02"],
    "difficulty_aligned": [
        *MATCHING, "image_learning_rate=0.05", "label_learning_rate=0.02", "average_decay=0.95", "max_loss=2",
        "expansion_iterations=100",
    ],
    "distribution_matching": ["iterations=300"],
}  # fmt: skip
LAST_START = {1: 4, 10: 12}  # epochs of the experts before which segments start
COMMON = ["augmentation=none", "n_threads=1"]


def main(argv: Sequence[str] | None = None) -> None:
    """Condense, evaluate, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path, help="dataset of Images or .npz file; by default digits")
    parser.add_argument("--images-per-class", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--coresets", nargs="+", default=["at_random", "herding", "k_center", "k_means"])
    parser.add_argument("--net", default="convnet2", help="of experts and of the first students (default: %(default)s)")
    parser.add_argument(
        "--others", nargs="+", default=["convnet2:48", "convnet2-batch", "mlp"], help="nets of other students"
    )
    parser.add_argument("--regimes", nargs="+", default=["hard", "soft"])
    parser.add_argument("--learning-rates", nargs="+", default=["0.03", "0.1"])
    parser.add_argument("--n-steps", type=int, default=200)
    parser.add_argument("--whole-steps", type=int, default=600, help="of students of everything (default: %(default)s)")
    parser.add_argument(
        "--width", type=int, default=16, help="of nets without one in their name (default: %(default)s)"
    )
    parser.add_argument("--set-experts", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--set-methods", nargs="+", default=[], metavar="[METHOD:]KEY=VALUE")
    parser.add_argument("--set-evaluation", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=1, help="of the parts, the experts and the sets")
    parser.add_argument("--work", type=Path, default=Path(".cache/condensing"), help="folder for what is made")
    parser.add_argument("--out", type=Path, help="JSON file; cells that are not measured stay as they are in it")
    options = parser.parse_args(argv)
    cells = {str(n): measure(options, n) for n in options.images_per_class}
    if options.out:
        held = json.loads(options.out.read_text())["cells"] if options.out.exists() else {}
        asked = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
        cells = {name: {**one, "asked": asked} for name, one in cells.items()}
        write_json(options.out, {"benchmark": "condensing", "cells": held | cells})


def measure(options: argparse.Namespace, images_per_class: int) -> dict[str, Any]:
    """One cell: the metrics of evaluate_images, with its table printed."""
    work: Path = options.work
    images = {part: getattr(options, part) or work / part for part in PARTS}
    for part in PARTS:
        if images[part] == work / part:
            stage("condense.stages.images", images[part], [f"split={part}", f"seed={options.seed}"])
    experts = work / "experts"
    net = [f"net={options.net}", f"width={options.width}"]
    given = [*net, *EXPERTS, *COMMON, f"seed={options.seed}", *options.set_experts]
    stage("condense.stages.experts", experts, given, images=images["train"])
    sets = work / f"sets-{images_per_class}"
    for method in options.methods:
        start = [] if method == "distribution_matching" else [f"max_start_epoch={last_start(images_per_class)}"]
        if method == "difficulty_aligned":
            start.append(f"first_max_start_epoch={max(1, last_start(images_per_class) // 2)}")
        given = [f"method={method}", f"images_per_class={images_per_class}", *COMMON, f"seed={options.seed}",
                 *METHODS[method], *start, *settings_of(method, options.set_methods)]  # fmt: skip
        stage("condense.stages.condense_images", sets / method, given, images=images["train"], experts=experts)
    shutil.copy(work / "experts.run.json", sets)
    nets = ",".join([options.net, *options.others])
    given = [f"nets=[{nets}]", f"width={options.width}", f"coresets=[{','.join(options.coresets)}]", *COMMON,
             f"regimes=[{','.join(options.regimes)}]", f"learning_rates=[{','.join(options.learning_rates)}]",
             f"n_steps={options.n_steps}", f"whole_steps={options.whole_steps}", "batch_size=64",
             f"seed={options.seed}", *options.set_evaluation]  # fmt: skip
    out = work / f"evaluation-{images_per_class}"
    stage("trainers.stages.evaluate_images", out, given, **images, condensed=sets, run_metrics=sets)
    metrics = json.loads(metrics_of(out).read_text())
    show(metrics, images_per_class)
    return metrics


def settings_of(method: str, given: Sequence[str]) -> list[str]:
    """Those of all methods, KEY=VALUE, and those of this one, METHOD:KEY=VALUE."""
    split = [one.rpartition(":") if ":" in one.split("=")[0] else ("", "", one) for one in given]
    return [setting for name, _, setting in split if name in ("", method)]


def last_start(images_per_class: int) -> int:
    """T+ of the nearest number of images that there is one for."""
    return LAST_START[min(LAST_START, key=lambda n: abs(n - images_per_class))]


def stage(module: str, out: Path, settings: Sequence[str], **inputs: Path) -> None:
    """Run a stage in a process of its own, unless its output is there and was asked for in the same words."""
    asked = out.with_name(f"{out.name}.asked")
    said = " ".join([module, *settings, *(f"{name}={path}" for name, path in inputs.items())])
    if is_dataset(out) and asked.exists() and asked.read_text() == said:
        return
    given = [word for name, path in inputs.items() for word in (f"--{name.replace('_', '-')}", str(path))]
    command = [sys.executable, "-m", module, *given, "--out", str(out), "--metrics", str(metrics_of(out))]
    subprocess.run([*command, "--set", *settings], check=True)
    asked.write_text(said)


def metrics_of(out: Path) -> Path:
    """Beside the output; the run's own metrics are there too, for the seconds."""
    return out.with_name(f"{out.name}.json")


def show(metrics: dict[str, Any], images_per_class: int) -> None:
    """A line for each arm and regime: accuracy of each net, and for condensed sets what is above the best coreset."""
    entries = {"whole": metrics["whole"], **metrics["condensed"], **metrics["coresets"]}
    nets = list(metrics["whole"]["regimes"]["hard"])
    print(f"\n{images_per_class} a class{'':30}" + "".join(f"{net:>30}" for net in nets))
    for name, entry in entries.items():
        for regime, by_net in entry["regimes"].items():
            cells = "".join(f"{cell(by_net[net]) if net in by_net else '':>30}" for net in nets)
            print(f"{name:28}{regime:8}{entry['bytes'][regime]:>6}{cells}")


def cell(one: dict[str, Any]) -> str:
    """Accuracy with its interval; behind it the difference from the best coreset."""
    accuracy = one["accuracy"]
    said = f"{accuracy['mean']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    return said + (f" {one['over_best_coreset']['mean']:+.3f}" if "over_best_coreset" in one else "")


if __name__ == "__main__":
    main()
