"""Evaluate a student: verified rate on prompts that it never saw, before and after training, decoded alike.

The dataset holds both models' answers as Traces whose `teacher` is `before` or `after`, and `verdicts.parquet`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from pydantic import Field

from datagen.backends import local
from datagen.backends.base import Environment, Failure, Request, Sampling, TextBackend
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.transformers_models import device_type
from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt, Rejection, Trace, Verdict
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Progress, Run, Stage, load_method, main
from trainers.device import check_packages
from trainers.harness import answerable, check_harness, lm_eval_scores, load

DEFAULT_METHOD = "by_row"
WHO = ("before", "after")


class Config(Params):
    """How answers are judged and compared; `model` is the one that training started from.

    `harness` lm_eval runs EleutherAI's harness besides, on the prompts whose reference is a number, such as GSM8K's.
    """

    method: str = DEFAULT_METHOD
    n_resamples: int = Field(2000, ge=1)
    harness: Literal["none", "lm_eval"] = "none"


class Decoding(Sampling):
    """Greedy, unless the section says otherwise."""

    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(128, ge=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's, the verifier's and the local backend's Config."""
    method = load_method("datagen.verify", section.get("method", DEFAULT_METHOD))
    if hasattr(method, "opened"):
        raise ParamsError(
            "method: asks a backend of its own, and evaluate_lm asks the two models alone; judge its answers by "
            f"`datastill verify --traces EVALUATION` (got {section['method']!r})"
        )
    return validate(section, Config, method.Config, local.Config, Decoding, InputParams)


def run(run: Run) -> dict[str, Any]:
    """Write both models' answers and verdicts; the figures are in the manifest too."""
    check_packages()
    config, backend, student = run.params[Config], run.params[local.Config], run.inputs["student"]
    if not (student / "config.json").is_file():
        raise DataError(f"{student}: no folder of a model (it has no config.json); run train_lm, or name another")
    rows = list(Rows(run.inputs["prompts"], Prompt, run.name, run.params[InputParams]))
    prompts = [row for row in rows if isinstance(row, Prompt)]
    if not prompts:
        raise DataError(f"{run.inputs['prompts']}: no prompt to evaluate on")
    if config.harness == "lm_eval":
        check_harness()
        answerable(prompts)
    answers: dict[str, list[Trace | Rejection]] = {}
    models: dict[str, Any] = {}
    with Ledger.open(ledger_path()) as ledger, run.progress(2 * len(prompts), "answers") as bar:
        for who, model in zip(WHO, (backend.model, str(student)), strict=True):
            environment = _environment(ledger, who, bar)
            opened: AbstractContextManager[TextBackend] = local.local(
                backend.model_copy(update={"model": model}), environment
            )
            with opened as teacher:
                models[who] = dict(teacher.identity)
                answers[who] = list(_answer(who, teacher, prompts, run.params[Decoding], run.name, bar))
            run.facts.update({f"{name}_{who}": n for name, n in environment.counts.items()})
    verdicts = {who: list(_judge(run.params, answers[who])) for who in WHO}
    metrics = _figures(prompts, verdicts, config, run.params[Decoding].seed)
    if config.harness == "lm_eval":
        metrics["harness"] = _run_harness(run, prompts, verdicts["after"], answerable(prompts))
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        "inputs": {name: content_hash(path) for name, path in sorted(run.inputs.items())},
        "models": models,
        "figures": metrics,
    }
    with DatasetWriter(run.out, Trace, manifest, {"verdicts": Verdict}) as writer:
        _write(writer, rows, answers, verdicts)
    return metrics | {"rows": writer.rows, "rejected": dict(writer.reasons)}


def _environment(ledger: Ledger, who: str, bar: Progress) -> Environment:
    """Shows what is asked before the first block of answers is whole."""

    def show() -> None:
        bar.advance(0, note=f"{who}, {environment.counts['requests']:.0f} asked")

    environment = Environment(ledger=ledger, notify=show)
    return environment


