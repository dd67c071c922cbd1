"""Computation trees: seconds of numbering them, against explicit texts, and the patterns that Mirage mines of them.

    python -m benchmarks.computation_trees --data FOLDER [--only ids texts patterns budget dask] [--out FILE.json]

FOLDER holds tu/NAME (text files of the TU collection), ogbmol/ogbg_molbace (OGB's raw files) and, for molhiv,
ogbmol/molhiv_train_valid.npz, whose `split` says which graphs are train. What is not there is left out, and said.

    ids       CPU seconds of the trees of depth 3 of all nodes, median of 5, one thread
    texts     whether the partition of nodes by number is that by explicit texts, depths 0 to 3
    patterns  how many sets of trees reach the paper's thresholds, with exact trees, and with the names that trees had
              in the authors' published runs: children were ordered by the labels on the way to the first leaf and
              otherwise left as edges came, so one tree could have several names (their later commit 9509bdd mends it)
    budget    CPU seconds of Mirage at a byte budget, and the bytes it takes
    dask      seconds from the dataset to the condensed set with one worker of one thread and with two, by turns, on a
              cluster that is there; the dataset's files are repeated until one process takes 30 s. The median over
              turns of each turn's own ratio, and a worker's peak memory, with all files and with a tenth of them. Only
              when asked for.
"""

import argparse
import hashlib
import importlib
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from condense.condensed_graphs import arrays_of, count_bytes, paper_bytes
from condense.graphs import Task
from condense.graphs.computation_trees import tree_ids
from condense.graphs.itemsets import Itemset, frequent, holdings
from condense.graphs.mirage import Config, mirage
from condense.graphs.sharding import Shards
from datagen.contracts.cluster import ADDRESS
from datagen.contracts.dataset import DatasetWriter, write_json
from datagen.contracts.graph_folders import ogb_split
from datagen.contracts.graphs import GraphRow, GraphSet, count_rows, graph_rows, read_graphs

DEPTH, REPEATS, LONG_S = 3, 5, 30.0
SETS = {
    "ids": ("MUTAG", "PROTEINS", "NCI1", "molbace", "molhiv"),
    "texts": ("MUTAG", "PROTEINS"),
    "patterns": ("molbace", "molhiv"),
    "budget": ("molbace", "NCI1"),
    "dask": ("NCI1",),
}
BARS = {"NCI1": 0.3, "molhiv": 5.0}  # CPU seconds
THRESHOLDS = {"molbace": (150, 104), "molhiv": (1800, 115)}
PUBLISHED = {"molbace": [8, 9], "molhiv": [4, 5]}  # patterns a class, in the authors' logs
BUDGETS = (6_000, 60_000)
SPEEDUP_BAR = 1.6


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row a measurement, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the graph sets")
    parser.add_argument("--only", nargs="+", choices=SETS, default=[one for one in SETS if one != "dask"])
    parser.add_argument("--turns", type=int, default=3, help="of dask")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.shards:
        print(json.dumps(condense_shards(options.shards, options.out)))
        return 0
    if not options.data:
        parser.error("--data: name the folder of the graph sets")
    rows: list[dict[str, Any]] = []
    measured = {"ids": ids, "texts": by_texts, "patterns": patterns, "budget": budgets}
    for what in options.only:
        for name in SETS[what]:
            graphs = open_set(options.data, name, part="train" if what in ("patterns", "budget") else "all")
            if graphs is None:
                print(f"{what} {name}: not in {options.data}")
                continue
            found = on_dask(graphs, options.turns) if what == "dask" else measured[what](name, graphs)
            rows.append({"what": what, "set": name, "graphs": len(graphs), "nodes": graphs.n_nodes, **found})
            print(json.dumps(rows[-1]))
    if options.out:
        bars = {"cpu_seconds": BARS, "speedup": SPEEDUP_BAR}
        write_json(options.out, {"benchmark": "computation_trees", "depth": DEPTH, "bars": bars, "rows": rows})
    return 0


