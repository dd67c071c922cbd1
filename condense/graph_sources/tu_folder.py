"""A folder of the TU collection: NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt and what else it has.

Morris et al. TUDataset: A collection of benchmark datasets for learning with graphs. 2020. arXiv:2007.08663. Departure:
its sets have no split; the part here is drawn by the seed, class by class.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from condense.graph_sources import GraphSource
from condense.sources._split import Split, part_of
from datagen.contracts.errors import DataError, ParamsError


class Config(Split):
    """The part; by default a tenth of the graphs is for test and a tenth for validation; and the licence.

    The collection states no licence of its sets.
    """

    method: Literal["tu_folder"] = "tu_folder"
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    test_share: float = Field(default=0.1, ge=0, lt=1)
    licence: str = "not stated"


def tu_folder(config: Config, raw: Path | None) -> GraphSource:
    """See `condense.graph_sources.GraphSourceMethod`."""
    import numpy as np

    from datagen.contracts.graph_folders import is_tu, read_tu
    from datagen.contracts.graphs import graphs_of

    if raw is None:
        raise ParamsError("--raw: method tu_folder needs it; name a folder with NAME_A.txt, or one whose raw has it")
    if not is_tu(raw):
        raise DataError(
            f"{raw}: no file NAME_A.txt there, nor in its raw; name the folder of a set of the TU collection"
        )
    graphs = graphs_of(raw, read_tu(raw))
    chosen = part_of(graphs.labels.astype(np.int64), config, str(raw), "graphs")
    return GraphSource(graphs=graphs.take(chosen), licence=config.licence, origin=graphs.ids[0].rpartition("-")[0])
