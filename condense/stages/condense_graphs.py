"""Condense a graph set: a method makes a few graphs that train students as many do, or chooses some as a coreset.

--graphs is a dataset of Graphs, a folder of the TU collection, or one of OGB: all of its parts, as `datastill graphs`
alone takes one. Of a dataset, a method of `condense.graphs` reads one shard after another, on the workers of a cluster
where one is named. The output is a dataset of Graphs with the condensed set beside them (condense/condensed_graphs.py);
its manifest says in `size_bytes` what the set takes, and in `raw_bytes` what the graphs take that it was made of, in
one serialisation. `condense.pyg.open_graphs` opens it for PyTorch Geometric.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.contracts.dataset import is_dataset
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, find_methods, load_method, main

if TYPE_CHECKING:  # a stage reads a Config without numpy
    from condense.condensed_graphs import CondensedGraphs
    from datagen.contracts.graphs import GraphSet

DEFAULT_METHOD = "mirage"
FAMILIES = ("condense.graphs", "condense.coresets")
_GRAPHS = 2000  # at a time, where a dataset is read


class Config(Params):
    """What is condensed, and how much is left.

    Attributes:
        method: of `condense.graphs`, or of `condense.coresets`.
        layers: depth of the computation trees that a set is made of, or that a coreset is chosen by.
        byte_budget: of the stored set, codebook included; a coreset needs it.
        quantise: continuous node features into so many codes, one more label of a node; by default not.
        node_features: the continuous ones: as they are given, or left out.
        seed: of everything that is drawn.
    """

    method: str = DEFAULT_METHOD
    layers: int = Field(3, ge=0)
    byte_budget: int | None = Field(None, ge=1)
    quantise: int | None = Field(None, ge=2)
    node_features: Literal["given", "none"] = "given"
    seed: int = 0


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    family = _family(name)
    parts = validate({**section, "method": name}, Config, load_method(family, name).Config)
    config = parts[Config]
    if family == "condense.coresets" and config.byte_budget is None:
        raise ParamsError(f"byte_budget: required, and not given; {name} takes as many graphs as it pays for")
    if config.quantise is not None and config.node_features == "none":
        raise ParamsError("quantise: there is nothing to quantise with node_features none; leave one of them out")
    return parts


def run(run: Run) -> dict[str, Any]:
    """Write the condensed set."""
    import numpy as np

    from condense.condensed_graphs import count_bytes_of_all, paper_bytes, write_condensed_graphs

    config, path = run.params[Config], run.inputs["graphs"]
    stated: dict[str, Any] = {"graphs_are": "real" if _family(config.method) == "condense.coresets" else "made"}
    with run.progress(3, "steps") as bar:
        graphs = None if _streams(config, path) else _read(path)
        stated |= {"raw_bytes": count_bytes_of_all(_checked(config, path, graphs))["total"]}
        bar.advance(1, note=f"{path} read")
        made, said = _condense(run, path, graphs)
        bar.advance(1, note=f"{len(made)} graphs by {config.method}")
        counts = np.bincount(made.graphs.labels, minlength=len(made.graphs.classes)).tolist()
        stated |= said | {"n_patterns": dict(zip(made.graphs.classes, counts, strict=True))}
        manifest = {
            "stage": run.name,
            "method": config.method,
            "params": run.params.values(),
            **made_of({"graphs": path}),
        }
        size = write_condensed_graphs(run.out, made, {**manifest, **stated})
        bar.advance(1, note=f"{size['total']} bytes")
    sizes = {"size_bytes": size["total"], "paper_bytes": paper_bytes(made), "bytes": size}
    return {"n_graphs": len(made), **stated, **sizes}


def _family(method: object) -> str:
    """The family that has it.

    Raises:
        ParamsError: none; the message lists both families' methods.
    """
    found = {name: family for family in FAMILIES for name in find_methods(family)}
    if method not in found:
        raise ParamsError(f"method: no {method!r}; there are {', '.join(sorted(found))}")
    return found[str(method)]


def _streams(config: Config, path: Path) -> bool:
    """Whether the graphs are read a shard at a time; a coreset and a codebook are of all of them at once."""
    return is_dataset(path) and _family(config.method) == "condense.graphs" and config.quantise is None


def _read(path: Path) -> "GraphSet":
    from datagen.contracts.graphs import read_graphs

    return read_graphs(path)


def _checked(config: Config, path: Path, graphs: "GraphSet | None") -> "Iterator[GraphSet]":
    """The graphs, or those of the dataset, some at a time; what is wrong with all of them is said behind the last.

    Raises:
        DataError: a class has no graph.
        ParamsError: nodes have continuous features where labels are needed, or none where they are to be quantised.
    """
    import numpy as np

    from datagen.contracts.graphs import iterate_graphs

    counts: Any = 0
    classes: list[str] = []
    for some in iterate_graphs(path, _GRAPHS) if graphs is None else [graphs]:
        n_features = some.node_features.shape[1]
        if config.quantise is not None and not n_features:
            raise ParamsError(f"quantise: nodes of {path} have no continuous features; leave it out")
        is_tree = _family(config.method) == "condense.graphs"
        if n_features and is_tree and config.quantise is None and config.node_features == "given":
            raise ParamsError(
                f"node_features: nodes of {path} have {n_features} continuous features, and {config.method} reads "
                "labels; set quantise to a number of codes, or node_features=none"
            )
        counts = counts + np.bincount(some.labels, minlength=len(some.classes))
        classes = list(some.classes)
        yield some
    for name, count in zip(classes, np.atleast_1d(counts).tolist(), strict=False):
        if not count:
            raise DataError(f"{path}: class {name!r} has no graph; condense a part that has every class")
    if len(classes) < 2:
        raise DataError(f"{path}: has {len(classes)} classes; a student needs two or more")


def _condense(run: Run, path: Path, graphs: "GraphSet | None") -> "tuple[CondensedGraphs, dict[str, Any]]":
    """The set, and what the manifest says of it besides."""
    config = run.params[Config]
    family = _family(config.method)
    method = load_method(family, config.method)
    own = run.params[method.Config]
    seed = derive_seed(config.seed, "condense")
    said: dict[str, Any] = {}
    codebook = None
    if graphs is not None and config.node_features == "none":
        graphs = replace(graphs, node_features=graphs.node_features[:, :0])
    if graphs is not None and config.quantise is not None:
        from condense.quantisation import fit_codebook, loss, quantised

        codebook = fit_codebook(graphs.node_features, config.quantise, seed=derive_seed(config.seed, "codebook"))
        said = {"n_codes": len(codebook), "quantisation_loss": loss(graphs.node_features, codebook)}
        graphs = quantised(graphs, codebook)
    if family == "condense.coresets":
        from condense.condensed_graphs import as_condensed
        from condense.graph_coresets import choose_within
        from condense.graph_embedding import embed_graphs

        assert graphs is not None and config.byte_budget is not None
        features = embed_graphs(graphs, config.layers, seed=seed)
        chosen = choose_within(
            config.method, graphs, features, config.byte_budget, config.seed, config=own, codebook=codebook
        )
        return as_condensed(graphs.take(chosen), codebook), said
    from condense.graphs import Task
    from condense.graphs.sharding import Shards

    if codebook is not None and config.byte_budget is not None:
        left = config.byte_budget - codebook.nbytes
        if left < 1:
            raise ParamsError(
                f"byte_budget: the codebook alone takes {codebook.nbytes} bytes (got {config.byte_budget}); give more, "
                "or set quantise lower"
            )
        own = own.model_copy(update={"byte_budget": left})
    # workers have working directories of their own
    made = getattr(method, config.method)(own, Task(graphs=graphs or Shards(path=path.resolve()), seed=seed))
    return replace(made, codebook=codebook), said


STAGE = Stage(
    name="condense_graphs",
    parse=parse,
    inputs={"graphs": "dataset of Graphs to condense, or a folder of the TU collection or of OGB"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