def open_set(data: Path, name: str, part: str) -> GraphSet | None:
    """A set, or its train part where it has one; None where it is not there."""
    if name == "molhiv":
        file = data / "ogbmol" / "molhiv_train_valid.npz"
        return _molhiv(file, part) if file.is_file() else None
    path = data / "ogbmol" / "ogbg_molbace" if name == "molbace" else data / "tu" / name
    if not path.is_dir():
        return None
    graphs = read_graphs(path)
    return graphs.take(ogb_split(path, part, len(graphs))) if (name, part) == ("molbace", "train") else graphs


def _molhiv(file: Path, part: str) -> GraphSet:
    with np.load(file) as held:
        arrays: dict[str, Any] = dict(held)
    first = np.repeat(arrays["node_ptr"][:-1], np.diff(arrays["edge_ptr"]))[:, None]
    edges = arrays["edge_index_local"].astype(np.int64) + first
    graphs = GraphSet(
        node_offsets=arrays["node_ptr"],
        edge_offsets=2 * arrays["edge_ptr"],
        edges=np.stack([edges, edges[:, ::-1]], axis=1).reshape(-1, 2).T,
        node_labels=arrays["node_feat"].astype(np.int64),
        edge_labels=np.repeat(arrays["edge_feat"].astype(np.int64), 2, axis=0),
        node_features=np.zeros((len(arrays["node_feat"]), 0), dtype=np.float32),
        labels=arrays["label"].astype(np.int64),
        ids=[f"molhiv-{i}" for i in range(len(arrays["label"]))],
        classes=["0", "1"],
    )
    return graphs if part == "all" else graphs.take(np.flatnonzero(arrays["split"] == part))


def ids(name: str, graphs: GraphSet) -> dict[str, Any]:
    """CPU seconds, and how many trees there are at each depth."""
    found, seconds = tree_ids(graphs, DEPTH), []
    for _ in range(REPEATS):
        start = time.process_time()
        tree_ids(graphs, DEPTH)
        seconds.append(time.process_time() - start)
    trees = [found.tables.n_trees(depth) for depth in range(DEPTH + 1)]
    return {"cpu_s": round(statistics.median(seconds), 3), "bar_s": BARS.get(name), "trees": trees}


def by_texts(name: str, graphs: GraphSet) -> dict[str, Any]:
    """Whether numbers and texts of each depth go together one to one."""
    found = tree_ids(graphs, DEPTH)
    return {"equal": [is_same_partition(texts(graphs, depth), found.by_depth[depth]) for depth in range(DEPTH + 1)]}


def texts(graphs: GraphSet, depth: int) -> list[str]:
    """The tree of each node, written out: its label, and its children's texts behind their edges', sorted."""
    labels = [str(tuple(one)) for one in graphs.node_labels.tolist()]
    into = _into(graphs)
    written = labels
    for _ in range(depth):
        written = [
            f"{label}[{' '.join(sorted(f'{edge}{written[source]}' for edge, source in children))}]"
            for label, children in zip(labels, into, strict=True)
        ]
    return written


def _into(graphs: GraphSet) -> list[list[tuple[tuple[int, ...], int]]]:
    """Label and source of the edges to each node, in their order."""
    into: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in range(graphs.n_nodes)]
    for source, target, label in zip(*graphs.edges.tolist(), map(tuple, graphs.edge_labels.tolist()), strict=True):
        into[target].append((label, source))
    return into


def is_same_partition(names: Sequence[str], numbers: Any) -> bool:
    """Whether two nodes have the same name where they have the same number, and only there."""
    pairs = set(zip(names, numbers.tolist(), strict=True))
    return len(pairs) == len(set(names)) == len(np.unique(numbers))


