"""What the evaluation of graphs says: the figures of `trainers.protocol_figures`, without regimes of labels.

Source: none; scores and their differences are in [0, 1], rounded to 4 digits, seconds to 3.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from datagen.contracts.graphs import GraphSet
from trainers.comparison import Comparison
from trainers.fresh_students import summary
from trainers.graph_protocol import Config
from trainers.protocol_figures import figures, with_seconds

ENTRIES = ("condensed", "coresets")
Sizes = Mapping[str, Sequence[tuple[int, int]]]


def graph_figures(
    found: Comparison,
    config: Config,
    chance: float,
    sizes: Sizes,
    condensing_s: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """Of all arms.

    Args:
        found: the comparison.
        config: likewise.
        chance: what a net that learned nothing reaches by the comparison's measure.
        sizes: arm to the graphs and bytes that each student learned from; means are stated.
        condensing_s: condensed set to the seconds of making it, None where they are not known; without it there are no
            seconds and no verdicts.

    Returns:
        `measure`, `n_nets`, `n_seeds`, `chance`, and `whole`, `condensed` and `coresets`. An arm has `n_graphs`,
        `bytes` and `nets`; of each net there are the measure and accuracy with mean, interval and every seed.
    """
    stated = figures(found, config, chance, counted="n_graphs")
    if condensing_s is not None:
        stated = with_seconds(stated, found, config, condensing_s)

    def plain(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        n_graphs, n_bytes = (_mean(one) for one in zip(*sizes[name], strict=True))
        nets: dict[str, Any] = {}
        for net, one in entry["regimes"]["hard"].items():
            accuracy = summary(found.outcomes[name, "hard", net].accuracy)
            nets[net] = {found.measure: one[found.measure], "accuracy": accuracy, **one}
        others = {key: value for key, value in entry.items() if key not in ("n_graphs", "bytes", "regimes")}
        return {"n_graphs": n_graphs, "bytes": n_bytes, "nets": nets, **others}

    return {
        "measure": found.measure,
        **stated,
        "whole": plain("whole", stated["whole"]),
        **{kind: {name: plain(name, entry) for name, entry in stated[kind].items()} for kind in ENTRIES},
    }


def size_alone(train: GraphSet, test: GraphSet) -> float | None:
    """The area under the ROC curve of the number of nodes, to 4 digits: what a network must beat to have seen more.

    Which class has the larger graphs is read from `train`; None where there are not two classes.
    """
    from sklearn.metrics import roc_auc_score

    if len(train.classes) != 2:
        return None
    larger = float(roc_auc_score(train.labels, np.diff(train.node_offsets))) >= 0.5
    sizes = np.diff(test.node_offsets)
    return round(float(roc_auc_score(test.labels, sizes if larger else -sizes)), 4)


def _mean(sizes: Sequence[int]) -> int | float:
    """To one digit; a whole number where all are equal."""
    return sizes[0] if len(set(sizes)) == 1 else round(fmean(sizes), 1)


def plot_rows(stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each arm and net, with mean and interval of the measure: what `dvc plots` draws."""
    entries = {"whole": stated["whole"], **stated["condensed"], **stated["coresets"]}
    return [
        {"arm": name, "net": net, "bytes": entry["bytes"]}
        | {key: one[stated["measure"]][key] for key in ("mean", "low", "high")}
        for name, entry in entries.items()
        for net, one in entry["nets"].items()
    ]
