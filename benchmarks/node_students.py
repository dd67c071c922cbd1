"""FF-G2M and GLNN against their teachers and the plain MLP: node classification on Cora, Citeseer and Pubmed.

    python -m benchmarks.node_students --data FOLDER [--datasets cora ...] [--teachers gcn ...] [--out FILE.json]
    python -m benchmarks.node_students --out FILE.json    # trains nothing: averages and table of the cells that it has

FOLDER holds Planetoid's raw files, with their public split. Settings are the published ones of each data set and
teacher (param/best_parameters.json of github.com/LirongWu/FF-G2M, commit 2e07b1e), 5 seeds; GLNN takes the label weight
of FF-G2M, as that code's ablation does. `--hidden-limit` cuts the hidden layers of teacher and students where a machine
is too slow, and is then in the table. A cell is what `datastill train_node` trains with the same settings and seeds.
The table gives the mean test accuracy in percent with half its 95 % interval over seeds; CPU seconds are the process's.
Averages over cells are compared seed by seed, so that cells of another number of seeds are refused; cells of other
limits of the hidden layer are mixed, and their widths are given. A claim is shown where its interval says so.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from datagen.contracts.dataset import write_json
from datagen.contracts.errors import DataError
from datagen.contracts.node_graphs import read_node_graph
from datagen.contracts.seeding import derive_seed
from trainers.fresh_students import summary
from trainers.methods.graph.ff_g2m import Config as FfG2m
from trainers.methods.graph.ff_g2m import ff_g2m
from trainers.methods.graph.glnn import Config as Glnn
from trainers.methods.graph.glnn import glnn
from trainers.methods.graph.labels_alone import Config as LabelsAlone
from trainers.methods.graph.labels_alone import labels_alone
from trainers.node_students import Config, on_device, summarise, train_seed


class Published(NamedTuple):
    """Settings of a cell; the learning rate is 0.01, the weight decay 5e-4, the number of epochs 500 in all of them."""

    layers: int
    hidden: int
    student_dropout: float  # `dropout_t` in their file, of the MLP
    teacher_dropout: float  # `dropout_s`
    temperature: float
    label_weight: float


PUBLISHED = {
    ("cora", "gcn"): Published(3, 512, 0.6, 0.5, 1.5, 0.4),
    ("cora", "gat"): Published(3, 1024, 0.3, 0.6, 1.2, 0.5),
    ("cora", "sage"): Published(3, 512, 0.4, 0.3, 1.3, 0.5),
    ("citeseer", "gcn"): Published(2, 256, 0.5, 0.5, 1.5, 0.1),
    ("citeseer", "gat"): Published(2, 2048, 0.4, 0.5, 1.0, 0.1),
    ("citeseer", "sage"): Published(2, 1024, 0.5, 0.5, 1.2, 0.1),
    ("pubmed", "gcn"): Published(2, 1024, 0.3, 0.6, 1.5, 0.0),
    ("pubmed", "gat"): Published(2, 2048, 0.3, 0.5, 1.2, 0.0),
    ("pubmed", "sage"): Published(2, 2048, 0.6, 0.3, 1.3, 0.0),
}
COLUMNS = ("teacher", "baseline", "glnn", "ff_g2m")
PARTS = ("low", "high")
CLAIMS = {  # of the published ones: the first is above the second by more than so much
    "ff_g2m_over_glnn": ("ff_g2m", "glnn", 0.0),
    "glnn_over_baseline": ("glnn", "baseline", 0.0),
    "ff_g2m_over_teacher": ("ff_g2m", "teacher", 0.0),
    "ff_g2m_10_points_over_baseline": ("ff_g2m", "baseline", 0.1),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the table at the end, write the JSON after each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with Planetoid's raw files; without, nothing is trained")
    parser.add_argument("--datasets", nargs="+", default=["cora", "citeseer", "pubmed"])
    parser.add_argument("--teachers", nargs="+", default=["gcn", "sage", "gat"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hidden-limit", type=int, help="hidden units at most, of teacher and students")
    parser.add_argument("--parts", action="store_true", help="FF-G2M with its low or its high frequencies alone, too")
    parser.add_argument("--n-threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file; cells that are not measured stay as they are in it")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.n_threads)
    cells: dict[str, Any] = {}
    if options.out and options.out.exists():
        cells = json.loads(options.out.read_text())["cells"]
    elif options.data is None:
        parser.error("--data, or --out with a file that has cells")
    check_seeds(cells, options.seeds)
    for dataset in options.datasets if options.data else ():
        for teacher in options.teachers:
            cell = measure(options, dataset, teacher)
            cells[f"{dataset} {teacher}"] = cell
            print(f"{dataset} {teacher}: {json.dumps(cell)}", flush=True)
            write(options.out, cells)
    write(options.out, cells)
    print("\n".join(table(cells)))


def check_seeds(cells: Mapping[str, Mapping[str, Any]], seeds: int) -> None:
    """Refuse to merge what cannot be compared seed by seed, before anything is trained.

    Raises:
        DataError: a cell has another number of seeds.
    """
    if other := {name: cell["settings"]["seeds"] for name, cell in cells.items() if cell["settings"]["seeds"] != seeds}:
        raise DataError(f"--seeds is {seeds}, and there are cells of others: {other}; write to another file")


def write(out: Path | None, cells: Mapping[str, Mapping[str, Any]]) -> None:
    """The JSON, where one is wanted."""
    if out:
        write_json(out, {"benchmark": "node_students", "cells": cells, "average": average(cells)})


def measure(options: argparse.Namespace, dataset: str, teacher: str) -> dict[str, Any]:
    """A cell: its settings, test accuracies by name, epochs and seconds."""
    settings = PUBLISHED[dataset, teacher]
    hidden = min(settings.hidden, options.hidden_limit or settings.hidden)
    config = Config.model_validate(
        {
            "name": dataset, "teacher": teacher, "layers": settings.layers, "hidden": hidden,
            "teacher_dropout": settings.teacher_dropout, "student_dropout": settings.student_dropout,
            "seeds": options.seeds, "n_threads": options.n_threads,
        }
    )  # fmt: skip
    nodes = on_device(read_node_graph(options.data, dataset), config.features)
    distilled = FfG2m(label_weight=settings.label_weight, temperature=settings.temperature)
    losses: dict[str, Any] = {
        "baseline": lambda task: labels_alone(LabelsAlone(), task),
        "glnn": lambda task: glnn(Glnn(label_weight=settings.label_weight), task),
        "ff_g2m": lambda task: ff_g2m(distilled, task),
    }
    for part in PARTS if options.parts else ():
        losses[part] = lambda task, part=part: ff_g2m(distilled.model_copy(update={"parts": part}), task)
    start = time.process_time()
    seeds = [train_seed(nodes, config, losses, derive_seed(config.seed, "node", i)) for i in range(options.seeds)]
    seconds = time.process_time() - start
    return {
        "settings": {**settings._asdict(), "hidden": hidden, "seeds": options.seeds},
        "published_hidden": settings.hidden,
        **summarise([{name: one.accuracy["test"] for name, one in seed.items()} for seed in seeds]),
        "epochs": {name: [seed[name].epochs for seed in seeds] for name in seeds[0]},
        "cpu_s": round(seconds, 1),
    }


def average(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Over the cells, of the same seeds: accuracies by name, widths, differences by seed, and which claims are shown.

    The accuracy of seed i is the mean of seed i's over the cells; `differences` are those of seed i, whose intervals
    say what other seeds may give, not what other data sets may. A claim is shown where the interval's low end is above
    what it claims.
    """
    by_seed = {name: [_mean(seed) for seed in zip(*(cell[name]["by_seed"] for cell in cells.values()), strict=True)]
               for name in COLUMNS}  # fmt: skip
    differences = {
        claim: summary([one - other for one, other in zip(by_seed[first], by_seed[second], strict=True)])
        for claim, (first, second, _) in CLAIMS.items()
    }
    widths = {name: [cell["settings"]["hidden"], cell["published_hidden"]] for name, cell in cells.items()}
    return {
        "cells": len(cells),
        "hidden_and_published": widths,
        "cut_cells": sum(hidden != published for hidden, published in widths.values()),
        **{name: round(_mean(by_seed[name]), 4) for name in COLUMNS},
        "differences": differences,
        "shown": {claim: differences[claim].get("low", -1.0) > least for claim, (_, _, least) in CLAIMS.items()},
    }


