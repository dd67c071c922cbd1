"""Forgetting: the rows that a network forgets most often while it is trained.

Toneva et al. An Empirical Study of Example Forgetting during Deep Neural Network Learning. 2018. arXiv:1812.05159,
section 3: a forgetting event is a row classified rightly, then wrongly when next looked at; a row that is never right
counts as forgotten more often than any other. Departure: the paper looks whenever a row is in a batch, the candidates'
`correct` says after each epoch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from condense.coresets import Candidates
from condense.coresets._classes import by_class, joined
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READS_TRAINING = True  # so that whoever gives candidates knows that `correct` is needed
MIN_EPOCHS = 2  # an event lies between two


class Config(Params):
    """Nothing to choose."""

    method: Literal["forgetting"] = "forgetting"


def forgetting(config: Config, candidates: Candidates, sizes: Sequence[int], *, seed: int) -> "NDArray[np.int64]":
    """See `condense.coresets.CoresetMethod`; rows that were forgotten as often are put in an order drawn at random."""
    import numpy as np

    classes = by_class(candidates, sizes)
    counts = n_forgotten(candidates)

    def most_forgotten(label: int, rows: "NDArray[np.int64]", size: int) -> "NDArray[np.int64]":
        drawn = np.random.default_rng(derive_seed(seed, "forgetting", label)).permutation(rows)
        return drawn[np.argsort(-counts[drawn], kind="stable")[:size]]

    return joined(most_forgotten(*one) for one in classes)


def n_forgotten(candidates: Candidates) -> "NDArray[np.int64]":
    """(N,) forgetting events of each row; for one that is never right the number of epochs, which no other reaches.

    Raises:
        ParamsError: nobody trained a network on the candidates, or for one epoch only.
        DataError: `correct` is of other rows.
    """
    correct = candidates.correct
    if correct is None or len(correct) < MIN_EPOCHS:
        raise ParamsError(
            f"method: forgetting needs to know what a network in training got right after {MIN_EPOCHS} epochs or more "
            f"(got {0 if correct is None else len(correct)}); give trajectories, or choose another method"
        )
    if correct.shape[1:] != candidates.labels.shape:
        raise DataError(f"candidates: correct has shape {correct.shape}; give {len(candidates.labels)} columns")
    events = (correct[:-1] & ~correct[1:]).sum(axis=0)
    events[~correct.any(axis=0)] = len(correct)
    return events
