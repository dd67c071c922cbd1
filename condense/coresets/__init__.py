"""Coresets: of each class a few rows of the data itself; condensed sets must beat them. One method a file.

at_random   rows drawn at random: what every other choice is compared with
forgetting  rows that a network forgets most often while it is trained
herding     rows whose mean stays nearest to the mean of their class
k_center    rows that leave none of their class far from all of them
k_means     the row nearest each centre that k-means finds in a class
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a stage reads a Config without numpy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What may be chosen: images, graphs or texts, as vectors.

    Attributes:
        features: (N, D) float, finite: pixels, or an embedding. Distances are Euclidean in it, as it is given.
        labels: (N,) in [0, number of classes).
        correct: (E, N), whether a network in training classified the row rightly after each of E epochs, in order; None
            where nobody trained one.
    """

    features: "NDArray[np.floating[Any]]"
    labels: "NDArray[np.int64]"
    correct: "NDArray[np.bool_] | None" = None


class CoresetMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, candidates: Candidates, sizes: Sequence[int], *, seed: int) -> "NDArray[np.int64]":
        """Positions of the chosen rows among the candidates, class by class, no row twice.

        A class is chosen for itself: neither its rows nor its seed depend on the others.

        Args:
            config: the method's Config.
            candidates: all rows of all classes.
            sizes: how many rows of each class, one number a class; 0 takes none.
            seed: of what is drawn; methods that draw nothing take no notice.

        Returns:
            (sum of `sizes`,), in a class in the order in which they were chosen.

        Raises:
            DataError: a class has fewer rows than its size, or the candidates are no vectors with labels.
            ParamsError: the method needs what the candidates have not.
        """
        ...
