"""Evaluate an encoder student: F1, calibration and a table by class, on rows that it never saw.

The dataset holds a Prediction for each row: its labels, every class's probability, and the classes predicted.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Example, Label, Prediction, Rejection
from datagen.contracts.stage import Run, Stage, main
from trainers.device import check_packages
from trainers.encoders import encode_rows
from trainers.students import check_usable


class Config(Params):
    """How it is evaluated.

    Attributes:
        threshold: of every class; by default the model's own, which train_encoder stored with it.
        positive_from: the weight from which a label of a test row holds.
        n_resamples: of the rows, for the interval of macro-F1.
        micro_batch_tokens: how many tokens go through the network at once, padding included.
        n_threads: on the CPU.
        seed: of the resampling.
    """

    threshold: float | Literal["of_model"] = "of_model"
    positive_from: float = Field(0.3, gt=0, le=1)
    n_resamples: int = Field(2000, ge=1)
    micro_batch_tokens: int = Field(4096, ge=1)
    n_threads: int = Field(2, ge=1)
    seed: int = 0


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    params = validate(section, Config, InputParams)
    threshold = params[Config].threshold
    if threshold != "of_model" and not 0 <= threshold <= 1:
        raise ParamsError(f"threshold: must be in [0, 1], or of_model (got {threshold})")
    return params


def run(run: Run) -> dict[str, Any]:
    """Write the predictions; the figures are in the manifest too."""
    check_packages()
    from trainers.class_figures import figures
    from trainers.classifier import open_classifier
    from trainers.encoders import holds
    from trainers.text_pairs import probabilities

    config, folder, test = run.params[Config], run.inputs["model"], run.inputs["test"]
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: no folder of a model (it has no config.json); run train_encoder, or name another")
    model = open_classifier(folder, config.n_threads)
    thresholds = model.thresholds(None if config.threshold == "of_model" else config.threshold)
    rows = list(Rows(test, Example, run.name, run.params[InputParams]))
    encoded = encode_rows(rows, model.labels, model.tokenizer, model.max_tokens, run.name)
    pairs = [one for one in encoded if not isinstance(one, Rejection)]
    rejected = [one for one in encoded if isinstance(one, Rejection)]
    check_usable(str(test), rejected, len(rows), run.params[InputParams].max_rejected_share, frozenset())
    if not pairs:
        raise DataError(f"{test}: no row to evaluate on; the first is {rejected[0].reason}: {rejected[0].detail}")
    found = probabilities(model.network, pairs, model.pad_token, config.micro_batch_tokens).double().numpy()
    metrics = figures(
        model.labels, found, holds(pairs, config.positive_from), thresholds,
        n_resamples=config.n_resamples, seed=config.seed,
    )  # fmt: skip
    manifest = {
        "stage": run.name,
        "params": run.params.values(),
        **made_of(run.inputs),
        "figures": metrics,
    }
    says: list[list[float]] = found.tolist()
    predicted: list[list[bool]] = (found >= thresholds).tolist()
    outcomes = zip(says, predicted, strict=True)
    with DatasetWriter(run.out, Prediction, manifest) as writer:
        for row, one in zip(rows, encoded, strict=True):
            writer.read()
            if isinstance(one, Rejection) or isinstance(row, Rejection):
                writer.put(one if isinstance(one, Rejection) else row)
            else:
                writer.put(_prediction(row, model.labels, *next(outcomes)))
    return metrics | {"rows": writer.rows, "rejected": dict(sorted(writer.reasons.items()))}


def _prediction(row: Example, names: list[str], probabilities: list[float], predicted: list[bool]) -> Prediction:
    return Prediction(
        id=row.id,
        family=row.family,
        labels=row.labels,
        probabilities=[Label(name=name, weight=value) for name, value in zip(names, probabilities, strict=True)],
        predicted=[name for name, is_predicted in zip(names, predicted, strict=True) if is_predicted],
    )


STAGE = Stage(
    name="evaluate_encoder",
    parse=parse,
    inputs={
        "model": "folder that train_encoder wrote, or any classifier of transformers, given a threshold",
        "test": "dataset of Examples that the student did not see, .jsonl or .parquet file of texts with labels",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
