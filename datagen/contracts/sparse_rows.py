"""Sparse rows: a matrix of which only what is not 0 is held, row by row, as the words of a document are.

Source: none; compressed sparse rows as scipy and torch have them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseRows:
    """V rows of D columns with N numbers that may differ from 0.

    Attributes:
        offsets: (V + 1,) int64; row v has the numbers from offsets[v] to offsets[v + 1].
        columns: (N,) int64 in [0, D); one that comes twice in a row counts as the sum.
        values: (N,) float32, finite.
        n_columns: D.
    """

    offsets: Ints
    columns: Ints
    values: Floats
    n_columns: int

    @classmethod
    def of(cls, dense: Floats) -> "SparseRows":
        """What is not 0 in a (V, D) array."""
        rows, columns = np.nonzero(dense)
        offsets = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int64)
        return cls(offsets=offsets, columns=columns, values=dense[rows, columns], n_columns=dense.shape[1])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    @property
    def density(self) -> float:
        """Share of the numbers that are held."""
        return len(self.values) / max(len(self) * self.n_columns, 1)

    @property
    def rows(self) -> Ints:
        """(N,) the row of each number."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def dense(self) -> Floats:
        """(V, D)."""
        full = np.zeros((len(self), self.n_columns), dtype=np.float32)
        np.add.at(full, (self.rows, self.columns), self.values)
        return full

    def take(self, chosen: Ints) -> "SparseRows":
        """The rows at these positions, in their order; one may come twice, and -1 is a row of zeros."""
        sizes = np.append(np.diff(self.offsets), 0)[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        at: Ints = np.arange(int(offsets[-1])) + np.repeat(
            self.offsets[:-1][np.maximum(chosen, 0)] - offsets[:-1], sizes
        )
        return SparseRows(offsets=offsets, columns=self.columns[at], values=self.values[at], n_columns=self.n_columns)

    def normalised(self) -> "SparseRows":
        """Each row over the sum of its absolute values; a row of zeros stays."""
        sums = np.bincount(self.rows, weights=np.abs(self.values), minlength=len(self))
        shares = self.values / np.where(sums > 0, sums, 1.0)[self.rows]
        return SparseRows(
            offsets=self.offsets, columns=self.columns, values=shares.astype(np.float32), n_columns=self.n_columns
        )

    def problem(self) -> str | None:
        """What is wrong with the arrays, and the remedy; None where nothing is."""
        lengths: dict[str, Any] = {"columns": self.columns.shape, "values": self.values.shape}
        if self.offsets.ndim != 1 or len(self.offsets) < 2 or self.columns.ndim != 1 or self.values.ndim != 1:
            return f"offsets have shape {self.offsets.shape}, {lengths}; give V + 1 offsets and one list of each"
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any() or self.offsets[-1] != len(self.columns):
            return f"offsets do not rise from 0 to the {len(self.columns)} columns; give compressed sparse rows"
        if len(self.values) != len(self.columns):
            return f"{len(self.values)} values for {len(self.columns)} columns; give one each"
        if self.n_columns < 1:
            return f"{self.n_columns} columns; nodes need features"
        if len(self.columns) and not 0 <= self.columns.min() <= self.columns.max() < self.n_columns:
            return f"columns run from {self.columns.min()} to {self.columns.max()}; there are {self.n_columns}, from 0"
        if not np.isfinite(self.values).all():
            return "NaN or infinity among the values; replace them"
        return None
