"""Ask a teacher: every prompt, every attempt; answers are kept in the ledger and never bought twice."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from pydantic import Field

from datagen.backends.base import Environment, Failure, Sampling
from datagen.backends.ledger import Ledger, ledger_path
from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.errors import BackendError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.traces import Attempt


class Config(Params):
    """Which method asks which backend, and how many requests may end without an answer.

    At 1, the default, every row is accounted for, come what may; a run without any answer fails all the same.
    """

    method: str = "n_samples"
    backend: str = "local"
    max_failed_share: float = Field(default=1.0, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's, the method's and the backend's Config."""
    method = load_method("datagen.traces", section.get("method", "n_samples"))
    backend = load_method("datagen.backends", section.get("backend", "local"), key="backend")
    return validate(section, Config, InputParams, Sampling, method.Config, backend.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Traces; a request without an answer, and a row that is no prompt, are rejections."""
    config = run.params[Config]
    sampling = run.params[Sampling]
    method = load_method("datagen.traces", config.method)
    backend = load_method("datagen.backends", config.backend)
    rows = Rows(run.inputs["prompts"], Prompt, run.name, run.params[InputParams])
    pending: deque[Prompt | Rejection] = deque()

    def prompts() -> Iterator[Prompt]:
        for row in rows:
            pending.append(row)
            if isinstance(row, Prompt):
                yield row

    with Ledger.open(ledger_path()) as ledger, run.progress(len(rows), "prompts") as bar:
        start = time.monotonic()

        def show(n_prompts: int = 0) -> None:
            bar.advance(n_prompts, note=_note(environment.counts, time.monotonic() - start))

        environment = Environment(ledger=ledger, concurrency=run.concurrency, notify=show)
        with getattr(backend, config.backend)(run.params[backend.Config], environment) as teacher:
            manifest = {
                "stage": run.name,
                "method": config.method,
                "params": run.params.values(),
                "inputs": {"prompts": content_hash(run.inputs["prompts"])},
                "teacher": dict(teacher.identity),
            }
            attempts = getattr(method, config.method)(run.params[method.Config], sampling, prompts(), teacher.generate)
            n_asked, failed = 0, Counter[str]()
            with DatasetWriter(run.out, Trace, manifest) as writer:
                for prompt, group in groupby(attempts, key=lambda attempt: attempt.prompt):
                    _reject_until(prompt, pending, writer)
                    answered = list(group)
                    writer.read(len(answered))
                    n_asked += len(answered)
                    for attempt in answered:
                        row = _to_row(attempt, str(teacher.identity.get("model", "")), run.name)
                        if isinstance(row, Rejection):
                            failed[row.reason] += 1
                        writer.put(row)
                    show(1)
                _reject_until(None, pending, writer)
                _check_failures(failed, n_asked, config)
    run.facts.update(environment.counts)
    return {"rows": writer.rows, "rejected": dict(writer.reasons)}


def _reject_until(prompt: Prompt | None, pending: "deque[Prompt | Rejection]", writer: DatasetWriter) -> None:
    """Reject the bad rows that stand before `prompt` in the input; with None, those that are left."""
    while pending:
        row = pending.popleft()
        if row is prompt:
            return
        if isinstance(row, Prompt):
            raise AssertionError(f"prompt {row.id!r} got no attempt")
        writer.read()
        writer.reject(row)


def _to_row(attempt: Attempt, teacher: str, stage: str) -> Trace | Rejection:
    outcome, prompt = attempt.outcome, attempt.prompt
    id = f"{prompt.id}#{attempt.sample_index}.{outcome.key.hex()[:8]}"
    answer = outcome.answer
    if isinstance(answer, Failure):
        return Rejection(id=id, stage=stage, reason=answer.reason, detail=answer.detail)
    return Trace(
        id=id,
        prompt=prompt,
        sample_index=attempt.sample_index,
        completion=answer.text,
        reasoning=answer.reasoning,
        tool_calls=answer.tool_calls,
        finish_reason=answer.finish_reason,
        teacher=teacher,
        request_key=outcome.key.hex(),
        seed=outcome.request.sampling.seed,
        n_prompt_tokens=answer.n_prompt_tokens,
        n_completion_tokens=answer.n_completion_tokens,
    )


def _note(counts: Mapping[str, float], seconds: float) -> str:
    asked, found = counts.get("requests", 0), counts.get("ledger_hits", 0)
    tokens_per_s = counts.get("completion_tokens", 0) / seconds
    return f"{asked:.0f} asked, {found:.0f} from the ledger, {tokens_per_s:.0f} tokens/s"


def _check_failures(failed: Counter[str], n_asked: int, config: Config) -> None:
    n_failed = failed.total()
    reasons = ", ".join(f"{reason} {n}" for reason, n in failed.most_common())
    if failed and n_failed == n_asked:
        raise BackendError(f"not one of {n_asked} requests was answered ({reasons}); run again once that is mended")
    if n_failed > config.max_failed_share * n_asked:
        raise BackendError(
            f"{n_failed} of {n_asked} requests ended without an answer ({reasons}); max_failed_share is "
            f"{config.max_failed_share}. The answers that came are kept: run again to ask for the rest alone"
        )


STAGE = Stage(
    name="traces",
    parse=parse,
    inputs={"prompts": "dataset of Prompts, .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