def _answer(
    who: str, model: TextBackend, prompts: Sequence[Prompt], decoding: Decoding, stage: str, bar: Progress
) -> Iterator[Trace | Rejection]:
    requests = (
        Request(
            messages=prompt.messages,
            tools=prompt.tools,
            sampling=decoding.model_copy(update={"seed": derive_seed(decoding.seed, prompt.id, 0)}),
        )
        for prompt in prompts
    )
    for prompt, outcome in zip(prompts, model.generate(requests), strict=True):
        id = f"{prompt.id}#0.{outcome.key.hex()[:8]}"
        bar.advance(1, note=who)
        if isinstance(outcome.answer, Failure):
            yield Rejection(id=id, stage=stage, reason=outcome.answer.reason, detail=outcome.answer.detail)
        else:
            yield Trace(
                id=id,
                prompt=prompt,
                completion=outcome.answer.text,
                finish_reason=outcome.answer.finish_reason,
                teacher=who,
                request_key=outcome.key.hex(),
                seed=outcome.request.sampling.seed,
                n_prompt_tokens=outcome.answer.n_prompt_tokens,
                n_completion_tokens=outcome.answer.n_completion_tokens,
            )


def _judge(params: Parts, answers: Sequence[Trace | Rejection]) -> Iterator[Verdict | None]:
    """The verdict of every answer; None where there is no answer."""
    name = params[Config].method
    method = load_method("datagen.verify", name)
    verdicts = getattr(method, name)(params[method.Config], (row for row in answers if isinstance(row, Trace)))
    for row in answers:
        yield next(verdicts) if isinstance(row, Trace) else None


def _figures(
    prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Verdict | None]], config: Config, seed: int
) -> dict[str, Any]:
    """Verified rates, an answer that is missing counting as not verified, and the interval of their difference."""
    from trainers.bootstrap import paired_bootstrap

    passed = {who: [float(v is not None and v.status == "pass") for v in verdicts[who]] for who in WHO}
    families: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        families.setdefault(prompt.family, []).append(i)

    def rate(who: str, positions: Sequence[int]) -> float:
        return round(sum(passed[who][i] for i in positions) / len(positions), 4)

    difference = paired_bootstrap(passed["before"], passed["after"], n_resamples=config.n_resamples, seed=seed)
    return {
        "n_prompts": len(prompts),
        "verified_rate": {who: rate(who, range(len(prompts))) for who in WHO},
        "difference": {name: round(value, 4) for name, value in difference._asdict().items()},
        "by_family": {
            family: {"n": len(positions)} | {who: rate(who, positions) for who in WHO}
            for family, positions in sorted(families.items())
        },
    }


def _run_harness(
    run: Run, prompts: Sequence[Prompt], verdicts: Sequence[Verdict | None], positions: Sequence[int]
) -> dict[str, Any]:
    """The student's accuracy by our verdicts and by the harness, and on how many prompts the two differ."""
    backend = run.params[local.Config]
    model = load(run.inputs["student"], device=device_type(), dtype=backend.dtype, batch_size=backend.batch_size)
    asked = [prompts[i] for i in positions]
    theirs = lm_eval_scores(model, asked, max_new_tokens=run.params[Decoding].max_new_tokens)
    ours = [float(v is not None and v.status == "pass") for v in (verdicts[i] for i in positions)]
    return {
        "n": len(positions),
        "ours": round(sum(ours) / len(ours), 4),
        "lm_eval": round(sum(theirs) / len(theirs), 4),
        "n_different": sum(mine != other for mine, other in zip(ours, theirs, strict=True)),
    }


def _write(
    writer: DatasetWriter,
    rows: Sequence[Prompt | Rejection],
    answers: Mapping[str, Sequence[Trace | Rejection]],
    verdicts: Mapping[str, Sequence[Verdict | None]],
) -> None:
    """By prompt, before and then after; a row that is no prompt is a rejection."""
    position = 0
    for row in rows:
        if isinstance(row, Rejection):
            writer.read()
            writer.reject(row)
            continue
        writer.read(len(WHO))
        for who in WHO:
            writer.put(answers[who][position])
            if verdict := verdicts[who][position]:
                writer.add("verdicts", verdict)
        position += 1


STAGE = Stage(
    name="evaluate_lm",
    parse=parse,
    inputs={
        "student": "folder that train_lm wrote, or any transformers model with a chat template",
        "prompts": "dataset of Prompts that the student did not see, .jsonl or .parquet file",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
