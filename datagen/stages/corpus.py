"""Write a corpus: a teacher makes rows out of source texts in several steps, each kept in a table of its own."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from datagen.backends.base import Environment, Sampling
from datagen.backends.budget import Budget, BudgetParams, price_share
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger, ledger_path
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import BackendError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Document, Rejection
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.synthesis.flow import Setting, Start, Written, run_flows

DEFAULT_METHOD = "emo_pillars"

log = logging.getLogger(__name__)


class Config(Params):
    """Which method writes, who answers, and how.

    Attributes:
        structured_output: `json_schema` asks the backend to hold each answer to its schema; `none` asks by the prompt
            alone, for servers that know no schemas.
        window: sources open at once. What a method remembers of earlier sources is at least so many back, so it is
            part of what determines the rows, where the concurrency is not.
        max_failed_share: of the rows; more that end as rejections are an error, after all that came is kept.
    """

    method: str = DEFAULT_METHOD
    backend: str = "local"
    structured_output: Literal["json_schema", "none"] = "json_schema"
    window: int = Field(32, ge=1)
    max_failed_share: float = Field(1.0, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's, the method's and the backend's Config."""
    method = load_method("datagen.synthesis", section.get("method", DEFAULT_METHOD))
    backend = load_method("datagen.backends", section.get("backend", "local"), key="backend")
    if (n := section.get("choices_per_request", 1)) != 1:
        raise ParamsError(f"choices_per_request: every step is a request of its own; leave it out (got {n})")
    return validate(section, Config, InputParams, Sampling, BudgetParams, method.Config, backend.Config)


def run(run: Run) -> dict[str, Any]:
    """Write the method's rows, its tables, and what was dropped at any step."""
    config = run.params[Config]
    method = load_method("datagen.synthesis", config.method)
    backend = load_method("datagen.backends", config.backend)
    write = partial(getattr(method, config.method), run.params[method.Config])
    rows = Rows(run.inputs["narratives"], Document, run.name, run.params[InputParams])
    drawn: deque[Document | Rejection] = deque()  # and not yet written, in the order of the input

    def sources() -> Iterator[Document]:
        for row in rows:
            drawn.append(row)
            if isinstance(row, Document):
                yield row

    with Ledger.open(ledger_path()) as ledger, run.progress(len(rows), "sources") as bar:
        start, counts = time.monotonic(), Counter[str]()

        def show(n_sources: int = 0) -> None:
            bar.advance(n_sources, note=lambda: _note(counts, environment, time.monotonic() - start))

        budget = Budget(run.params[BudgetParams], price_share=price_share(run.params.values()))
        environment = Environment(ledger=ledger, concurrency=run.concurrency, budget=budget, notify=show)
        with getattr(backend, config.backend)(run.params[backend.Config], environment) as teacher:
            _forecast(run, Forecast(ledger, teacher.identity), budget, write, method)
            manifest = {
                "stage": run.name,
                "method": config.method,
                "params": run.params.values(),
                **made_of(run.inputs, of_asked(run.params.values(), "teacher")),
                "made_with": method.identity(run.params[method.Config]),
                "teacher": dict(teacher.identity),
            }
            setting = _setting(run, method, str(teacher.identity.get("model", "")))
            with DatasetWriter(run.out, method.RECORD, manifest, method.TABLES) as writer:
                for written in run_flows(write, sources(), teacher.generate, setting):
                    _reject_until(written.source, drawn, writer)
                    _put(written, writer, run.name)
                    counts.update(written.counts)
                    counts["rows"], counts["rejected"] = writer.rows_out, writer.reasons.total()
                    show(1)
                _reject_until(None, drawn, writer)
                _check_failures(writer, config.max_failed_share)
                tables, figures = _closing(method, setting.memory)
                _add(tables, writer)
                del counts["rows"], counts["rejected"]
                figures = {"steps": dict(sorted(counts.items())), **figures}
                writer.describe(figures=figures)
    environment.counts.pop("in_flight", None)
    run.facts.update(environment.counts | budget.facts())
    return {"rows": writer.rows, "rejected": dict(sorted(writer.reasons.items())), **figures}


def _setting(run: Run, method: ModuleType, teacher: str) -> Setting:
    """With a memory of its own for each pass over the sources."""
    config = run.params[Config]
    shared = method.memory(run.params[method.Config]) if hasattr(method, "memory") else None
    guided = config.structured_output == "json_schema"
    return Setting(
        stage=run.name,
        sampling=run.params[Sampling],
        guided=guided,
        teacher=teacher,
        window=config.window,
        memory=shared,
    )


def _forecast(run: Run, forecast: Forecast, budget: Budget, write: Start, method: ModuleType) -> None:
    """Say what there is to buy before anything is bought, as far as the answers that are there tell: no bound."""
    rows = Rows(run.inputs["narratives"], Document, run.name, run.params[InputParams])
    sources = (row for row in rows if isinstance(row, Document))
    for _ in run_flows(write, sources, forecast.generate, _setting(run, method, "")):
        pass
    log.info(
        "%s: to buy: %s; what later steps and sources ask follows from the answers",
        run.name,
        forecast.describe(budget),
    )
    run.facts.update(forecast.facts(budget))


def _put(written: Written, writer: DatasetWriter, stage: str) -> None:
    """All that came of one source; a source of which nothing came is a rejection."""
    dropped = written.rejections
    if not written.rows and not dropped:
        detail = "the method wrote nothing of it, and dropped nothing"
        dropped = [Rejection(id=written.source.id, stage=stage, reason="nothing_written", detail=detail)]
    writer.read(len(written.rows) + len(dropped))
    for row in (*written.rows, *dropped):
        writer.put(row)
    _add(written.tables, writer)


def _closing(method: ModuleType, memory: object) -> tuple[Mapping[str, Iterable[Any]], Mapping[str, Any]]:
    """The tables and figures that are known at the end, where the method has such."""
    return method.closing(memory) if hasattr(method, "closing") else ({}, {})


def _add(tables: Mapping[str, Iterable[Any]], writer: DatasetWriter) -> None:
    for name, rows in tables.items():
        for row in rows:
            writer.add(name, row)


def _reject_until(source: Document | None, drawn: "deque[Document | Rejection]", writer: DatasetWriter) -> None:
    """Reject the bad rows that stand before `source` in the input; with None, those that are left."""
    while drawn and (row := drawn.popleft()) is not source:
        assert isinstance(row, Rejection)
        writer.read()
        writer.reject(row)


def _check_failures(writer: DatasetWriter, max_failed_share: float) -> None:
    """Raise BackendError where nothing came of anything, or too many rows were dropped."""
    n_failed, n = writer.reasons.total(), writer.rows_in
    reasons = ", ".join(f"{reason} {k}" for reason, k in writer.reasons.most_common())
    if n and not writer.rows_out:
        raise BackendError(f"no row was written, {n} were dropped ({reasons}); run again once that is mended")
    if n_failed > max_failed_share * n:
        raise BackendError(
            f"{n_failed} of {n} rows were dropped ({reasons}); max_failed_share is {max_failed_share}. The answers "
            "that came are kept: run again to ask for the rest alone"
        )


def _note(counts: Counter[str], environment: Environment, seconds: float) -> str:
    """Rows, and what was asked."""
    return ", ".join([f"{counts['rows']} rows, {counts['rejected']} dropped", *environment.describe(seconds)])


STAGE = Stage(
    name="corpus",
    parse=parse,
    inputs={"narratives": "dataset of Documents to write from, .jsonl or .parquet file of rows with a text"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
