"""Computation trees beside the authors' C++ extension and the miner that they use, on the same graphs in one run.

    python -m benchmarks.computation_trees_peer --peer FOLDER --data FOLDER [--sets NAME ...] [--out FILE.json]

--peer holds https://github.com/frigategnn/Mirage: its ogbg-molbace/pygcanl with the built extension (`python setup.py
build_ext --inplace` there; it needs Boost's headers), and `pyfpgrowth` is importable (`pip install pyfpgrowth`). --data
is as for `benchmarks.computation_trees`. Both work on one thread of one process, by turns; seconds are CPU seconds.

    trees     theirs are texts, ours numbers; whether both divide the nodes alike
    itemsets  at a threshold for each class, a share of its graphs; how many each finds, and how many of ours their
              miner does not have, with the largest support among those

The graphs are handed over in the form that each takes: theirs PyTorch Geometric's Data with labels numbered, built
outside of the time. Their pipeline goes on from texts to numbers of texts before it mines, which counts as theirs, and
ours counts trees of each graph, which counts as ours.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.computation_trees import DEPTH, is_same_partition, open_set
from condense.graphs.computation_trees import tree_ids
from condense.graphs.itemsets import frequent, holdings
from condense.graphs.sharding import take_census
from datagen.contracts.dataset import write_json
from datagen.contracts.graphs import GraphSet

BAR = 20  # times as fast
TURNS = 3
SHARES = {"MUTAG": (0.35, 0.35), "NCI1": (0.15, 0.15), "molbace": (150 / 730, 104 / 480)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a row a set, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder of the authors' code")
    parser.add_argument("--data", type=Path, required=True, help="folder of the graph sets")
    parser.add_argument("--sets", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    sys.path.insert(0, str(options.peer / "ogbg-molbace" / "pygcanl"))
    canonical: Callable[[list[Any], int], list[list[str]]] = importlib.import_module("pygcanl").canonical
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in options.sets:
        graphs = open_set(options.data, name, "train")
        if graphs is None:
            parser.error(f"{name}: not in {options.data}")
        rows.append(
            {"set": name, "graphs": len(graphs), "nodes": graphs.n_nodes, **compare(graphs, canonical, SHARES[name])}
        )
        print(json.dumps(rows[-1]))
    if options.out:
        write_json(options.out, {"benchmark": "computation_trees_peer", "depth": DEPTH, "bar": BAR, "rows": rows})


def compare(graphs: GraphSet, canonical: Callable[..., list[list[str]]], shares: Sequence[float]) -> dict[str, Any]:
    """CPU seconds of both for trees and for itemsets, their ratios, and what differs."""
    given = as_they_take(graphs)
    seconds: dict[str, list[float]] = {"their_trees": [], "our_trees": [], "their_itemsets": [], "our_itemsets": []}
    found: Any = None
    texts: list[list[str]] = []
    theirs: list[dict[tuple[str, ...], int]] = []
    ours: list[dict[tuple[int, ...], int]] = []
    thresholds = [
        max(1, round(share * n)) for share, n in zip(shares, np.bincount(graphs.labels).tolist(), strict=True)
    ]
    for _ in range(TURNS):
        texts = _timed(seconds["their_trees"], lambda: canonical(given, DEPTH))
        found = _timed(seconds["our_trees"], lambda: tree_ids(graphs, DEPTH))
        theirs = _timed(seconds["their_itemsets"], lambda texts=texts: mine_theirs(texts, graphs.labels, thresholds))
        ours = _timed(seconds["our_itemsets"], lambda: mine_ours(graphs, thresholds))
    medians = {name: statistics.median(one) for name, one in seconds.items()}
    # theirs by our numbers: a text's number is that of any node that has it
    flat = [text for graph in texts for text in graph]
    number = dict(zip(flat, found.ids.tolist(), strict=True))
    named = [{tuple(sorted(number[text] for text in one)): n for one, n in of.items()} for of in theirs]
    lost = [{one: n for one, n in mine.items() if one not in their} for mine, their in zip(ours, named, strict=True)]
    return {
        "thresholds": thresholds,
        "cpu_s": {name: round(one, 4) for name, one in medians.items()},
        "trees_times": round(medians["their_trees"] / medians["our_trees"], 1),
        "all_times": round((medians["their_trees"] + medians["their_itemsets"]) / medians["our_itemsets"], 1),
        "same_trees": is_same_partition(flat, found.ids),
        "itemsets": [len(one) for one in ours],
        "their_itemsets": [len(one) for one in named],
        "lost_by_them": [len(one) for one in lost],
        "largest_support_lost": [max(one.values(), default=0) for one in lost],
        "lost_by_us": [len(their.keys() - mine.keys()) for mine, their in zip(ours, named, strict=True)],
    }


def _timed(seconds: list[float], work: Callable[[], Any]) -> Any:
    start = time.process_time()
    done = work()
    seconds.append(time.process_time() - start)
    return done


def as_they_take(graphs: GraphSet) -> list[Any]:
    """A Data a graph, labels numbered: `x` by the first column, `node_attr` by all, `edge_attr` by all of an edge."""
    data: Any = importlib.import_module("torch_geometric.data").Data
    first = np.unique(graphs.node_labels[:, 0], return_inverse=True)[1]
    every = np.unique(graphs.node_labels, axis=0, return_inverse=True)[1]
    edge = np.zeros(graphs.edges.shape[1], dtype=np.int64)
    if graphs.edge_labels.shape[1]:
        edge = np.unique(graphs.edge_labels, axis=0, return_inverse=True)[1]
    made: list[Any] = []
    for g, label in enumerate(graphs.labels.tolist()):
        nodes = slice(graphs.node_offsets[g], graphs.node_offsets[g + 1])
        edges = slice(graphs.edge_offsets[g], graphs.edge_offsets[g + 1])
        tensors = {
            "x": first[nodes],
            "node_attr": every[nodes],
            "original_x": graphs.node_labels[nodes],
            "edge_index": graphs.edges[:, edges] - graphs.node_offsets[g],
            "edge_attr": edge[edges],
            "original_edge_attr": graphs.edge_labels[edges],
            "y": np.array([label]),
        }
        made.append(data(**{name: torch.as_tensor(one) for name, one in tensors.items()}))
    return made


def mine_theirs(texts: list[list[str]], labels: Any, thresholds: Sequence[int]) -> list[dict[tuple[str, ...], int]]:
    """From the texts of each graph: numbered, a transaction a graph, mined class by class by FP-growth."""
    pyfpgrowth: Any = importlib.import_module("pyfpgrowth")
    numbers: dict[str, int] = {}
    graphs = [list({numbers.setdefault(text, len(numbers)) for text in graph}) for graph in texts]
    names = list(numbers)
    found: list[dict[tuple[str, ...], int]] = []
    for label, threshold in enumerate(thresholds):
        of_class = [graph for graph, its in zip(graphs, labels.tolist(), strict=True) if its == label]
        mined = pyfpgrowth.find_frequent_patterns(of_class, threshold)
        found.append({tuple(names[i] for i in items): support for items, support in mined.items()})
    return found


def mine_ours(graphs: GraphSet, thresholds: Sequence[int]) -> list[dict[tuple[int, ...], int]]:
    """From the graphs: trees, which graph has which, mined class by class."""
    census = take_census(graphs, DEPTH)
    owners = np.repeat(np.arange(len(graphs)), np.diff(census.offsets))
    found: list[dict[tuple[int, ...], int]] = []
    for label, threshold in enumerate(thresholds):
        kept = census.labels[owners] == label
        held = holdings(owners[kept], census.trees[kept], census.counts[kept], threshold=threshold)
        found.append({one.items: one.support for one in frequent(held)})
    return found


if __name__ == "__main__":
    main()
