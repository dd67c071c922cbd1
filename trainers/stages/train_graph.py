"""Train students of graphs: fresh networks learn from condensed or real graphs, one for each seed.

--graphs is what condense_graphs wrote, a dataset of Graphs, or a folder of raw graphs; the students are judged on
--test. A node or edge label of --test that no training graph has adds nothing to the node or edge, and is counted.
With keep=best a student's weights are those of the epoch after which --validation was told apart best.
"""

from typing import Any

from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import Run, Stage, load_method, main
from trainers.graph_steps import check_geometric
from trainers.graph_students import Config, parse
from trainers.students import check_before_training, train_once


def run(run: Run) -> dict[str, Any]:
    """Write the students' weights; go on from a checkpoint where an earlier run was killed."""
    check_before_training(run)
    if (run.params[Config].keep == "best") != ("validation" in run.inputs):
        raise ParamsError("keep=best chooses an epoch by --validation, keep=last by none; give both or neither")
    check_geometric()
    load_method("trainers.graph_nets", run.params[Config].net, key="net")
    return train_once(run, "trainers.graph_students:fit", "fresh", packages=["torch_geometric"])


STAGE = Stage(
    name="train_graph",
    parse=parse,
    inputs={
        "graphs": "condensed graphs, dataset of Graphs or folder of raw graphs to learn from",
        "test": "dataset of Graphs or folder of raw graphs that the students are judged on",
    },
    optional_inputs={"validation": "dataset of Graphs or folder of raw graphs to choose the epoch by, for keep=best"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
