"""The nearest of many vectors by their dot product, exactly: products of blocks, and nothing of rows times rows.

Vectors of length one have their cosine as dot product. Of R rows against N, 2 R N E operations are done, whichever way
is asked: a block of products gives the best of each row and of each column. In memory are one block (64 MB at 4,096),
12 bytes a row each way, and the inputs, which may be memory-mapped files: then a block of `vectors` is read once and
`others` once for each block of `vectors`. A million against a million at 384 dimensions are 7.7e14 operations:
`python -m benchmarks.embedding_search` takes the time of a slice of them, and says what all would take.

There is no approximate index: a neighbour that it misses lowers a rate of matches, and nobody sees by how much without
the exact search beside it.

Where `$DATASTILL_DEVICE` or torch says that there is a GPU, products of many rows are computed there, in float32, by
blocks of four times as many rows a side.

Axes: R rows, N others, E vector.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import DataError

BLOCK = 4096
_STRIP = 64  # rows of a block that are looked through for the row of a column's best
_GPU_BLOCKS = 4  # times as many rows a side: the vectors move there more slowly than they are multiplied
_LEAST_FOR_GPU = 2**26  # products below which moving the vectors costs more than it saves


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Of each row the greatest dot product with any other (float32; -inf where there is none), and whose it is, or -1.

    Of others with equal products it is the first.
    """

    similarities: NDArray[np.float32]
    rows: NDArray[np.int64]


def open_vectors(path: Path) -> NDArray[Any]:
    """The matrix in a .npy file, (R, E), mapped into memory: its rows are read as they are needed.

    Raises:
        DataError: there is no such file, or it holds no matrix of real numbers.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:
        raise DataError(f"{path}: no .npy file of numbers ({error}); write it by numpy.save") from None
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise DataError(
            f"{path}: holds {vectors.dtype} of shape {vectors.shape}; give floats of shape (rows, dimensions)"
        )
    return vectors


def nearest(
    vectors: NDArray[Any],
    others: NDArray[Any],
    *,
    least: float = -math.inf,
    block: int = BLOCK,
    names: tuple[str, str] = ("vectors", "others"),
) -> Neighbours:
    """For each of `vectors` (R, E) the nearest of `others` (N, E), of any float type; ties: the first.

    Args:
        vectors: whose neighbours are looked for.
        others: among which.
        least: a neighbour with a lower product is not named (-1), which saves the time of finding out which it is.
        block: rows on each side whose products are in memory at once.
        names: what the two are called in errors, such as their files.

    Raises:
        DataError: dimensions differ, or a vector holds a number that is not finite.
    """
    return _search(vectors, others, least, block, names, both=False)[0]


def nearest_both(
    vectors: NDArray[Any],
    others: NDArray[Any],
    *,
    block: int = BLOCK,
    names: tuple[str, str] = ("vectors", "others"),
) -> tuple[Neighbours, Neighbours]:
    """`nearest` of each of `vectors` among `others`, and the other way round, from the same products."""
    of_vectors, of_others = _search(vectors, others, -math.inf, block, names, both=True)
    return of_vectors, of_others


def _search(
    vectors: NDArray[Any], others: NDArray[Any], least: float, block: int, names: tuple[str, str], *, both: bool
) -> tuple[Neighbours, Neighbours]:
    if vectors.ndim != 2 or others.ndim != 2 or vectors.shape[1] != others.shape[1]:
        raise DataError(
            f"{names[0]} are {_shape(vectors)}, {names[1]} {_shape(others)}; embed both by the same embedder, in the "
            "same revision"
        )
    of_rows, of_columns = _nobody(len(vectors)), _nobody(len(others) if both else 0)
    if len(vectors) * len(others) >= _LEAST_FOR_GPU and device_type() == "cuda":
        block *= _GPU_BLOCKS
        compare = _by_torch("cuda", both=both)
    else:
        compare = _on_cpu(min(block, len(vectors)) * min(block, len(others)), both=both)
    for start in range(0, len(vectors), block):
        left = _block(vectors, start, block, names[0])
        for first in range(0, len(others), block):
            right = _block(others, first, block, names[1], check=start == 0)
            compare(left, right, start, first, of_rows, of_columns, least)
    return of_rows, of_columns


def _on_cpu(room: int, *, both: bool) -> Any:
    products_of = np.empty(room, np.float32)  # new memory for each block takes time
    named = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    n_threads = int(named.split(",")[0])  # as many as multiply
    threads = ThreadPoolExecutor(n_threads)

    def compare(
        left: NDArray[np.float32], right: NDArray[np.float32], start: int, first: int,
        of_rows: Neighbours, of_columns: Neighbours, least: float,
    ) -> None:  # fmt: skip
        shape = (len(left), len(right))
        products = np.matmul(left, right.T, out=products_of[: math.prod(shape)].reshape(shape))
        size = math.ceil(len(left) / n_threads / _STRIP) * _STRIP

        def of_part(at: int) -> list[NDArray[np.float32]]:
            """The best of each column in every strip of these rows, and on the way that of each row."""
            part = products[at : at + size]
            _improve_rows(part, start + at, first, of_rows, least)
            return [part[i : i + _STRIP].max(axis=0) for i in range(0, len(part), _STRIP)] if both else []

        strips = [strip for strips in threads.map(of_part, range(0, len(left), size)) for strip in strips]
        if both:
            _improve_columns(products, np.stack(strips), start, first, of_columns)

    return compare


def _improve_rows(products: NDArray[np.float32], start: int, first: int, of: Neighbours, least: float) -> None:
    top = products.max(axis=1)
    better = np.flatnonzero(top > of.similarities[start : start + len(products)])
    of.similarities[start + better] = top[better]
    asked = better[top[better] >= least]
    of.rows[start + asked] = products[asked].argmax(axis=1) + first


def _improve_columns(
    products: NDArray[np.float32], highest: NDArray[np.float32], start: int, first: int, of: Neighbours
) -> None:
    """A column's numbers stand far apart: the strip of rows that holds the best is found first, then read."""
    top = highest.max(axis=0)
    better = np.flatnonzero(top > of.similarities[first : first + products.shape[1]])
    strip = highest[:, better].argmax(axis=0) * _STRIP
    within = np.minimum(strip[:, None] + np.arange(_STRIP), len(products) - 1)  # the last row again never comes first
    of.similarities[first + better] = top[better]
    of.rows[first + better] = start + strip + products[within, better[:, None]].argmax(axis=1)


