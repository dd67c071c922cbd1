"""Students of one cell after another, at the rate that suits them; what is done is kept, so that a killed run goes on.

Source: none; what the evaluations of images and of graphs have in common.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.contracts.cluster import map_chunks
from trainers.protocol import Cell, Outcome

Positions = NDArray[np.int64]
"""A coreset: where its rows stand in the training set."""

_STORED = ("learning_rate", "accuracy", "validation", "seconds", "auc", "weights")


class Student(NamedTuple):
    """A trained network, the seconds that it took, and what it is on the validation set, by the measure that counts."""

    net: torch.nn.Module
    seconds: float
    validation: float


def train_cells(train: Callable[[Cell], Outcome], cells: Sequence[Cell], kept: Path) -> Iterator[Outcome]:
    """Each cell's outcome, in order; over the workers of a cluster where one is named.

    Args:
        train: a cell; it is sent to the workers.
        cells: what is trained.
        kept: folder that holds the outcomes of this training and no other, those of a run that was killed too.
    """
    left = [cell for cell in cells if not _file(kept, cell).exists()]
    trained = map_chunks(train, left)
    for cell in cells:
        file = _file(kept, cell)
        if not file.exists():
            _, outcome = next(trained)
            stored = {name: getattr(outcome, name) for name in _STORED}
            torch.save(stored, file.with_suffix(".writing"))
            file.with_suffix(".writing").rename(file)
        yield Outcome(cell=cell, **torch.load(file, weights_only=True))


def at_best_rate(
    rates: Sequence[float], seeds: int, seeds_for_rate: int, train: Callable[[float, int], Student]
) -> tuple[float, list[Student]]:
    """The rate with the best mean on the validation set, of equal ones the first, and the students of all seeds at it.

    Args:
        rates: one alone is not compared.
        seeds: number of students.
        seeds_for_rate: of them, the first, by whose mean the rate is chosen.
        train: the student of a rate and a seed; called once for each.
    """
    students: dict[tuple[float, int], Student] = {}

    def student(rate: float, i: int) -> Student:
        if (rate, i) not in students:
            students[rate, i] = train(rate, i)
        return students[rate, i]

    best = rates[0]
    if len(rates) > 1:
        tried = range(seeds_for_rate)
        best = max(rates, key=lambda rate: sum(student(rate, i).validation for i in tried))
    return best, [student(best, i) for i in range(seeds)]


def _file(kept: Path, cell: Cell) -> Path:
    place = "\0".join((cell.arm.name, cell.regime, cell.net, cell.transform))
    return kept / f"outcome-{hashlib.sha256(place.encode()).hexdigest()[:32]}.pt"
