"""Graph sets as PyTorch Geometric trains on them: real graphs, and what `datastill condense_graphs` wrote, alike.

Source: none; the attributes' names are those of Fey and Lenssen 2019, arXiv:1903.02428, where it has some.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from condense.condensed_graphs import CondensedGraphs, as_condensed, is_condensed_graphs, read_condensed_graphs
from datagen.contracts.errors import MissingError
from datagen.contracts.graphs import read_graphs

try:
    from torch_geometric.data import Data, InMemoryDataset
except ModuleNotFoundError:
    raise MissingError("open_graphs needs PyTorch Geometric: `pip install 'datastill[graph]'`") from None


class Graphs(InMemoryDataset):
    """Graphs in memory, one `Data` each.

    Attributes:
        classes: names, in the order of `y`.
        codebook: (K, D) float32, or None: what the last column of `x` stands for, see `condense.quantisation`.
    """

    def __init__(self, graphs: Sequence[Data], classes: Sequence[str], codebook: Tensor | None) -> None:
        super().__init__()
        self.data, self.slices = self.collate(list(graphs))
        self.classes = list(classes)
        self.codebook = codebook


def open_graphs(path: Path | str) -> Graphs:
    """A graph set, a `Data` for each graph.

    Attributes of a graph:
        x             (nodes, F) labels of nodes, int64; continuous features, float32, where nodes have no labels
        features      (nodes, D) float32, where nodes have both
        edge_index    (2, edges); in a condensed set from child to parent
        edge_attr     (edges, H) labels of edges, int64, where there are some
        y             (1,) class
        is_root       (nodes,) bool; what a student pools: all nodes of a real graph, the roots of a condensed one
        weight        (1,) float32; how many graphs it stands for, by which its loss is weighted
        degree        (nodes,) int64 in the graph that a node comes from, for networks that read it
        id            name

    Args:
        path: what `condense_graphs` or `graphs` wrote, a folder of the TU collection, or one of OGB.

    Raises:
        DataError: none of them, or it cannot be used.
    """
    path = Path(path)
    condensed = read_condensed_graphs(path) if is_condensed_graphs(path) else as_condensed(read_graphs(path))
    codebook = None if condensed.codebook is None else torch.as_tensor(condensed.codebook)
    return Graphs([_data(condensed, g) for g in range(len(condensed))], condensed.graphs.classes, codebook)


def _data(condensed: CondensedGraphs, g: int) -> Data:
    graphs = condensed.graphs
    nodes = slice(int(graphs.node_offsets[g]), int(graphs.node_offsets[g + 1]))
    edges = slice(int(graphs.edge_offsets[g]), int(graphs.edge_offsets[g + 1]))
    degrees = graphs.degrees if condensed.degrees is None else condensed.degrees
    labels, features = (torch.as_tensor(one[nodes]) for one in (graphs.node_labels, graphs.node_features))
    found = Data(
        x=labels if labels.shape[1] else features if features.shape[1] else None,
        edge_index=torch.as_tensor(graphs.edges[:, edges] - graphs.node_offsets[g]),
        edge_attr=torch.as_tensor(graphs.edge_labels[edges]) if graphs.edge_labels.shape[1] else None,
        y=torch.tensor([int(graphs.labels[g])]),
        is_root=torch.as_tensor(condensed.is_root[nodes]),
        weight=torch.tensor([float(condensed.weights[g])]),
        degree=torch.as_tensor(degrees[nodes]),
        id=graphs.ids[g],
        num_nodes=nodes.stop - nodes.start,
    )
    if labels.shape[1] and features.shape[1]:
        found.features = features
    return found
