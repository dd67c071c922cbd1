"""Evaluate a language model: how likely it finds given answers or texts, and how many of its own are verified.

DATA is a dataset of Traces, Documents or Prompts, or a .jsonl or .parquet file of one, that the model never saw. Of
rows with an answer, `messages` that end on the assistant's turn or `prompt` and `completion`, and of rows with `text`
come `nats_per_token` and `bits_per_byte`; of rows with a verifier (a reference, constraints or tests of code),
`verified_rate` of the answers that the model gives to their prompts. With `before=MODEL`, such as the one that training
started from, each of them is that of both models, `before` and `after`, with the paired bootstrap interval of the
verified rates' difference.

The output holds the models' answers as Traces whose `teacher` is `before` or `after`, `verdicts.parquet` and, of rows
with an answer, `likelihoods.parquet`; without `--out` there are metrics alone.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import polars as pl
from pydantic import Field

from datagen.backends import local
from datagen.backends.base import Sampling, TextBackend
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.transformers_models import device_type
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Document, Prompt, Rejection, Trace, Verdict
from datagen.contracts.stage import Run, Stage, load_method, main
from trainers import likelihood
from trainers.answered import AFTER, BEFORE, answer, can_be_judged, environment_of, rates_of, write
from trainers.device import check_packages
from trainers.harness import answerable, check_harness, lm_eval_scores, load
from trainers.students import check_usable, count_reasons

DEFAULT_METHOD = "by_row"


class Config(Params):
    """How answers are scored, judged and compared.

    `before` is a model to compare with, by name or folder. `harness` lm_eval runs EleutherAI's harness besides, on the
    prompts whose reference is a number, such as GSM8K's. `micro_batch_tokens` bounds what is scored at once. A text is
    read in pieces of at most `text_tokens`.
    """

    method: str = DEFAULT_METHOD
    before: str | None = None
    n_resamples: int = Field(2000, ge=1)
    harness: Literal["none", "lm_eval"] = "none"
    micro_batch_tokens: int = Field(2048, ge=1)
    text_tokens: int = Field(1024, ge=2, json_schema_extra={"unless_default": True})


class Asked(Params):
    """How the models are run; as `datagen.backends.local` says."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = Field(64, ge=1)
    max_prompt_tokens: int = Field(1024, ge=1)


class Decoding(Sampling):
    """Greedy, unless the section says otherwise."""

    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(128, ge=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the verifier's Config."""
    method = load_method("datagen.verify", section.get("method", DEFAULT_METHOD))
    if hasattr(method, "opened"):
        raise ParamsError(
            "method: asks a backend of its own, and evaluate_lm asks the models alone; judge its answers by "
            f"`datastill verify --traces EVALUATION` (got {section['method']!r})"
        )
    return validate(section, Config, method.Config, Asked, Decoding, InputParams)


def run(run: Run) -> dict[str, Any]:
    """Score, answer and judge; the figures are in the manifest too."""
    check_packages()
    config, model, data = run.params[Config], run.inputs["model"], run.inputs["data"]
    if not (model / "config.json").is_file():
        raise DataError(f"{model}: no folder of a model (it has no config.json); run train_lm, or name another")
    rows = list(open_rows(data, run.name, run.params[InputParams]))
    traces = [row for row in rows if isinstance(row, Trace)]
    scored = [row for row in rows if isinstance(row, Trace | Document)]
    asked: list[Prompt | Rejection] = [*_asked(traces, named=config.method != DEFAULT_METHOD)]
    if not scored:
        asked = [row for row in rows if isinstance(row, Prompt | Rejection)]
    prompts = [row for row in asked if isinstance(row, Prompt)]
    if not scored and not prompts:
        raise DataError(f"{data}: no answer or text to score, and no prompt to evaluate on")
    if not scored and config.method == DEFAULT_METHOD and not any(map(can_be_judged, prompts)):
        raise DataError(f"{data}: no row has an answer to score, or a reference, constraints or tests to judge one by")
    if config.harness == "lm_eval":
        check_harness()
        answerable(prompts)
    models = {BEFORE: config.before, AFTER: str(model)} if config.before else {AFTER: str(model)}
    metrics, table, dropped = _score(run, rows, models) if scored else ({}, None, [])
    answers, verdicts, identities = _ask(run, prompts, models) if prompts else ({}, {}, {})
    if prompts:
        seed = run.params[Decoding].seed
        metrics |= rates_of(prompts, verdicts, n_resamples=config.n_resamples, seed=seed)
    if config.harness == "lm_eval":
        metrics["harness"] = _run_harness(run, prompts, verdicts[AFTER], answerable(prompts))
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        **made_of(run.inputs),
        "models": identities,
        "figures": metrics,
    }
    with DatasetWriter(run.out, Trace, manifest, {"verdicts": Verdict}) as writer:
        write(writer, [*dropped, *asked], answers, verdicts)
        if table is not None:
            writer.attach("likelihoods.parquet", table)
    return metrics | {"rows": writer.rows, "rejected": dict(writer.reasons)}