def patterns(name: str, graphs: GraphSet) -> dict[str, Any]:
    """Patterns of each class at the paper's thresholds, by exact trees and by the names of the published runs."""
    thresholds = THRESHOLDS[name]
    start = time.process_time()
    made = mirage(Config(layers=DEPTH, thresholds=list(thresholds)), Task(graphs=graphs))
    seconds = time.process_time() - start
    exact = [int((made.graphs.labels == label).sum()) for label in range(2)]
    found = tree_ids(graphs, DEPTH)
    names = published_names(graphs)
    _, first, numbers = np.unique(np.array(names, dtype=object), return_index=True, return_inverse=True)
    by_name = [mined(graphs, numbers, label, thresholds[label]) for label in range(2)]
    n_nodes = found.tables.n_nodes()[found.ids[first]]
    columns, edge_columns = graphs.columns["node_labels"], graphs.columns["edge_labels"]
    sizes = [int(n_nodes[[*one.items]].sum()) for itemsets in by_name for one in itemsets]
    n_trees = sum(len(one.items) for itemsets in by_name for one in itemsets)
    owner = graphs.labels[graphs.graph_of_node]
    return {
        "thresholds": thresholds,
        "published": PUBLISHED[name],
        "patterns": exact,
        "supports": [made.weights[made.graphs.labels == label].tolist() for label in range(2)],
        "trees": [len(np.unique(found.ids[owner == label])) for label in range(2)],
        "paper_bytes": paper_bytes(made),
        "size_bytes": count_bytes(made)["total"],
        "cpu_s": round(seconds, 3),
        "patterns_by_published_names": [len(one) for one in by_name],
        "published_names": [len(np.unique(numbers[owner == label])) for label in range(2)],
        "paper_bytes_by_published_names": sum(sizes) * columns + (sum(sizes) - n_trees) * (edge_columns + 2),
    }


def mined(graphs: GraphSet, numbers: Any, label: int, threshold: int) -> list[Itemset]:
    """The frequent sets of numbers in the graphs of a class."""
    held, counts = np.unique(
        np.stack([graphs.graph_of_node, numbers])[:, graphs.labels[graphs.graph_of_node] == label],
        axis=1,
        return_counts=True,
    )
    return frequent(holdings(held[0], held[1], counts, threshold=threshold))


def published_names(graphs: GraphSet) -> list[str]:
    """The names of trees in the authors' code before they mended the order of children.

    Labels are numbered as Python's sets hold them, over all graphs. A child's name begins with its edge. Children are
    compared by the numbers before the first end of a node in their names, of which the longer comes first, and such as
    are equal there stay in the order of the edges: `std::sort` of few elements inserts them one after another.
    """
    of_first = _numbered([row[0] for row in graphs.node_labels.tolist()])
    of_all = _numbered([tuple(row) for row in graphs.node_labels.tolist()])
    of_edge = _numbered([tuple(row) for row in graphs.edge_labels.tolist()])
    labels = [f"{of_first[row[0]]} {of_all[tuple(row)]}" for row in graphs.node_labels.tolist()]
    into = _into(graphs)
    keys: dict[str, list[float]] = {}

    def key(child: str) -> list[float]:
        if child not in keys:
            keys[child] = [*map(float, child.partition("$")[0].split()), math.inf]
        return keys[child]

    written = [f"{label} $" for label in labels]
    for _ in range(DEPTH):
        written = [
            " ".join(
                [label, *sorted((f"{of_edge[edge]} {written[source]}" for edge, source in children), key=key), "$"]
            )
            for label, children in zip(labels, into, strict=True)
        ]
    return written


def _numbered(values: Sequence[Any]) -> dict[Any, int]:
    held: set[Any] = set()
    for one in values:
        held.add(one)
    return {one: i for i, one in enumerate(held)}


def budgets(name: str, graphs: GraphSet) -> dict[str, Any]:
    """CPU seconds of Mirage at each budget with closed itemsets, and what it makes."""
    found: dict[str, Any] = {}
    for budget in BUDGETS:
        start = time.process_time()
        made = mirage(Config(layers=DEPTH, byte_budget=budget, itemsets="closed"), Task(graphs=graphs))
        seconds = time.process_time() - start
        lowest = [int(made.weights[made.graphs.labels == label].min()) for label in range(len(graphs.classes))]
        size = count_bytes(made)["total"]
        found[str(budget)] = {"cpu_s": round(seconds, 3), "size_bytes": size, "patterns": len(made), "supports": lowest}
    return found


