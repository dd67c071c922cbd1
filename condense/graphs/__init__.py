"""Graph condensation: a few graphs, made of a set of labelled ones, that stand for it. One method a file.

mirage  the sets of computation trees that many graphs of a class have; nothing is trained

What methods share stands beside them: computation_trees.py, itemsets.py, sharding.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a stage reads a Config without numpy
    from condense.condensed_graphs import CondensedGraphs
    from condense.graphs.sharding import Shards
    from datagen.contracts.graphs import GraphSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is condensed.

    Attributes:
        graphs: labelled, of two classes or more: in memory, or as shards that are read one after another.
        seed: of everything that is drawn.
    """

    graphs: "GraphSet | Shards"
    seed: int = 0


class GraphsMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, task: Task) -> "CondensedGraphs":
        """The condensed set: the same for equal arguments, however the graphs are cut into shards.

        Raises:
            DataError: the graphs are not what the method works on; the message names the remedy.
            ParamsError: nothing is left at these parameters.
        """
        ...