def _by_torch(device: str, *, both: bool) -> Any:
    import torch

    there: dict[str, Any] = {}  # the block of `vectors` that was moved last

    def best(products: "torch.Tensor", dim: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The greatest along `dim`, and the first place where it stands: torch's argmax may name any of equal ones."""
        top = products.amax(dim=dim, keepdim=True)
        places = torch.arange(products.shape[dim], dtype=torch.int32, device=products.device)
        where = torch.where(products == top, places.unsqueeze(1 - dim), products.shape[dim]).amin(dim=dim)
        return top.squeeze(dim).cpu().numpy(), where.cpu().numpy()

    def improve(top: NDArray[Any], where: NDArray[Any], at: int, offset: int, of: Neighbours, least: float) -> None:
        better = np.flatnonzero(top > of.similarities[at : at + len(top)])
        of.similarities[at + better] = top[better]
        asked = better[top[better] >= least]
        of.rows[at + asked] = where[asked] + offset

    def compare(
        left: NDArray[np.float32], right: NDArray[np.float32], start: int, first: int,
        of_rows: Neighbours, of_columns: Neighbours, least: float,
    ) -> None:  # fmt: skip
        if there.get("start") != start:
            there.update(start=start, left=torch.tensor(left, device=device))
        products = there["left"] @ torch.tensor(right, device=device).T
        improve(*best(products, 1), start, first, of_rows, least)
        if both:
            improve(*best(products, 0), first, start, of_columns, -math.inf)

    return compare


def _block(vectors: NDArray[Any], start: int, block: int, name: str, *, check: bool = True) -> NDArray[np.float32]:
    rows = np.asarray(vectors[start : start + block], np.float32)
    if check and not np.isfinite(rows).all():
        bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise DataError(
            f"{name}: row {start + bad} holds {rows[bad][~np.isfinite(rows[bad])][0]}; a vector is finite: look at the "
            "text that it stands for, and embed it again"
        )
    return rows


def _nobody(n: int) -> Neighbours:
    return Neighbours(np.full(n, -np.inf, np.float32), np.full(n, -1, np.int64))


def _shape(vectors: NDArray[Any]) -> str:
    if vectors.ndim != 2:
        return f"an array of shape {vectors.shape}"
    return f"{len(vectors)} vectors of {vectors.shape[1]} dimensions"
