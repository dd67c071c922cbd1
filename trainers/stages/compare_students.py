"""Compare objectives: one student's start, one teacher, the same rows and steps for all, several seeds.

DATA is as train_lm takes it and so are the parameters, but for `objectives=[supervised, forward_kl, ...]` in place of
`objective`; seed i has the same order of rows whatever the objective. HELDOUT is what students are judged on: nats per
token of its completions, calibration of the likeliest next token and, with `n_judged` above 0, the verified rate of
answers to the first so many of its prompts that carry what to verify by. The dataset holds an ObjectiveScore for each
student and one for their start, losses.json what is plotted; time and memory are in the run metrics.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from datagen.backends import local
from datagen.backends.base import Sampling
from datagen.backends.ledger import Ledger, ledger_path
from datagen.contracts.checkpoint import Checkpoints, checkpoint_key
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.licences import made_of
from datagen.contracts.records import Prompt, Trace
from datagen.contracts.stage import Progress, Run, Stage, main
from datagen.verify import by_row
from trainers import lm_students
from trainers.answered import answer, can_be_judged, environment_of
from trainers.lm_comparison import Bench, Config, ObjectiveScore, Outcome, Students, compare, open_bench, parse
from trainers.students import check_before_training, facts_of_several

_CODE = Path(__file__).parents[2]


def run(run: Run) -> dict[str, Any]:
    """Write the students' scores; what is done is kept, so that a run that was killed goes on."""
    check_before_training(run)

    from trainers.lm_comparison_figures import costs, figures, plot_rows

    config, students = run.params[Config], run.params[Students].students
    signals = run.inputs.get("signals")
    models: set[str] = set()
    stated: set[str] = set()  # parameters of students but those that say how a server is reached
    for objective in config.objectives:
        params = lm_students.parse(students | {"objective": objective})
        stated |= params.values().keys()
        if lm_students.needs_teacher(params[lm_students.Config]):
            lm_students.check_inputs(params, has_signals=signals is not None, has_validation=False)
        models |= {params[lm_students.Config].student, *lm_students.teachers_of(params)}
    section = run.params.values() | {"students": {name: students[name] for name in sorted(stated & students.keys())}}
    facts = facts_of_several(run, section, models)
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        bench = open_bench(
            run.params, run.inputs["data"], run.inputs["heldout"], checkpoints.folder, str(signals) if signals else None
        )
        with run.progress(1 + config.seeds * len(config.objectives), "students") as bar:

            def advance(outcome: Outcome) -> None:
                bar.advance(1, note=f"{outcome.objective}, {outcome.nats_per_token:.3f} nats per token")

            outcomes = list(compare(bench, checkpoints.folder, _judge_of(run, bench), advance))
        told = figures(outcomes)
        manifest = {
            "stage": run.name,
            "params": section,
            **made_of({name: path for name, path in run.inputs.items() if name != "run_metrics"}),
            "models": facts["models"],
            "figures": told,
        }
        with DatasetWriter(run.out, ObjectiveScore, manifest) as writer:
            for rejection in bench.rejections:
                writer.read()
                writer.reject(rejection)
            for outcome in outcomes:
                writer.read()
                writer.write(ObjectiveScore.of(outcome))
            writer.attach("losses.json", json.dumps(plot_rows(told), indent=1) + "\n")
        checkpoints.clear()
    run.facts["students"] = costs(outcomes)
    rows = {"learned": len(bench.rows), "held_out": len(bench.held_out), "rejected": len(bench.rejections)}
    return {"objectives": told, "rows": rows}


def _judge_of(run: Run, bench: Bench) -> Callable[[Any], float | None]:
    """What gives a model's verified rate; None where none is asked for.

    Raises:
        DataError: no held-out row carries what to verify by.
    """
    config = run.params[Config]
    if not config.n_judged:
        return lambda _: None
    by_id = {row.trace.prompt.id: row.trace.prompt for row in bench.held_out if can_be_judged(row.trace.prompt)}
    prompts = list(by_id.values())[: config.n_judged]
    if not prompts:
        raise DataError(
            f"{run.inputs['heldout']}: no row has a reference, constraints or tests to verify an answer by; give such "
            "rows, or set n_judged=0"
        )
    return lambda model: _verified_rate(run, bench, model, prompts)


def _verified_rate(run: Run, bench: Bench, model: Any, prompts: list[Prompt]) -> float:
    """Share of greedy answers that pass by their row's verifier; one that is missing does not."""
    decoding = Sampling(temperature=0.0, max_new_tokens=run.params[Config].answer_tokens)
    bar = Progress(run.name, None, "answers")  # not of the students' own
    with tempfile.TemporaryDirectory() as folder, Ledger.open(ledger_path()) as ledger:
        model.save_pretrained(folder)
        bench.tokenizer.save_pretrained(folder)
        with local.local(local.Config(model=folder), environment_of(ledger, "student", bar)) as backend:
            answers = list(answer("student", backend, prompts, decoding, run.name, bar))
    traces = [replace(one, id=str(i)) for i, one in enumerate(answers) if isinstance(one, Trace)]
    passed = sum(verdict.status == "pass" for verdict in by_row.by_row(by_row.Config(), traces))
    return passed / len(prompts)


STAGE = Stage(
    name="compare_students",
    parse=parse,
    inputs={
        "data": "dataset of Traces to learn from, or a .jsonl or .parquet file of `messages` or `prompt`/`completion`",
        "heldout": "likewise, what students are judged on",
    },
    run=run,
    optional_inputs={"signals": "dataset that teacher_signals wrote of the traces, for teacher_kind=cached"},
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
