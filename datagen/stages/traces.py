"""Ask a teacher: every prompt, every attempt; answers are kept in the ledger and never bought twice."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pydantic import Field

from datagen.backends.base import Environment, Sampling, TextBackend
from datagen.backends.budget import Budget, BudgetParams, price_share
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger, ledger_path
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import BackendError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.traces import Attempt
from datagen.traces._reasoning import ReasoningParams, split_each
from datagen.traces._rows import to_row


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
    parts = validate(
        section, Config, InputParams, Sampling, ReasoningParams, BudgetParams, method.Config, backend.Config
    )
    n_choices = getattr(parts[backend.Config], "choices_per_request", 1)
    round_size = getattr(parts[method.Config], "round_size", n_choices)
    if round_size % n_choices:
        raise ParamsError(
            f"choices_per_request: {n_choices} attempts share a request, and round_size={round_size} are made before "
            f"a prompt is judged; set round_size to a multiple, such as {n_choices}, or choices_per_request=1"
        )
    return parts


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
        start, tally = time.monotonic(), _Tally()

        def show(n_prompts: int = 0) -> None:
            bar.advance(n_prompts, note=lambda: _note(environment, tally, time.monotonic() - start))

        budget = Budget(run.params[BudgetParams], price_share=price_share(run.params.values()))
        environment = Environment(ledger=ledger, concurrency=run.concurrency, budget=budget, notify=show)
        with getattr(backend, config.backend)(run.params[backend.Config], environment) as teacher:
            manifest = {
                "stage": run.name,
                "method": config.method,
                "params": run.params.values(),
                **made_of(run.inputs, of_asked(run.params.values(), "teacher")),
                "teacher": dict(teacher.identity),
            }
            _forecast(run, environment, teacher, (row for row in rows if isinstance(row, Prompt)))
            generate = split_each(teacher.generate, run.params[ReasoningParams])
            attempts = getattr(method, config.method)(run.params[method.Config], sampling, prompts(), generate)
            with DatasetWriter(run.out, Trace, manifest) as writer:
                for prompt, group in groupby(attempts, key=lambda attempt: attempt.prompt):
                    _reject_until(prompt, pending, writer)
                    answered = list(group)
                    writer.read(len(answered))
                    for attempt in answered:
                        row = to_row(attempt, teacher=str(teacher.identity.get("model", "")), stage=run.name)
                        tally.count(row)
                        writer.put(row)
                    tally.count_prompt(answered)
                    show(1)
                _reject_until(None, pending, writer)
                tally.check_failures(config.max_failed_share)
    environment.counts.pop("in_flight", None)
    run.facts.update(environment.counts | budget.facts())
    return {"rows": writer.rows, "rejected": dict(writer.reasons)} | tally.metrics()


def _forecast(run: Run, environment: Environment, teacher: TextBackend, prompts: Iterator[Prompt]) -> None:
    """Say what there is to buy before anything is bought; the method itself counts it."""
    method = load_method("datagen.traces", run.params[Config].method)
    forecast = Forecast(environment.ledger, teacher.identity)
    generate = split_each(forecast.generate, run.params[ReasoningParams])
    for _ in getattr(method, run.params[Config].method)(
        run.params[method.Config], run.params[Sampling], prompts, generate
    ):
        pass
    forecast.announce(run.name, environment.budget)
    run.facts.update(forecast.facts(environment.budget))


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


class _Tally:
    """Counts over all attempts, and over the prompts that a method verifies."""

    def __init__(self) -> None:
        self.n_attempts = self.n_prompts = 0
        self.n_judged = self.n_verified = 0  # prompts
        self._failed: Counter[str] = Counter()

    def count(self, row: Trace | Rejection) -> None:
        self.n_attempts += 1
        if isinstance(row, Rejection):
            self._failed[row.reason] += 1

    def count_prompt(self, attempts: Sequence[Attempt]) -> None:
        self.n_prompts += 1
        self.n_judged += any(attempt.verified is not None for attempt in attempts)
        self.n_verified += any(attempt.verified for attempt in attempts)

    def check_failures(self, max_failed_share: float) -> None:
        """Raise BackendError where too many requests ended without an answer."""
        failed, n_failed = self._failed, self._failed.total()
        reasons = ", ".join(f"{reason} {n}" for reason, n in failed.most_common())
        if failed and n_failed == self.n_attempts:
            raise BackendError(
                f"not one of {self.n_attempts} requests was answered ({reasons}); run again once that is mended"
            )
        if n_failed > max_failed_share * self.n_attempts:
            raise BackendError(
                f"{n_failed} of {self.n_attempts} requests ended without an answer ({reasons}); max_failed_share is "
                f"{max_failed_share}. The answers that came are kept: run again to ask for the rest alone"
            )

    def metrics(self) -> dict[str, Any]:
        """For a method that verifies: how many prompts it asked, how many of them it verified, at how many attempts."""
        if not self.n_judged:
            return {}
        return {
            "prompts": self.n_prompts,
            "prompts_verified": self.n_verified,
            "attempts_per_prompt": round(self.n_attempts / self.n_prompts, 4),
        }


def _note(environment: Environment, tally: _Tally, seconds: float) -> str:
    """Rows, verified prompts, and what was asked."""
    verified = [f"{tally.n_verified / tally.n_prompts:.0%} of prompts verified"] if tally.n_judged else []
    return ", ".join([f"{tally.n_attempts} rows", *verified, *environment.describe(seconds)])


STAGE = Stage(
    name="traces",
    parse=parse,
    inputs={"prompts": "dataset of Prompts, .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