def table(cells: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a cell, the averages, and the claims."""
    lines = [f"{'':16}{'hidden':>12}" + "".join(f"{name:>16}" for name in (*COLUMNS, *PARTS)) + f"{'CPU s':>10}"]
    for name, cell in cells.items():
        hidden, published = cell["settings"]["hidden"], cell["published_hidden"]
        shown = str(hidden) if hidden == published else f"{hidden} of {published}"
        accuracies = "".join(f"{_percent(cell[one]) if one in cell else '':>16}" for one in (*COLUMNS, *PARTS))
        lines.append(f"{name:16}{shown:>12}{accuracies}{cell['cpu_s']:>10}")
    found = average(cells)
    lines.append(f"{'average':28}" + "".join(f"{100 * found[name]:>16.2f}" for name in COLUMNS))
    lines.append(f"{found['cut_cells']} of {found['cells']} cells with fewer hidden units than published")
    for claim, (_, _, least) in CLAIMS.items():
        one = found["differences"][claim]
        ends = f" [{100 * one['low']:+.2f}, {100 * one['high']:+.2f}]" if "low" in one else ""
        shown = "shown" if found["shown"][claim] else "not shown"
        lines.append(f"{claim.replace('_', ' ')}: {100 * one['mean']:+.2f}{ends} against {100 * least:.0f}: {shown}")
    return lines


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(entry: Mapping[str, Any]) -> str:
    half = f" ± {50 * (entry['high'] - entry['low']):.2f}" if "low" in entry else ""
    return f"{100 * entry['mean']:.2f}{half}"


if __name__ == "__main__":
    sys.exit(main())
