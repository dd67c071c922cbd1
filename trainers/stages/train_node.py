"""Distil a graph network into an MLP on one graph of nodes: for each seed a teacher, its student, and a plain MLP.

--graph is a folder with Planetoid's raw files (name=cora where it holds several sets), or an .npz file with edges,
labels, features, train, validation and test.
"""

from importlib.util import find_spec
from typing import Any

from datagen.contracts.errors import MissingError
from datagen.contracts.stage import Run, Stage, main
from trainers.node_students import parse
from trainers.students import check_before_training, train_once


def run(run: Run) -> dict[str, Any]:
    """Write teachers and students; go on after the seeds that an earlier run finished before it was killed."""
    if find_spec("torch_geometric") is None:
        raise MissingError(f"{run.name} needs torch_geometric: `pip install 'datastill[graph]'`")
    check_before_training(run)
    return train_once(run, "trainers.node_students:fit", "fresh", packages=["torch_geometric"])


STAGE = Stage(
    name="train_node",
    parse=parse,
    inputs={"graph": "folder with Planetoid's files ind.NAME.*, or an .npz file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
