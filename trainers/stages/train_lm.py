"""Train a student: a language model learns completions of traces, or texts, from their tokens or from a teacher."""

from typing import Any

from datagen.backends.models import resolve_model
from datagen.contracts.stage import Run, Stage, main
from trainers.lm_students import Config, check_inputs, parse, teachers_of
from trainers.lora import Config as LoraConfig
from trainers.lora import check_adapter
from trainers.students import check_before_training, train_once


def run(run: Run) -> dict[str, Any]:
    """Write the student in transformers' format; go on from a checkpoint where an earlier run was killed."""
    config = run.params[Config]
    check_before_training(run, needs_cuda=config.needs_cuda)
    check_adapter(run.params[LoraConfig])
    check_inputs(
        run.params, has_signals="signals" in run.inputs, has_validation="validation" in run.inputs,
        has_heldout="heldout" in run.inputs, has_weights="weights" in run.inputs,
    )  # fmt: skip
    models = [config.student, *teachers_of(run.params)]
    return train_once(run, "trainers.lm_students:fit", " ".join(resolve_model(name).revision for name in models))


STAGE = Stage(
    name="train_lm",
    parse=parse,
    inputs={
        "data": "dataset of Traces or Documents to learn from, or a .jsonl or .parquet file of `messages`, "
        "`prompt`/`completion` or `text`"
    },
    optional_inputs={
        "signals": "dataset that teacher_signals wrote of the same traces, for teacher_kind=cached",
        "validation": "rows as those of --data, not learned: every judge_every steps their likelihood is taken",
        "heldout": "texts of the domains of --data, not learned: a rule of a mix measures the student on them",
        "weights": "weights.json of domain_weights or mix, in place of a rule",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