def on_dask(graphs: GraphSet, turns: int) -> dict[str, Any]:
    """Seconds of each turn with one worker and with two, whether all made the same, and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one"
        with DatasetWriter(
            one, GraphRow, {"stage": "graphs", "classes": graphs.classes, "columns": graphs.columns}
        ) as writer:
            for row in graph_rows(graphs):
                writer.read()
                writer.write(row)
        copies, many, done = 1, one, _run(one, Path(folder) / "1", None)
        while done["seconds"] < LONG_S:
            copies = math.ceil(1.1 * copies * LONG_S / done["seconds"])
            many = repeated(one, copies)
            done = _run(many, Path(folder) / f"{copies}", None)
        some = repeated(one, math.ceil(copies / 10))
        seconds: dict[int, list[float]] = {1: [], 2: []}
        made = [done["made"]]
        for turn in range(turns):
            for n_workers in (1, 2):
                done = _run(many, Path(folder) / f"{turn}-{n_workers}", n_workers)
                seconds[n_workers].append(done["seconds"])
                made.append(done["made"])
        few = _run(some, Path(folder) / "few", 2)
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "copies": copies,
        "one_worker_s": seconds[1],
        "two_workers_s": seconds[2],
        "speedup": round(statistics.median(ratios), 3),
        "bar": SPEEDUP_BAR,
        "same": len(set(made)) == 1,
        "worker_peak_mb": done["worker_peak_mb"],
        "worker_peak_mb_of_a_tenth": few["worker_peak_mb"],
    }


def repeated(dataset: Path, copies: int) -> Path:
    """The dataset with its files so many times."""
    out = dataset.with_name(f"times-{copies}")
    out.mkdir(exist_ok=True)
    shutil.copy(dataset / "manifest.json", out)
    files = sorted(dataset.glob("part-*.parquet"))
    for i in range(copies * len(files)):
        if not (link := out / f"part-{i:05}.parquet").exists():
            os.link(files[i % len(files)], link)
    return out


def _run(dataset: Path, out: Path, n_workers: int | None) -> dict[str, Any]:
    """What `condense_shards` says, in a process of its own; workers are there before and until after it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    environment.pop(ADDRESS, None)
    command = [sys.executable, "-m", "benchmarks.computation_trees", "--shards", str(dataset), "--out", str(out)]

    def done(more: dict[str, str]) -> dict[str, Any]:
        run = subprocess.run(command, env=environment | more, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(run.stdout.splitlines()[-1])

    if not n_workers:
        return done({})
    distributed: Any = importlib.import_module("distributed")  # an extra, without types
    # workers inherit what keeps them to one thread
    os.environ.update({name: environment[name] for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")})
    with (
        distributed.LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        said = done({ADDRESS: cluster.scheduler_address})
        return said | {"worker_peak_mb": round(max(client.run(_peak_mb).values()))}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def condense_shards(dataset: Path, out: Path) -> dict[str, Any]:
    """Condense a dataset, a file at a time, with a fifteenth of its graphs as each class's threshold."""
    start = time.perf_counter()
    n_graphs = sum(map(count_rows, dataset.glob("part-*.parquet")))
    config = Config(layers=DEPTH, thresholds=[n_graphs // 15] * 2)
    made = arrays_of(mirage(config, Task(graphs=Shards(path=dataset))))
    save: Any = np.savez  # its types take an array for the flag behind it
    save(out, **made)
    digest = hashlib.sha256(b"".join(made[name].tobytes() for name in sorted(made))).hexdigest()
    return {"seconds": round(time.perf_counter() - start, 2), "made": digest}


if __name__ == "__main__":
    raise SystemExit(main())
