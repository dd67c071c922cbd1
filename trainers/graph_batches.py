"""Graph sets as tensors, of which batches are taken: disjoint unions, numbered anew.

Source: none; as PyTorch Geometric batches graphs, without an object a graph.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condense.condensed_graphs import CondensedGraphs, as_condensed, is_condensed_graphs, read_condensed_graphs
from datagen.backends.transformers_models import device_type
from datagen.contracts.dataset import read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.graphs import GraphSet, read_graphs
from trainers.graph_nets import GraphBatch
from trainers.graph_nets.opening import Columns

NEEDS_DEGREES = "gcn"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GraphTensors:
    """A whole set on the device; axes and meaning as in `GraphBatch` and `datagen.contracts.graphs.GraphSet`."""

    node_offsets: Tensor
    edge_offsets: Tensor
    edges: Tensor
    node_labels: Tensor
    edge_labels: Tensor
    node_features: Tensor
    is_root: Tensor
    degrees: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self.labels)

    def batch(self, at: Tensor) -> GraphBatch:
        """The graphs at these positions, in their order; one may come twice."""
        nodes, sizes, node_offsets = _spans(self.node_offsets, at)
        edges, edge_sizes, _ = _spans(self.edge_offsets, at)
        moved = (node_offsets - self.node_offsets[at]).repeat_interleave(edge_sizes)
        return GraphBatch(
            n_graphs=len(at),
            graph_of_node=torch.arange(len(at), device=at.device).repeat_interleave(sizes),
            edges=self.edges[:, edges] + moved,
            node_labels=self.node_labels[nodes],
            edge_labels=self.edge_labels[edges],
            node_features=self.node_features[nodes],
            is_root=self.is_root[nodes],
            degrees=self.degrees[nodes],
            labels=self.labels[at],
        )

    def all(self) -> GraphBatch:
        """Of every graph."""
        return self.batch(torch.arange(len(self), device=self.labels.device))


def tensors_of(graphs: CondensedGraphs | GraphSet) -> GraphTensors:
    """On the device; degrees are the set's own statement, or else how many edges a node is the target of."""
    condensed = as_condensed(graphs) if isinstance(graphs, GraphSet) else graphs
    held = condensed.graphs
    degrees = condensed.degrees
    if degrees is None:
        degrees = np.bincount(held.edges[1], minlength=held.n_nodes)
    arrays: dict[str, Any] = {
        **{name: getattr(held, name) for name in ("node_offsets", "edge_offsets", "edges", "node_labels")},
        **{name: getattr(held, name) for name in ("edge_labels", "node_features", "labels")},
        "is_root": condensed.is_root,
        "degrees": degrees.astype(np.int64),
        "weights": condensed.weights,
    }
    return GraphTensors(**{name: torch.from_numpy(np.array(one)).to(device_type()) for name, one in arrays.items()})


def read_learned(path: Path, layers: int) -> CondensedGraphs:
    """A condensed set, or real graphs as they are, for networks of so many layers.

    Raises:
        DataError: neither, there is no graph in it, or its trees are not as deep.
    """
    learned = read_condensed_graphs(path) if is_condensed_graphs(path) else as_condensed(read_graphs(path))
    if not len(learned):
        raise DataError(f"{path}: holds no graph to learn from")
    check_depth(learned, path, layers)
    return learned


def check_depth(learned: CondensedGraphs, path: Path, layers: int) -> None:
    """Computation trees are as deep as a network sees, or its roots would see less than the nodes they stand for.

    Raises:
        DataError: they are not.
    """
    if learned.is_root.all():
        return
    depth = read_manifest(path).get("params", {}).get("layers")
    if depth is not None and depth < layers:
        raise DataError(
            f"{path}: its trees are {depth} deep, and the network has {layers} layers; set layers={depth}, or condense "
            f"with layers={layers}"
        )


def warn_without_degrees(learned: CondensedGraphs, name: str) -> None:
    """GCN reads degrees, of which a tree's leaves have none left."""
    if learned.degrees is None and not learned.is_root.all():
        log.warning(
            "%s: states no degrees, so that %s sees the trees' own in place of the graphs'; condense with degrees=true "
            "for roots that are their nodes exactly", name, NEEDS_DEGREES,
        )  # fmt: skip


