"""Train a student: an encoder learns the labels of texts, and its thresholds on validation rows."""

from typing import Any

from datagen.contracts.stage import Run, Stage, main
from trainers.encoders import Config, parse
from trainers.students import check_before_training, train_once


def run(run: Run) -> dict[str, Any]:
    """Write the student in transformers' format; go on from a checkpoint where an earlier run was killed."""
    check_before_training(run)
    from datagen.backends.embeddings import resolve_encoder

    return train_once(run, "trainers.encoders:fit", resolve_encoder(run.params[Config].model).revision)


STAGE = Stage(
    name="train_encoder",
    parse=parse,
    inputs={
        "train": "dataset of Examples to learn from, .jsonl or .parquet file of texts with labels",
        "validation": "other such rows, on which the thresholds are chosen",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
