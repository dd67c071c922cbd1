"""AST taken apart: its condensed set without each of its parts, and from experts without each of theirs.

    python -m benchmarks.smooth_matching [--images-per-class 1 10] [--out FILE.json]

On scikit-learn's digits, in the parts and by the protocol of `benchmarks.condensing`. Arms are named after what they
lack: `all` has everything, `no_parts` is trajectory matching on smooth experts, `plain` is all of it on plain experts,
and `matching` is trajectory matching on those. What stays in --work is not made again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.condensing import COMMON, EXPERTS, METHODS, PARTS, last_start, metrics_of, show, stage
from datagen.contracts.dataset import write_json

NET = ["net=convnet2", "width=16"]
SMOOTH = ["method=smooth", "learning_rate=0.02"]  # with momentum 0.9 as far as the plain experts' rate without
EXPERTS_WITHOUT: dict[str, list[str]] = {
    "all": [],
    "no_loss_ramp": ["ramp_start=1"],
    "no_gradient_penalty": ["gradient_penalty=0"],
    "no_expert_momentum": ["momentum=0", "learning_rate=0.2"],
    "no_rate_drop": ["rate_drop=1"],
}
PARTS_WITHOUT: dict[str, list[str]] = {
    "no_initialisation": ["initial=at_random"],
    "no_inner_momentum": ["inner_momentum=0", "step_size=0.2"],
    "no_balance": ["balanced_loss=false"],
    "no_intermediate": ["intermediate=none"],
    "no_perturbation": ["perturbation=0"],
}
SMOOTH_MATCHING, MATCHING = "smooth_trajectory_matching", "trajectory_matching"


def main(argv: Sequence[str] | None = None) -> None:
    """Condense every arm, evaluate all at once, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images-per-class", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seed", type=int, default=1, help="of the parts, the experts and the sets")
    parser.add_argument("--work", type=Path, default=Path(".cache/smooth_matching"), help="folder for what is made")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    cells = {str(n): measure(options.work, options.seed, n) for n in options.images_per_class}
    if options.out:
        write_json(options.out, {"benchmark": "smooth_matching", "cells": cells})


def measure(work: Path, seed: int, images_per_class: int) -> dict[str, Any]:
    """One number of images a class: the metrics of evaluate_images."""
    images = {part: work / part for part in PARTS}
    for part, path in images.items():
        stage("condense.stages.images", path, [f"split={part}", f"seed={seed}"])
    common = [*COMMON, f"seed={seed}"]
    experts = {"plain": work / "experts-plain"}
    stage("condense.stages.experts", experts["plain"], [*NET, *EXPERTS, *common], images=images["train"])
    for name, without in EXPERTS_WITHOUT.items():
        experts[name] = work / f"experts-{name}"
        given = [*NET, *EXPERTS, *common, *SMOOTH, *without]
        stage("condense.stages.experts", experts[name], given, images=images["train"])

    sets = work / f"sets-{images_per_class}"
    arms = {
        "matching": (MATCHING, "plain", []),
        "plain": (SMOOTH_MATCHING, "plain", []),
        "no_parts": (MATCHING, "all", []),
        **{name: (SMOOTH_MATCHING, name, []) for name in EXPERTS_WITHOUT},
        **{name: (SMOOTH_MATCHING, "all", without) for name, without in PARTS_WITHOUT.items()},
    }
    for name, (method, of, without) in arms.items():
        given = [f"method={method}", f"images_per_class={images_per_class}", *COMMON, f"seed={seed}", *METHODS[method],
                 f"max_start_epoch={last_start(images_per_class)}", *without]  # fmt: skip
        stage("condense.stages.condense_images", sets / name, given, images=images["train"], experts=experts[of])
    given = ["nets=[convnet2,convnet2-batch,mlp]", "width=16", "coresets=[at_random,k_means]", "regimes=[hard]",
             "learning_rates=[0.03,0.1]", "multiples=[]", "n_steps=200", "whole_steps=600", "batch_size=64", *COMMON,
             f"seed={seed}"]  # fmt: skip
    out = work / f"evaluation-{images_per_class}"
    stage("trainers.stages.evaluate_images", out, given, **images, condensed=sets)
    metrics = json.loads(metrics_of(out).read_text())
    show(metrics, images_per_class)
    return metrics


if __name__ == "__main__":
    main()
