"""Evaluate condensed graphs by one protocol for all: coresets of equal bytes, equal steps, paired seeds, several nets.

--condensed is a folder with a condensed set for each arm, named so, or one set. The dataset holds a GraphStudentScore
for each student, scores.json what is plotted; the metrics say how each set stands and whether it was worth its making.
Each set is one draw of its method, which manifest and metrics state as `seeds_of_condensing`: intervals hold students'
seeds alone. Parts of which one is another are refused, and graphs that two share are counted. `size_alone` is what the
number of nodes says by itself.
"""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, checkpoint_key
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.licences import made_of
from datagen.contracts.stage import Run, Stage, main
from trainers.graph_protocol import Config, GraphStudentScore, parse, scores
from trainers.graph_steps import Network, Steps, check_geometric
from trainers.students import check_before_training

if TYPE_CHECKING:
    from condense.condensed_graphs import CondensedGraphs
    from datagen.contracts.graphs import GraphSet

PARTS = ("train", "validation", "test")
SEEDS_OF_CONDENSING = 1  # a set is one draw of its method


def run(run: Run) -> dict[str, Any]:
    """Write the students' scores; what is done is kept, so that a run that was killed goes on."""
    check_before_training(run)
    check_geometric()
    import torch

    from condense.condensed_graphs import count_bytes, is_condensed_graphs
    from datagen.contracts.graphs import check_graph_classes, read_graphs
    from trainers import graph_bench
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
    from trainers.graph_batches import (
        NEEDS_DEGREES,
        check_both_classes,
        check_fits,
        columns_of,
        graphs_as_bytes,
        warn_without_degrees,
    )
    from trainers.graph_figures import graph_figures, plot_rows, size_alone
    from trainers.graph_nets.opening import open_graph_net

    config, network, steps = run.params[Config], run.params[Network], run.params[Steps]
    if device_type() == "cpu":
        torch.set_num_threads(steps.n_threads)
    graphs = {part: read_graphs(run.inputs[part]) for part in PARTS}
    train = graphs["train"]
    check_graph_classes(train, run.inputs["train"], 1)
    for part in PARTS[1:]:
        check_fits(graphs[part], run.inputs[part], train)
        check_both_classes(graphs[part], run.inputs[part], train.classes)
    hashes = {part: hashes_of(graphs_as_bytes(one)) for part, one in graphs.items()}
    ids = {part: one.ids for part, one in graphs.items()}
    shared = count_shared(hashes, ids, run.inputs, config.max_shared_share, "graphs")
    for net in config.nets:
        open_graph_net(net, columns_of(train), len(train.classes), network, seed=0)
    paths = find_arms(run.inputs["condensed"], config.coresets, is_condensed_graphs)
    condensed = {name: _read_arm(path, train, network.layers) for name, path in paths.items()}
    if NEEDS_DEGREES in config.nets:
        for name, one in condensed.items():
            warn_without_degrees(one, name)
    counts = {name: count_bytes(one) for name, one in condensed.items()}
    facts = facts_of(run, ("torch", "torch_geometric"))
    times = run.inputs.get("run_metrics")
    of_others = {name: is_of_others(path, facts["inputs"], run.inputs, "graphs") for name, path in paths.items()}
    seconds = {name: condensing_seconds(name, path, times, "condense_graphs") for name, path in paths.items()}
    joules = {name: condensing_joules(name, path, times, "condense_graphs") for name, path in paths.items()}
    bench = graph_bench.open_bench(config, network, steps, train, graphs["validation"], graphs["test"], condensed)
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        found = compare_shown(run, bench, counts, checkpoints.folder, graph_bench, measure=bench.measure)
        arms = {outcome.cell.arm.name: outcome.cell.arm for outcome in found.outcomes.values()}
        sizes = {name: graph_bench.sizes_of(arm, bench, found.chosen) for name, arm in arms.items()}
        labels: list[int] = graphs["test"].labels.tolist()
        chance = 0.5 if bench.measure == "auc" else max(Counter(labels).values()) / len(labels)
        common = {
            "seeds_of_condensing": SEEDS_OF_CONDENSING,
            "shared_graphs": shared,
            "made_of_other_graphs": of_others,
            "size_alone": size_alone(train, graphs["test"]),
        }
        stated = graph_figures(found, config, chance, sizes) | common
        manifest = {
            "stage": run.name,
            "params": run.params.values(),
            **made_of({name: path for name, path in run.inputs.items() if name != "run_metrics"}),
            "classes": list(train.classes),
            "seeds_of_condensing": SEEDS_OF_CONDENSING,
            "figures": stated,
        }
        with DatasetWriter(run.out, GraphStudentScore, manifest) as writer:
            for outcome in found.outcomes.values():
                for score in scores(outcome, sizes[outcome.cell.arm.name]):
                    writer.read()
                    writer.write(score)
            writer.attach("scores.json", json.dumps(plot_rows(stated), indent=1) + "\n")
        checkpoints.clear()
    lengths = {"n_steps": config.n_steps, "whole_steps": config.whole_steps}
    timed = graph_figures(found, config, chance, sizes, seconds)
    add_joules(timed["condensed"], joules)
    return timed | common | {"rows": writer.rows, **lengths}


def _read_arm(path: Path, train: "GraphSet", layers: int) -> "CondensedGraphs":
    from condense.condensed_graphs import read_condensed_graphs
    from trainers.graph_batches import as_learned, check_depth, columns_of

    condensed = read_condensed_graphs(path)
    check_depth(condensed, path, layers)
    mine, theirs = columns_of(condensed.graphs), columns_of(as_learned(train, condensed))
    sizes = [*zip(mine.node, theirs.node, strict=False), *zip(mine.edge, theirs.edge, strict=False)]
    alike = (len(mine.node), len(mine.edge), mine.n_features) == (len(theirs.node), len(theirs.edge), theirs.n_features)
    if list(condensed.graphs.classes) != list(train.classes) or not alike or any(a > b for a, b in sizes):
        raise DataError(
            f"{path}: has classes {', '.join(condensed.graphs.classes)} and {mine}, the training graphs "
            f"{', '.join(train.classes)} and {theirs}, which must hold it; condense these"
        )
    return condensed


STAGE = Stage(
    name="evaluate_graphs",
    parse=parse,
    inputs={
        "train": "graphs that were condensed: a dataset of Graphs or a folder of raw ones",
        "validation": "graphs that learning rates are chosen on",
        "test": "graphs that students are judged on",
        "condensed": "folder with a condensed set for each arm, named so, or one set",
    },
    run=run,
    optional_inputs={"run_metrics": "folder of the metrics of their making, for the verdict: was it worth it?"},
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
