"""The folder of a graph set of the Open Graph Benchmark: raw/*.csv.gz, and split/SCHEME/{train,valid,test}.csv.gz.

Hu et al. Open Graph Benchmark: Datasets for Machine Learning on Graphs. 2020. arXiv:2005.00687; for molecules the split
is by scaffold, and each bond becomes an edge in both directions.
"""

from pathlib import Path
from typing import Literal

from condense.graph_sources import GraphSource
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params

_FILES = {"train": "train", "validation": "valid", "test": "test"}


class Config(Params):
    """The part, as OGB's own split has it, in its order; and the licence, for the manifest."""

    method: Literal["ogb_folder"] = "ogb_folder"
    split: Literal["train", "validation", "test", "all"] = "train"
    licence: str = "not stated"


def ogb_folder(config: Config, raw: Path | None) -> GraphSource:
    """See `condense.graph_sources.GraphSourceMethod`."""
    from datagen.contracts.graph_folders import is_ogb, ogb_split, read_ogb
    from datagen.contracts.graphs import graphs_of

    if raw is None:
        raise ParamsError("--raw: method ogb_folder needs it; name a folder with raw/edge.csv.gz and split")
    if not is_ogb(raw):
        raise DataError(f"{raw}: no file raw/edge.csv.gz there; name the folder of a graph set of OGB")
    graphs = graphs_of(raw, read_ogb(raw))
    if config.split != "all":
        chosen = ogb_split(raw, _FILES[config.split], len(graphs))
        if not len(chosen):
            raise ParamsError(f"split: {config.split} has no graph in {raw}; choose another")
        graphs = graphs.take(chosen)
    return GraphSource(graphs=graphs, licence=config.licence, origin=raw.name)
