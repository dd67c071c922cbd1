"""Sample what an open model gives back of its training data: it is given its chat template's start and no question."""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from datagen.backends.base import Completion, Environment, Failure, Sampling
from datagen.backends.budget import Budget, BudgetParams, price_share
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger, ledger_path
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import BackendError, MissingError
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Message, Prompt, Rejection, Trace, content_id
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.extraction.chat_prefix import Sample, Start, Turns, literal_turns, raw_text, read_turns, sample_turns

log = logging.getLogger("datagen.stages.extract")  # also where the module is run by itself


class Config(Params):
    """Who is asked how often, and from where in the chat template.

    `start` is the turn that the model writes first: the user's, the assistant's with no question, or the system prompt.
    `keep_system_prompt` says whether text that a template puts first by itself stands before it. `template_model` names
    the model whose tokenizer has the template, for servers that call it otherwise; `prefix` and `between` give the
    texts before and after the user's turn literally instead. An answer that `max_new_tokens` cut is rejected as
    `no_end`, unless `cut_answers` is keep; a cut question always is.
    """

    backend: str = "local"
    n_samples: int = Field(ge=1)
    start: Start = "user"
    keep_system_prompt: bool = True
    template_model: str | None = None
    prefix: str | None = Field(None, min_length=1)
    between: str | None = Field(None, min_length=1, validate_default=True)
    cut_answers: Literal["reject", "keep"] = "reject"
    max_failed_share: float = Field(default=1.0, ge=0, le=1)

    @field_validator("between")
    @classmethod
    def _check_literal(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (value is None) != (info.data.get("prefix") is None):
            raise ValueError("give both prefix and between, the texts before and after the user's turn, or neither")
        said = [name for name in ("template_model",) if info.data.get(name) is not None]
        said += ["start"] if info.data.get("start") != "user" else []
        if value is not None and said:
            raise ValueError(f"prefix and between are a user's turn given literally; leave {said[0]} out")
        return value


class Drawing(Sampling):
    """As the model was trained, unless the section says otherwise: at temperature 1."""

    temperature: float = Field(default=1.0, ge=0)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the backend's Config."""
    backend = load_method("datagen.backends", section.get("backend", "local"), key="backend")
    return validate(section, Config, Drawing, BudgetParams, backend.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Traces: the user's turn as prompt, the assistant's as completion; the rest are rejections."""
    config, sampling = run.params[Config], run.params[Drawing]
    backend = load_method("datagen.backends", config.backend)
    turns = _turns(run)
    log.info("extract: start=%s, the model goes on from %r", turns.start, turns.prefix)
    if turns.system_prompt:
        kept = "stays in it" if config.keep_system_prompt else "is left out (keep_system_prompt=true keeps it)"
        log.info("extract: the template adds a system prompt by itself, which %s: %r", kept, turns.system_prompt)
    with (
        Ledger.open(ledger_path()) as ledger,
        run.progress(config.n_samples * len(turns.roles), "turns") as bar,
    ):
        began, tally = time.monotonic(), _Tally(keeps_cut=config.cut_answers == "keep")

        def show(n_turns: int = 0) -> None:
            seconds = time.monotonic() - began
            bar.advance(n_turns, note=lambda: ", ".join([f"{tally.n_rows} rows", *environment.describe(seconds)]))

        budget = Budget(run.params[BudgetParams], price_share=price_share(run.params.values()))
        environment = Environment(ledger=ledger, concurrency=run.concurrency, budget=budget, notify=show)
        with getattr(backend, config.backend)(run.params[backend.Config], environment) as teacher:
            forecast = Forecast(ledger, teacher.identity)
            for _ in sample_turns(turns, sampling, config.n_samples, forecast.generate):
                pass
            forecast.announce(f"{run.name}: turns that can be asked for now", budget)
            run.facts.update(forecast.facts(budget))
            manifest = {
                "stage": run.name,
                "params": run.params.values(),
                **made_of({}, of_asked(run.params.values(), "teacher")),
                "teacher": dict(teacher.identity),
                "template": turns.facts(),
            }
            name = str(teacher.identity.get("model", ""))
            with DatasetWriter(run.out, Trace, manifest) as writer:
                for sample in sample_turns(turns, sampling, config.n_samples, teacher.generate, show):
                    writer.read()
                    writer.put(tally.sort(sample, turns, teacher=name, stage=run.name))
                tally.check_failures(config.n_samples, config.max_failed_share)
    environment.counts.pop("in_flight", None)
    run.facts.update(environment.counts | budget.facts())
    return {
        "rows": writer.rows,
        "rejected": dict(writer.reasons),
        "samples": config.n_samples,
        "rows_share": round(writer.rows_out / config.n_samples, 4),
    }


def _turns(run: Run) -> Turns:
    config = run.params[Config]
    if config.prefix is not None and config.between is not None:
        return literal_turns(config.prefix, config.between)
    name = config.template_model or str(run.params.values().get("model", ""))
    if not name:
        raise MissingError(
            f"backend {config.backend} names no model whose chat template could be read; set template_model, or give "
            "prefix= and between= literally"
        )
    return read_turns(name, config.start, keep_system_prompt=config.keep_system_prompt)


class _Tally:
    """Rows so far, the texts that were seen, and the requests without an answer."""

    def __init__(self, *, keeps_cut: bool) -> None:
        self.n_rows = 0
        self._keeps_cut = keeps_cut
        self._seen: dict[bytes, str] = {}
        self._failed: Counter[str] = Counter()

    def sort(self, sample: Sample, turns: Turns, *, teacher: str, stage: str) -> Trace | Rejection:
        """The row that came of a sample, or why none did; the first of equal ones is the row."""
        outcome, texts = sample.outcome, [text.strip() for text in sample.texts]
        assert outcome
        id, problem = f"{sample.index}.{outcome.key.hex()[:8]}", sample.problem
        if sample.is_failure and problem:
            self._failed[problem.reason] += 1
        if problem and problem.reason == "no_end" and self._keeps_cut and len(texts) == len(turns.roles):
            problem = None
        if problem is None:
            words = "\x1f".join(" ".join(text.split()) for text in texts)
            first = self._seen.setdefault(hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:16], id)
            if first != id:
                problem = Failure(reason="duplicate", detail=f"sample {first} has the same turns but for white space")
        if problem:
            return Rejection(id=id, stage=stage, reason=problem.reason, detail=problem.detail)
        self.n_rows += 1
        return _trace(sample, id, texts, turns, teacher)

    def check_failures(self, n_samples: int, max_failed_share: float) -> None:
        """Raise BackendError where too many samples ended without an answer."""
        n_failed = self._failed.total()
        reasons = ", ".join(f"{reason} {n}" for reason, n in self._failed.most_common())
        if n_failed == n_samples or n_failed > max_failed_share * n_samples:
            raise BackendError(
                f"{n_failed} of {n_samples} samples ended without an answer ({reasons}); max_failed_share is "
                f"{max_failed_share}. The turns that came are kept: run again once that is mended"
            )


def _trace(sample: Sample, id: str, texts: list[str], turns: Turns, teacher: str) -> Trace:
    outcome = sample.outcome
    assert outcome and isinstance(outcome.answer, Completion)
    asked = zip(turns.roles[:-1], texts[:-1], strict=True)
    messages = [Message(role=role, content=text) for role, text in asked]
    info = {"start": turns.start, "sample": sample.index, "raw": raw_text(turns, sample.texts)}
    prompt = Prompt(
        id=content_id(messages),
        messages=messages,
        family="extracted",
        source=teacher,
        info=json.dumps(info, ensure_ascii=False),
    )
    return Trace(
        id=id,
        prompt=prompt,
        sample_index=sample.index,
        completion=texts[-1],
        finish_reason=outcome.answer.finish_reason,
        teacher=teacher,
        request_key=outcome.key.hex(),
        seed=outcome.request.sampling.seed,
        n_prompt_tokens=outcome.answer.n_prompt_tokens,
        n_completion_tokens=outcome.answer.n_completion_tokens,
        prompt_token_ids=outcome.answer.prompt_token_ids,
        token_ids=outcome.answer.token_ids,
    )


STAGE = Stage(name="extract", parse=parse, inputs={}, run=run)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
