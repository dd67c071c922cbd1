"""Condensed graphs against coresets of equal bytes: every cell by the stages themselves, judged by one protocol.

    python -m benchmarks.graphs [--data FOLDER] [--sets molbace NCI1 ...] [--bytes 6000] [--out FILE.json]
    python -m benchmarks.graphs --sets --out FILE.json    # trains nothing: the tables of the cells that it has

FOLDER holds tu/NAME, text files of the TU collection, and ogbmol/ogbg_NAME, OGB's raw files; molbace is in the
repository. What is not there is left out, and said. Parts of a TU set, which has none of its own, are drawn by --seed.
Continuous features of nodes are left out, and nodes without labels get their degree. Variants of Mirage get the same
byte budget, from which their thresholds follow:

    paper  all frequent sets of trees, drawn once with replacement, in proportion to their support
    ours   closed sets of trees alone, each weighted by its support, trees exact for a GCN too

What is made stays in --work, so a run that was killed goes on, and a stage that ended is not run again. The table gives
the score of students of each net, on the test graphs, with its 95 % interval over seeds; what a condensed set is above
the best coreset of as many bytes, seed by seed; and of how many nets its interval is apart from those of at_random and
of the best coreset. The area under the ROC curve, as all sets have two classes. Training on everything is `whole`.
The last table has what arXiv:2605.18893 asks of condensing graphs: networks that it trains, nets that one set serves,
bytes, and its seconds beside those of training; after how many students its time has paid.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.condensing import PARTS, metrics_of, settings_of, stage
from datagen.contracts.dataset import write_json
from datagen.contracts.graphs import read_graphs
from trainers.graph_figures import size_alone

OGB, TU = ["method=ogb_folder"], ["method=tu_folder"]
SETS: dict[str, tuple[str, list[str]]] = {  # name to its place under --data, and settings of the stage `graphs`
    "molbace": ("", [*OGB, "licence=MIT"]),
    "molbbbp": ("ogbmol/ogbg_molbbbp", [*OGB, "licence=MIT"]),
    "Mutagenicity": ("tu/Mutagenicity", TU),
    "NCI1": ("tu/NCI1", TU),
    "PROTEINS": ("tu/PROTEINS", [*TU, "node_features=none"]),
    "IMDB-BINARY": ("tu/IMDB-BINARY", [*TU, "node_labels=degree"]),
}
LAYERS = {"IMDB-BINARY": 1}  # its graphs are dense: two trees of depth 2, one a class, take all of the default budget
VARIANTS: dict[str, list[str]] = {
    "paper": ["itemsets=all", "weighting=sample"],
    "ours": ["itemsets=closed", "weighting=weight", "degrees=true"],
}
TRAINED = 0  # networks that Mirage trains to make a set
MOLBACE = Path(__file__).parents[1] / "data" / "raw" / "molbace"


def main(argv: Sequence[str] | None = None) -> None:
    """Condense, evaluate, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the other sets")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--bytes", type=int, nargs="+", default=[6000], help="budgets (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="of trees and nets (default: 3, and 1 for IMDB-BINARY)")
    parser.add_argument("--coresets", nargs="+", default=["at_random", "herding", "k_means"])
    parser.add_argument("--nets", nargs="+", default=["gin", "gat", "sage", "gcn"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--learning-rates", nargs="+", default=["0.001", "0.01"])
    parser.add_argument("--n-steps", type=int, default=300)
    parser.add_argument("--whole-steps", type=int, default=1000, help="of students of everything")
    parser.add_argument("--set-methods", nargs="+", default=[], metavar="[VARIANT:]KEY=VALUE")
    parser.add_argument("--set-evaluation", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=1, help="of the parts, the sets and the students")
    parser.add_argument("--work", type=Path, default=Path(".cache/graphs"), help="folder for what is made")
    parser.add_argument("--out", type=Path, help="JSON file; cells that are not measured stay as they are in it")
    options = parser.parse_args(argv)
    asked = {name: value for name, value in vars(options).items() if not isinstance(value, Path | None)}
    for name in options.sets:
        raw = MOLBACE if name == "molbace" else options.data and options.data / SETS[name][0]
        if raw is None or not raw.is_dir():
            print(f"{name}: left out, as there is no {raw or SETS[name][0]}; name the folder that holds it with --data")
            continue
        for budget in options.bytes:
            cell = {**measure(options, name, raw, budget), "asked": asked}
            if options.out:  # after every cell: the next may take hours
                held = json.loads(options.out.read_text())["cells"] if options.out.exists() else {}
                write_json(options.out, {"benchmark": "graphs", "cells": held | {f"{name}-{budget}": cell}})
    if options.out and options.out.exists():
        cells = json.loads(options.out.read_text())["cells"]
        if not options.sets:
            for name, found in cells.items():
                show(found, name)
        show_costs(cells)


def measure(options: argparse.Namespace, name: str, raw: Path, budget: int) -> dict[str, Any]:
    """One cell: the metrics of evaluate_graphs, with its table printed."""
    work: Path = options.work / name
    work.mkdir(parents=True, exist_ok=True)
    _, settings = SETS[name]
    layers = options.layers or LAYERS.get(name, 3)
    seed = f"seed={options.seed}"
    graphs = {part: work / part for part in PARTS}
    for part in PARTS:
        given = [*settings, f"split={part}", *([seed] if "method=tu_folder" in settings else [])]
        stage("condense.stages.graphs", graphs[part], given, raw=raw)
    sets = work / f"sets-{budget}-{layers}"
    for variant in options.variants:
        given = ["method=mirage", f"layers={layers}", f"byte_budget={budget}", seed, *VARIANTS[variant],
                 *settings_of(variant, options.set_methods)]  # fmt: skip
        stage("condense.stages.condense_graphs", sets / variant, given, graphs=graphs["train"])
    given = [f"nets=[{','.join(options.nets)}]", f"coresets=[{','.join(options.coresets)}]",
             f"learning_rates=[{','.join(options.learning_rates)}]", f"seeds={options.seeds}",
             f"n_steps={options.n_steps}", f"whole_steps={options.whole_steps}", f"layers={layers}",
             "n_threads=1", seed, *options.set_evaluation]  # fmt: skip
    out = work / f"evaluation-{budget}-{layers}"
    stage("trainers.stages.evaluate_graphs", out, given, **graphs, condensed=sets, run_metrics=sets)
    metrics: dict[str, Any] = json.loads(metrics_of(out).read_text())
    metrics["size_alone"] = size_alone(read_graphs(graphs["train"]), read_graphs(graphs["test"]))
    show(metrics, f"{name}, {budget} bytes")
    return {**metrics, "nets_apart": {arm: nets_apart(metrics, arm) for arm in metrics["condensed"]}}


def nets_apart(metrics: dict[str, Any], arm: str) -> list[str]:
    """The nets of which the set's interval lies above that of the best coreset and that of at_random."""
    measure = metrics["measure"]
    coresets: dict[str, Any] = metrics["coresets"]
    found: list[str] = []
    for net, mine in metrics["condensed"][arm]["nets"].items():
        best = mine["best_coreset"]
        rivals = [best, "at_random-" + best.rpartition("-")[2]]
        highest = max(coresets[rival]["nets"][net][measure]["high"] for rival in rivals if rival in coresets)
        if mine[measure]["low"] > highest:
            found.append(net)
    return found


def show(metrics: dict[str, Any], title: str) -> None:
    """A line an arm: graphs, bytes, each net's score; for condensed sets what is above the best coreset."""
    entries = {"whole": metrics["whole"], **metrics["condensed"], **metrics["coresets"]}
    nets = list(metrics["whole"]["nets"])
    measure = metrics["measure"]
    print(f"\n{title:24}{'graphs':>8}{'bytes':>9}" + "".join(f"{net + ' ' + measure:>30}" for net in nets))
    for name, entry in entries.items():
        cells = "".join(f"{cell(entry['nets'][net], measure) if net in entry['nets'] else '':>30}" for net in nets)
        print(f"{name:24}{entry['n_graphs']:>8.0f}{entry['bytes']:>9.0f}{cells}")
    print(f"the number of nodes alone: {metrics.get('size_alone')}")
    for name, entry in metrics["condensed"].items():
        apart = nets_apart(metrics, name)
        print(f"{name}: apart from at_random and the best coreset with {len(apart)} of {len(nets)} nets {apart}; "
              f"{entry['worth']['verdict']}")  # fmt: skip


def show_costs(cells: Mapping[str, Mapping[str, Any]]) -> None:
    """A line a set: what making it cost beside training on everything, and what it serves."""
    print(f"\n{'':24}{'trained':>9}{'nets':>6}{'bytes':>9}{'of all':>9}{'made in':>10}{'student':>10}{'of all':>10}"
          f"{'pays from':>13}")  # fmt: skip
    for name, found in cells.items():
        whole = found["whole"]
        for arm, entry in found["condensed"].items():
            seconds = [fmean(one["seconds"] for one in of["nets"].values()) for of in (entry, whole)]
            n = entry["worth"]["against_everything"]["n_students"]
            pays = "never" if n is None else f"{n} student" + "s" * (n > 1)
            print(f"{name + ' ' + arm:24}{TRAINED:>9}{len(entry['nets']):>6}{entry['bytes']:>9.0f}"
                  f"{entry['bytes'] / whole['bytes']:>9.2%}{entry['condensing_seconds']:>8.1f} s{seconds[0]:>8.1f} s"
                  f"{seconds[1]:>8.1f} s{pays:>13}")  # fmt: skip


def cell(one: dict[str, Any], measure: str) -> str:
    """The score with its interval; behind it the difference from the best coreset."""
    score = one[measure]
    said = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    return said + (f" {one['over_best_coreset']['mean']:+.3f}" if "over_best_coreset" in one else "")


if __name__ == "__main__":
    main()
