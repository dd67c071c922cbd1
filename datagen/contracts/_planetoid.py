"""Planetoid's raw files, without running what they hold.

    ind.NAME.x, ind.NAME.y          features and one-hot labels of the labelled training nodes
    ind.NAME.allx, ind.NAME.ally    of all nodes but the test's; the training nodes come first
    ind.NAME.tx, ind.NAME.ty        of the test nodes
    ind.NAME.graph                  node to its neighbours
    ind.NAME.test.index             the number of each test node, in the order of tx; text

All but the last are pickles, and a pickle calls whatever it names. Of the names in it these alone are known, and each
stands for a record of our own: scipy's csr_matrix, numpy's ndarray, dtype and the function that starts an array, and
collections.defaultdict of lists. Any other is refused before it is looked up.

Source: the format is that of Yang et al. 2016, arXiv:1603.08861, in its code; pickles as Python's pickletools has them.
"""

import pickle
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.errors import DataError
from datagen.contracts.sparse_rows import SparseRows

_KINDS = frozenset("biuf")
_UNLABELLED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the eight files say.

    Attributes:
        features: of all V nodes; none where no file has any.
        labels: (V,) int64, -1 where no file has one.
        edges: (2, E) int64, node and neighbour, as they are listed.
        n_train: nodes 0 to n_train are the labelled training nodes.
        n_before_test: nodes from here on are the test's, but for those that no file of features knows.
        test: positions of the test nodes, increasing.
    """

    features: SparseRows
    labels: NDArray[np.int64]
    edges: NDArray[np.int64]
    n_train: int
    n_before_test: int
    test: NDArray[np.int64]


def find_names(folder: Path) -> list[str]:
    """NAME of each set in the folder."""
    return sorted(file.name.removeprefix("ind.").removesuffix(".graph") for file in folder.glob("ind.*.graph"))


def read_parts(folder: Path, name: str) -> Parts:
    """One set of the folder.

    Raises:
        DataError: a file is missing, names what is refused, or they disagree.
    """
    y = _matrix(folder, name, "y")
    allx, ally = _rows(folder, name, "allx"), _matrix(folder, name, "ally")
    tx, ty = _rows(folder, name, "tx"), _matrix(folder, name, "ty")
    for rows, labels, which in ((allx, ally, "all"), (tx, ty, "t")):
        if len(rows) != len(labels):
            raise DataError(f"{folder}/ind.{name}.{which}x has {len(rows)} rows, {which}y has {len(labels)}")
    if allx.n_columns != tx.n_columns or not y.shape[1] == ally.shape[1] == ty.shape[1]:
        raise DataError(f"{folder}/ind.{name}: the training and the test files have other columns; fetch them again")
    file = folder / f"ind.{name}.test.index"
    test = _test_index(file)
    if len(test) != len(tx) or len(np.unique(test)) != len(test) or test.min() < len(allx):
        raise DataError(
            f"{file}: names {len(test)} nodes from {test.min()}; expected the {len(tx)} of tx, each once, after the "
            f"{len(allx)} of allx"
        )
    edges, n_listed = _edges(folder, name)
    n_nodes = max(n_listed, int(test.max()) + 1)
    place = np.full(n_nodes, -1, dtype=np.int64)  # of each node among the rows of allx and tx; -1: in none
    place[: len(allx)] = np.arange(len(allx))
    place[test] = len(allx) + np.arange(len(tx))
    both = SparseRows(
        offsets=np.concatenate([allx.offsets, tx.offsets[1:] + allx.offsets[-1]]),
        columns=np.concatenate([allx.columns, tx.columns]),
        values=np.concatenate([allx.values, tx.values]),
        n_columns=allx.n_columns,
    )
    known = np.append(_labels(np.concatenate([ally, ty])), _UNLABELLED)
    return Parts(
        features=both.take(place), labels=known[place], edges=edges, n_train=len(y), n_before_test=len(allx),
        test=np.sort(test),
    )  # fmt: skip


class _Array:
    """Stands for a numpy array; its bytes are read when the file is whole."""

    array: NDArray[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Kind):
            raise pickle.UnpicklingError("an array of an unknown kind")
        flat = np.frombuffer(_bytes(content), dtype=kind.dtype())
        self.array = flat.reshape(shape, order="F" if by_columns else "C")


class _Kind:
    """Stands for a numpy dtype: a number's kind, its size in bytes and the order of these."""

    def __init__(self, name: Any, *_: Any) -> None:
        self._name, self._order = str(name), "="

    def __setstate__(self, state: Any) -> None:
        self._order = {"|": "="}.get(str(state[1]), str(state[1]))

    def dtype(self) -> np.dtype[Any]:
        kind, size = self._name[:1], self._name[1:]
        if kind not in _KINDS or size not in ("1", "2", "4", "8") or self._order not in ("<", ">", "="):
            raise pickle.UnpicklingError(f"an array of {self._name!r}, not of numbers")
        return np.dtype(f"{self._order}{kind}{size}")