def _asked(traces: Sequence[Trace], *, named: bool) -> list[Prompt]:
    """The prompts of answers that can be judged, each once; where a method was `named`, it says which those are."""
    found: dict[str, Prompt] = {}
    for trace in traces:
        if trace.prompt.messages and (named or can_be_judged(trace.prompt)):
            found.setdefault(trace.prompt.id, trace.prompt)
    return list(found.values())


def _score(
    run: Run, rows: Sequence[Trace | Document | Rejection], models: Mapping[str, str]
) -> tuple[dict[str, Any], bytes, list[Rejection]]:
    """The figures, the table of rows, and the rows that cannot be scored."""
    config = run.params[Config]
    found = likelihood.compare(
        models, rows, dtype=run.params[Asked].dtype, max_tokens=config.micro_batch_tokens,
        text_tokens=config.text_tokens, stage=run.name,
    )  # fmt: skip
    bound = run.params[InputParams].max_rejected_share
    check_usable(str(run.inputs["data"]), found.rejections, len(rows), bound, frozenset())
    if not found.ids:
        raise DataError(f"{run.inputs['data']}: no row is left to score: {count_reasons(found.rejections)}")
    figures = {who: likelihood.figures(each) for who, each in found.by_model.items()}
    names = ("nats_per_token", "bits_per_byte", "n_tokens", "n_bytes")
    metrics: dict[str, Any] = {"n_scored": len(found.ids)} | (
        figures[AFTER]
        if len(models) == 1
        else {name: {who: theirs[name] for who, theirs in figures.items()} for name in names}
    )
    table = io.BytesIO()
    pl.concat(
        pl.DataFrame(
            {"id": found.ids, "model": who}
            | {name: [getattr(one, name) for one in each] for name in likelihood.Likelihood._fields}
        )
        for who, each in found.by_model.items()
    ).write_parquet(table, compression="zstd")
    return metrics, table.getvalue(), found.rejections


def _ask(
    run: Run, prompts: Sequence[Prompt], models: Mapping[str, str]
) -> tuple[dict[str, list[Trace | Rejection]], dict[str, list[Verdict | None]], dict[str, Any]]:
    """Each model's answers with their verdicts, and which model it is."""
    answers: dict[str, list[Trace | Rejection]] = {}
    identities: dict[str, Any] = {}
    with Ledger.open(ledger_path()) as ledger, run.progress(len(models) * len(prompts), "answers") as bar:
        for who, model in models.items():
            environment = environment_of(ledger, who, bar)
            backend = local.Config(model=model, **run.params[Asked].model_dump())
            opened: AbstractContextManager[TextBackend] = local.local(backend, environment)
            with opened as teacher:
                identities[who] = dict(teacher.identity)
                answers[who] = list(answer(who, teacher, prompts, run.params[Decoding], run.name, bar))
            run.facts.update({f"{name}_{who}": n for name, n in environment.counts.items()})
    return answers, {who: list(_judge(run.params, theirs)) for who, theirs in answers.items()}, identities


def _judge(params: Parts, answers: Sequence[Trace | Rejection]) -> Iterator[Verdict | None]:
    """The verdict of every answer; None where there is no answer."""
    name = params[Config].method
    method = load_method("datagen.verify", name)
    verdicts = getattr(method, name)(params[method.Config], (row for row in answers if isinstance(row, Trace)))
    for row in answers:
        yield next(verdicts) if isinstance(row, Trace) else None


def _run_harness(
    run: Run, prompts: Sequence[Prompt], verdicts: Sequence[Verdict | None], positions: Sequence[int]
) -> dict[str, Any]:
    """The model's accuracy by our verdicts and by the harness, and on how many prompts the two differ."""
    backend = run.params[Asked]
    model = load(run.inputs["model"], device=device_type(), dtype=backend.dtype, batch_size=backend.batch_size)
    asked = [prompts[i] for i in positions]
    theirs = lm_eval_scores(model, asked, max_new_tokens=run.params[Decoding].max_new_tokens)
    ours = [float(v is not None and v.status == "pass") for v in (verdicts[i] for i in positions)]
    return {
        "n": len(positions),
        "ours": round(sum(ours) / len(ours), 4),
        "lm_eval": round(sum(theirs) / len(theirs), 4),
        "n_different": sum(mine != other for mine, other in zip(ours, theirs, strict=True)),
    }


STAGE = Stage(
    name="evaluate_lm",
    parse=parse,
    inputs={
        "model": "folder that train_lm wrote, or any transformers model with a chat template",
        "data": "dataset of Traces, Documents or Prompts that the model did not see, .jsonl or .parquet file",
    },
    run=run,
    needs_out=False,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
