"""A graph set of `torch_geometric.datasets` by the name of its class and its own: TUDataset:MUTAG, MoleculeNet:BACE.

PyTorch Geometric fetches what it does not find. Whole numbers, such as a molecule's atoms, are labels of nodes or
edges, and columns of which each row has one 1 are one label; other node features are continuous. Of TUDataset, node
attributes are continuous features, node labels are labels, and edge attributes are left out.

Source: Fey, Lenssen. Fast Graph Representation Learning with PyTorch Geometric. 2019. arXiv:1903.02428.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from condense.graph_sources import GraphSource
from condense.sources._split import Split, part_of
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.home import home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datagen.contracts.graph_folders import GraphColumns


class Config(Split):
    """Which set, and which part of it.

    Attributes:
        dataset: CLASS or CLASS:NAME. Of a class with parts of its own it is the part that the class opens by default.
        validation_share: of the graphs, drawn by the seed, class by class.
        test_share: likewise.
        licence: for the manifest.
    """

    method: Literal["pyg"] = "pyg"
    dataset: str
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    test_share: float = Field(default=0.1, ge=0, lt=1)
    licence: str = "see the dataset's own page"


def pyg(config: Config, raw: Path | None) -> GraphSource:
    """See `condense.graph_sources.GraphSourceMethod`.

    Args:
        config: which set.
        raw: the folder that PyTorch Geometric keeps its sets in; by default one of this product's cache.
    """
    import numpy as np

    from datagen.contracts.graphs import graphs_of

    place = Path(config.dataset)
    opened, n_attributes = _open(config.dataset, raw or home() / "pyg")
    graphs = graphs_of(place, _columns(opened, config.dataset, n_attributes))
    chosen = part_of(graphs.labels.astype(np.int64), config, config.dataset, "graphs")
    return GraphSource(graphs=graphs.take(chosen), licence=config.licence, origin=config.dataset)


def _open(dataset: str, root: Path) -> tuple[Sequence[Any], int]:
    """Its graphs, as PyTorch Geometric has them, and how many of their first node columns are known as continuous."""
    try:
        from torch_geometric import datasets
        from torch_geometric.data import Dataset
    except ModuleNotFoundError:
        raise MissingError("method pyg needs PyTorch Geometric: `pip install 'datastill[graph]'`") from None
    kind, _, name = dataset.partition(":")
    opener: Any = getattr(datasets, kind, None)  # its classes take other arguments each
    if Dataset not in getattr(opener, "__mro__", ()):
        raise ParamsError(f"dataset: torch_geometric.datasets has no {kind!r}; give one such as TUDataset:MUTAG")
    options = {"use_node_attr": True} if kind == "TUDataset" else {}
    try:
        found = opener(str(root), name, **options) if name else opener(str(root), **options)
        return list(found), found.num_node_attributes if options else 0
    except TypeError as error:  # arguments that no name gives
        raise ParamsError(f"dataset: {dataset} cannot be opened by its name ({error})") from None
    except (OSError, ValueError, RuntimeError, AssertionError, KeyError) as error:  # offline, or no such set
        said = " ".join(f"{type(error).__name__} {error}".split())
        raise MissingError(f"dataset: {dataset} is not in {root}, and cannot be fetched ({said})") from None


def _columns(graphs: Sequence[Any], name: str, n_attributes: int = 0) -> "GraphColumns":
    import numpy as np

    from datagen.contracts.graph_folders import GraphColumns

    if not graphs:
        raise DataError(f"{name}: holds no graph")

    def table(key: str, n_rows: int) -> "NDArray[Any]":
        parts = [one[key] for one in graphs if one.get(key) is not None]
        if not parts:
            return np.zeros((n_rows, 0), np.int64)
        whole = np.concatenate([part.numpy() for part in parts])
        return whole.reshape(len(whole), -1)

    n_nodes = np.array([one.num_nodes for one in graphs])
    n_edges = np.array([one.num_edges for one in graphs])
    x, edge_attr = table("x", n_nodes.sum()), table("edge_attr", n_edges.sum())
    edge_labels = _labels(edge_attr)
    if edge_labels is None:
        raise DataError(f"{name}: edge_attr is no whole numbers; edges can have labels alone, so choose another set")
    y = table("y", len(graphs))
    if y.shape != (len(graphs), 1) or (y != np.rint(y)).any():
        raise DataError(f"{name}: y has shape {y.shape}, or is no whole number; a graph needs one class")
    classes, labels = np.unique(y[:, 0].astype(np.int64), return_inverse=True)
    attributes, x = x[:, :n_attributes], x[:, n_attributes:]
    node_labels = _labels(x)
    rest = x[:, :0] if node_labels is not None else x
    return GraphColumns(
        n_nodes=n_nodes,
        n_edges=n_edges,
        edges=np.concatenate([one.edge_index.numpy() for one in graphs], axis=1),
        node_labels=np.zeros((len(x), 0), np.int64) if node_labels is None else node_labels,
        edge_labels=edge_labels,
        node_features=np.concatenate([attributes, rest], axis=1).astype(np.float32),
        labels=labels,
        ids=[f"{name}-{i}" for i in range(len(graphs))],
        classes=[str(one) for one in classes.tolist()],
    )


def _labels(values: "NDArray[Any]") -> "NDArray[np.int64] | None":
    """Of whole numbers from 0; one column of such as have one 1 a row. None of other numbers."""
    import numpy as np

    if (values != np.rint(values)).any() or (values < 0).any():
        return None
    whole = values.astype(np.int64)
    is_one_hot = whole.shape[1] > 1 and whole.max(initial=0) == 1 and (whole.sum(axis=1) == 1).all()
    return whole.argmax(axis=1)[:, None] if is_one_hot else whole
