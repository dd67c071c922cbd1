"""Where real graphs come from; one method a file.

ogb_folder  the folder of a set of the Open Graph Benchmark, with its own split
pyg         a set that PyTorch Geometric opens by name
tu_folder   a folder of the TU collection
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datagen.contracts.graphs import GraphSet


@dataclass(frozen=True, kw_only=True)
class GraphSource:
    """A graph set.

    Attributes:
        graphs: of the part that was asked for.
        licence: under which the graphs are.
        origin: where they are from, as a reader would cite it.
    """

    graphs: "GraphSet"
    licence: str
    origin: str


class GraphSourceMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, raw: Path | None) -> GraphSource:
        """The graphs that the config names.

        Args:
            config: the method's Config.
            raw: what the user gave as --raw.

        Raises:
            ParamsError: `raw` is missing, or a part is empty.
            MissingError: a package or the graph set is not here.
            DataError: the graph set cannot be used.
        """
        ...
