"""Make a graph set: from a folder of the TU collection or of OGB, or from a set of PyTorch Geometric.

The output is a dataset of Graphs, a row a graph (datagen/contracts/graphs.py). Its manifest says the classes, how many
labels and features nodes and edges have, the graphs' licence and where they are from.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from condense.graph_sources import GraphSource
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.licences import stated_or_made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.stage import Run, Stage, load_method, main

DEFAULT_METHOD = "tu_folder"


class Config(Params):
    """Which graphs.

    Attributes:
        method: of `condense.graph_sources`.
        node_labels: as they are given, or each node's degree, for sets whose nodes have none.
        node_features: the continuous ones: as they are given, or left out.
        max_graphs: the first so many of the part; by default all.
    """

    method: str = DEFAULT_METHOD
    node_labels: Literal["given", "degree"] = "given"
    node_features: Literal["given", "none"] = "given"
    max_graphs: int | None = Field(None, ge=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    return validate({**section, "method": name}, Config, load_method("condense.graph_sources", name).Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Graphs."""
    import numpy as np

    from datagen.contracts.graphs import GraphRow, graph_rows, label_by_degree

    config = run.params[Config]
    method = load_method("condense.graph_sources", config.method)
    raw = run.inputs.get("raw")
    if raw and not raw.is_dir():
        raise DataError(f"{raw}: no such folder")
    source: GraphSource = getattr(method, config.method)(run.params[method.Config], raw)
    graphs = source.graphs
    if config.max_graphs is not None:
        graphs = graphs.take(np.arange(min(config.max_graphs, len(graphs))))
    if config.node_labels == "degree":
        if graphs.node_labels.shape[1]:
            raise ParamsError(f"node_labels: degree, and nodes of {source.origin} have labels; set node_labels=given")
        graphs = label_by_degree(graphs)
    if config.node_features == "none":
        graphs = replace(graphs, node_features=graphs.node_features[:, :0])
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        **stated_or_made_of({"raw": raw if config.method != "pyg" else None}, source.origin, source.licence),
        "classes": list(graphs.classes),
        "columns": graphs.columns,
        "licence": source.licence,
        "source": source.origin,
    }
    with DatasetWriter(run.out, GraphRow, manifest) as writer, run.progress(len(graphs), "graphs") as bar:
        for row in graph_rows(graphs):
            writer.read()
            writer.write(row)
            bar.advance(1)
    counts = np.bincount(graphs.labels, minlength=len(graphs.classes)).tolist()
    return {
        "rows": writer.rows,
        "classes": dict(zip(graphs.classes, counts, strict=True)),
        "n_nodes": graphs.n_nodes,
        "n_edges": graphs.edges.shape[1],
        "columns": graphs.columns,
    }


STAGE = Stage(
    name="graphs",
    parse=parse,
    inputs={},
    optional_inputs={"raw": "folder of a graph set of the TU collection or of OGB, or of PyTorch Geometric's sets"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