class _Csr:
    """Stands for scipy's csr_matrix."""

    state: Mapping[str, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _start_array(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, _: str) -> bytes:
    return _bytes(text)


def _bytes(content: str | bytes) -> bytes:
    """What Python 2 wrote as a text and numpy as bytes."""
    return content.encode("latin1") if isinstance(content, str) else content


_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "csr_matrix"): _Csr for module in ("scipy.sparse.csr", "scipy.sparse._csr")},
    **{(f"{package}.multiarray", "_reconstruct"): _start_array for package in ("numpy.core", "numpy._core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("_codecs", "encode"): _encode,  # bytes, where Python 3 wrote protocol 2
}


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """A stand-in; nothing is imported."""
        try:
            return _KNOWN[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which is not read") from None


def _load(folder: Path, name: str, part: str) -> Any:
    path = folder / f"ind.{name}.{part}"
    try:
        with path.open("rb") as file:
            return _Reader(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; a set has eight files, from ind.{name}.x to .test.index") from None
    except Exception as error:  # what an arbitrary pickle does to a reader has no end of names
        raise DataError(f"{path}: not one of Planetoid's pickles ({error}); fetch it again") from None


def _matrix(folder: Path, name: str, part: str) -> NDArray[Any]:
    loaded = _load(folder, name, part)
    array = getattr(loaded, "array", None)
    if not isinstance(loaded, _Array) or array is None or array.ndim != 2 or not array.size:
        raise DataError(f"{folder}/ind.{name}.{part}: expected a matrix of numbers; fetch it again")
    return array


def _rows(folder: Path, name: str, part: str) -> SparseRows:
    loaded, path = _load(folder, name, part), f"{folder}/ind.{name}.{part}"
    if isinstance(loaded, _Array):
        return SparseRows.of(_matrix(folder, name, part).astype(np.float32))
    try:
        arrays = {key: loaded.state[key].array for key in ("indptr", "indices", "data")}
        rows = SparseRows(
            offsets=arrays["indptr"].astype(np.int64), columns=arrays["indices"].astype(np.int64),
            values=arrays["data"].astype(np.float32), n_columns=index(loaded.state["_shape"][1]),
        )  # fmt: skip
        problem = rows.problem() or (None if len(rows) == loaded.state["_shape"][0] else "another number of rows")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"no compressed sparse rows ({error})"
        rows = None
    if problem or rows is None:
        raise DataError(f"{path}: {problem}; fetch it again")
    return rows


def _labels(one_hot: NDArray[Any]) -> NDArray[np.int64]:
    """(V,) positions of the ones; -1 where there is none."""
    return np.where(one_hot.max(axis=1) > 0, one_hot.argmax(axis=1), _UNLABELLED).astype(np.int64)


def _test_index(file: Path) -> NDArray[np.int64]:
    try:
        numbers = [int(line) for line in file.read_text(encoding="utf-8").split()]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; a set has eight files") from None
    except ValueError as error:
        raise DataError(f"{file}: expected a node's number a line ({error})") from None
    if not numbers:
        raise DataError(f"{file}: names no node")
    return np.array(numbers, dtype=np.int64)


def _edges(folder: Path, name: str) -> tuple[NDArray[np.int64], int]:
    """Edges as listed, and the number of nodes that have a list."""
    loaded, path = _load(folder, name, "graph"), f"{folder}/ind.{name}.graph"
    if not isinstance(loaded, dict) or not loaded:
        raise DataError(f"{path}: expected a node's neighbours by node; fetch it again")
    lists = cast(dict[Any, Any], loaded)
    try:
        pairs = [(index(node), index(other)) for node, others in lists.items() for other in others]
        edges = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        nodes = [index(node) for node in lists]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: a node or a neighbour is no whole number ({error}); fetch it again") from None
    n_nodes = len(nodes)
    if min(nodes) != 0 or max(nodes) != n_nodes - 1:
        raise DataError(f"{path}: its {n_nodes} nodes are not numbered from 0; fetch it again")
    return edges, n_nodes
