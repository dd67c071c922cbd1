"""Judge traces: every one ends as kept, or as a rejection with its reason; every one has its verdict.

Besides the kept Traces the dataset holds `verdicts.parquet`, a row for each trace, and `rejected.parquet`, the Traces
that were dropped, so that another threshold, preference pairs and a look at what was wrong need no second place.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.errors import DataError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection, Trace, Verdict
from datagen.contracts.stage import Run, Stage, load_method, main

DEFAULT_METHOD = "by_row"


class Config(Params):
    """Which method judges, what it takes to be kept, and how many traces may end without a finding.

    A trace is kept if its score is at least `threshold`. `max_error_share` bounds errors and timeouts: they say that
    the verifier, not the teacher, fell short. At 1, the default, every row ends with a verdict, come what may.
    """

    method: str = DEFAULT_METHOD
    threshold: float = Field(1.0, ge=0, le=1)
    max_error_share: float = Field(1.0, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    method = load_method("datagen.verify", section.get("method", DEFAULT_METHOD))
    return validate(section, Config, InputParams, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Traces, with side tables of verdicts and of rejected traces."""
    config = run.params[Config]
    method = load_method("datagen.verify", config.method)
    rows = Rows(run.inputs["traces"], Trace, run.name, run.params[InputParams])
    pending: deque[Trace | Rejection] = deque()

    def traces() -> Iterator[Trace]:
        for row in rows:
            pending.append(row)
            if isinstance(row, Trace):
                yield row

    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        "inputs": {"traces": content_hash(run.inputs["traces"])},
    }
    tables = {"verdicts": Verdict, "rejected": Trace}
    tally = _Tally()
    with (
        DatasetWriter(run.out, Trace, manifest, tables) as writer,
        run.progress(len(rows), "traces") as bar,
    ):
        for verdict in getattr(method, config.method)(run.params[method.Config], traces()):
            trace = _next_trace(pending, writer)
            kept = verdict.score >= config.threshold
            writer.read()
            writer.add("verdicts", verdict)
            if kept:
                writer.write(trace)
            else:
                writer.reject(_rejection(verdict, run.name))
                writer.add("rejected", trace)
            tally.count(trace, verdict, kept)
            bar.advance(1, note=f"{tally.n_kept} kept")
        while pending:
            _reject_bad_row(pending.popleft(), writer)
        tally.check_errors(config)
    return {"rows": writer.rows, "rejected": dict(writer.reasons)} | tally.metrics()


def _next_trace(pending: "deque[Trace | Rejection]", writer: DatasetWriter) -> Trace:
    """The next trace of the input; the bad rows that stand before it are rejected."""
    while not isinstance(row := pending.popleft(), Trace):
        _reject_bad_row(row, writer)
    return row


def _reject_bad_row(row: Trace | Rejection, writer: DatasetWriter) -> None:
    if isinstance(row, Trace):
        raise AssertionError(f"trace {row.id!r} got no verdict")
    writer.read()
    writer.reject(row)


def _rejection(verdict: Verdict, stage: str) -> Rejection:
    reason = verdict.reason or verdict.status
    return Rejection(id=verdict.id, stage=stage, reason=reason, detail=verdict.detail or f"score {verdict.score:g}")


class _Tally:
    """Counts over all verdicts."""

    def __init__(self) -> None:
        self.n_kept = 0
        self._status: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._first_error: Verdict | None = None

    def count(self, trace: Trace, verdict: Verdict, kept: bool) -> None:
        self.n_kept += kept
        self._status[verdict.status] += 1
        self._rows[trace.prompt.family] += 1
        self._kept[trace.prompt.family] += kept
        if verdict.status in ("error", "timeout"):
            self._first_error = self._first_error or verdict

    def check_errors(self, config: Config) -> None:
        """Raise DataError where too many traces ended without a finding."""
        n_errors, n_rows = self._status["error"] + self._status["timeout"], self._rows.total()
        if self._first_error and n_errors > config.max_error_share * n_rows:
            raise DataError(
                f"{n_errors} of {n_rows} traces could not be judged, more than max_error_share={config.max_error_share}"
                f"; the first is {self._first_error.id!r}: {self._first_error.detail}"
            )

    def metrics(self) -> dict[str, Any]:
        """The share of traces kept, overall and by family, and how many ended in each status."""
        rate = {family: round(self._kept[family] / n, 4) for family, n in sorted(self._rows.items())}
        n_rows = self._rows.total()
        return {
            "verified_rate": round(self.n_kept / n_rows, 4) if n_rows else 0.0,
            "verified_rate_by_family": rate,
            "status": dict(sorted(self._status.items())),
        }


STAGE = Stage(
    name="verify",
    parse=parse,
    inputs={"traces": "dataset of Traces, .jsonl or .parquet file with rows of id, prompt, completion, reference"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