def columns_of(graphs: GraphSet) -> Columns:
    """What nodes and edges have; sizes are one above the largest label of a column."""
    return Columns(
        node=[int(one.max(initial=0)) + 1 for one in graphs.node_labels.T],
        edge=[int(one.max(initial=0)) + 1 for one in graphs.edge_labels.T],
        n_features=graphs.node_features.shape[1],
    )


def as_learned(graphs: GraphSet, learned: CondensedGraphs) -> GraphSet:
    """Graphs as students of `learned` read them: features become codes where it has a codebook."""
    if learned.codebook is None:
        return graphs
    from condense.quantisation import quantised

    return quantised(graphs, learned.codebook)


def check_both_classes(graphs: GraphSet, path: Path, classes: Sequence[str]) -> None:
    """Of two classes both are there, as the area under the ROC curve needs them.

    Raises:
        DataError: one is not.
    """
    held = set(graphs.labels.tolist())
    if len(classes) == 2 and len(held) < 2:
        raise DataError(
            f"{path}: all graphs are of class {classes[held.pop()]}; AUC needs both, give graphs of both classes"
        )


def check_fits(graphs: GraphSet, path: Path, learned: GraphSet) -> None:
    """Graphs can be judged by students of `learned`.

    Raises:
        DataError: there is none, or their classes or columns are others.
    """
    if not len(graphs):
        raise DataError(f"{path}: holds no graph to judge students on")
    if list(graphs.classes) != list(learned.classes)[: len(graphs.classes)]:
        raise DataError(
            f"{path}: its classes are {', '.join(graphs.classes)}, those of the training graphs "
            f"{', '.join(learned.classes)}; give graphs of the same classes in the same order"
        )
    for name in ("node_labels", "edge_labels", "node_features"):
        mine, theirs = (getattr(one, name).shape[1] for one in (graphs, learned))
        if mine != theirs:
            raise DataError(
                f"{path}: has {mine} columns of {name}, the training graphs {theirs}; read both from the same source"
            )


def graphs_as_bytes(graphs: GraphSet) -> Iterator[NDArray[np.uint8]]:
    """All of each graph but its label and name: equal graphs whose nodes and edges come in equal order are equal."""
    for i in range(len(graphs)):
        nodes = slice(*graphs.node_offsets[i : i + 2])
        edges = slice(*graphs.edge_offsets[i : i + 2])
        parts = (
            np.diff(graphs.node_offsets[i : i + 2]),
            graphs.edges[:, edges] - graphs.node_offsets[i],
            graphs.node_labels[nodes],
            graphs.edge_labels[edges],
            graphs.node_features[nodes],
        )
        yield np.frombuffer(b"".join(np.ascontiguousarray(one).tobytes() for one in parts), dtype=np.uint8)


def count_unseen(graphs: GraphSet, learned: GraphSet) -> dict[str, int]:
    """Labels of `graphs` that `learned` has nowhere in the same column, which add nothing to a student's nodes.

    Returns:
        `node_values` and `edge_values`, how many labels, each counted once a column, and `nodes` and `edges`, how many
        have one or more of them.
    """
    found: dict[str, int] = {}
    for noun, name in (("node", "node_labels"), ("edge", "edge_labels")):
        mine, theirs = getattr(graphs, name), getattr(learned, name)
        is_new = np.zeros(mine.shape, dtype=np.bool_)
        for column in range(mine.shape[1]):
            is_new[:, column] = ~np.isin(mine[:, column], theirs[:, column])
        values = [np.unique(mine[is_new[:, column], column]) for column in range(mine.shape[1])]
        found |= {f"{noun}_values": sum(map(len, values)), f"{noun}s": int(is_new.any(axis=1).sum())}
    return found


def _spans(offsets: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of what the graphs at `at` have, end to end, how many each has, and where each begins anew."""
    sizes = offsets[at + 1] - offsets[at]
    ends = sizes.cumsum(0)
    begins = ends - sizes
    n = int(ends[-1]) if len(ends) else 0
    return torch.arange(n, device=at.device) + (offsets[at] - begins).repeat_interleave(sizes), sizes, begins
