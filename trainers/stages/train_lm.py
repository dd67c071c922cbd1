"""Train a student: a language model learns the completions of verified traces."""

from typing import Any

from datagen.backends.models import resolve_model
from datagen.contracts.stage import Run, Stage, main
from trainers.students import check_before_training, train_once
from trainers.supervised import Config, parse


def run(run: Run) -> dict[str, Any]:
    """Write the student in transformers' format; go on from a checkpoint where an earlier run was killed."""
    config = run.params[Config]
    check_before_training(run, needs_cuda=config.needs_cuda)
    return train_once(run, "trainers.supervised:fit", resolve_model(config.model).revision)


STAGE = Stage(
    name="train_lm",
    parse=parse,
    inputs={"traces": "dataset of Traces to learn from, .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
