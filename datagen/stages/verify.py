"""Judge traces: every one ends as kept, or as a rejection with its reason; every one has its verdict.

Besides the kept Traces the dataset holds `verdicts.parquet`, a row for each trace, and `rejected.parquet`, the Traces
that were dropped, so that another threshold, preference pairs and a look at what was wrong need no second place.

The metrics hold what the attempts at a prompt say together, see `datagen.verify.attempts`: `pass_at_k`, and the
expected share of `lucky_passes` where answers can be guessed; what the method's own `Figures` say, where it has some,
such as the accuracies of instruction following by benchmark; and where the traces were bought at known prices, their
`cost`, also for each row that is kept.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import Field

from datagen.backends.budget import Bill
from datagen.contracts.cluster import is_named
from datagen.contracts.dataset import DatasetWriter, is_dataset, iterate, read_manifest
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.origin import is_stopped, read_origin, with_origin
from datagen.contracts.params import Parts, validate
from datagen.contracts.records import BAD_ANSWERS, Rejection, Trace, Verdict
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.verify._cluster import judge_on_cluster
from datagen.verify.attempts import AttemptCounts
from datagen.verify.decision import Rule, why_failed, why_set_aside

DEFAULT_METHOD = "by_row"

log = logging.getLogger(__name__)


class Config(Rule):
    """Which method judges, what it takes to be kept, and how many traces may end without a finding.

    A trace is kept if its score is at least `threshold`. `max_error_share` bounds errors and timeouts: they say that
    the verifier, not the teacher, fell short. At 1, the default, every row ends with a verdict, come what may.
    """

    method: str = DEFAULT_METHOD
    max_error_share: float = Field(1.0, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    method = load_method("datagen.verify", section.get("method", DEFAULT_METHOD))
    more = method.configs(section) if hasattr(method, "configs") else ()
    return validate(section, Config, InputParams, method.Config, *more)


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

    manifest: dict[str, Any] = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        **made_of(run.inputs, of_asked(run.params.values(), "judge")),
    }
    tables = {"verdicts": Verdict, "rejected": Trace}
    tally = _Tally()
    figures = method.Figures(run.params[method.Config]) if hasattr(method, "Figures") else None
    source = _Source.of(run.inputs["traces"])
    bill = Bill(source.prices)
    if source.stopped and config.min_agreement > 1:
        raise ParamsError(
            "min_agreement: until_verified stops at the first pass, so no two attempts can agree; sample a fixed "
            f"number with n_samples (got {config.min_agreement})"
        )
    with (
        _opened(run, rows) as (identity, verify),
        DatasetWriter(run.out, Trace, with_origin(manifest | identity, run.inputs["traces"]), tables) as writer,
        run.progress(len(rows), "traces") as bar,
        AttemptCounts() as attempts,
    ):
        for prompt_id in source.bad_answers():
            attempts.count_bad_answer(prompt_id, source.teacher)
        for item in _decided(_with_verdicts(pending, verify(traces())), attempts, config, run.name):
            writer.read()
            if isinstance(item, Rejection):
                writer.reject(item)
                continue
            trace, verdict = item.trace, item.verdict
            writer.add("verdicts", verdict)
            if item.dropped:
                writer.reject(item.dropped)
                writer.add("rejected", trace)
            else:
                writer.write(trace)
            tally.count(trace, verdict, not item.dropped)
            if figures:
                figures.count(trace, verdict)
            attempts.count(trace, verdict, verdict.score >= config.threshold)
            if bill.has_prices:
                _add_to(bill, trace)
            bar.advance(1, note=f"{tally.n_kept} kept")
        tally.check_errors(config)
        metrics = tally.metrics()
        if figures:
            metrics |= figures.metrics()
        if not source.is_filtered and not hasattr(method, "PASS_IS_AGREEMENT"):
            metrics["pass_at_k"] = attempts.pass_at_k(stopped=source.stopped)
            if lucky := attempts.lucky_passes():
                metrics["lucky_passes"] = lucky
        if bill.has_prices:
            metrics["cost"] = bill.figures(tally.n_kept)
            run.facts.update({f"cost_{name}": value for name, value in metrics["cost"].items()})
    return {"rows": writer.rows, "rejected": dict(writer.reasons)} | metrics


@contextmanager
def _opened(
    run: Run, rows: Rows[Trace]
) -> Generator[tuple[dict[str, Any], Callable[[Iterable[Trace]], Iterator[Verdict]]]]:
    """What the manifest says of the model that the method judges by, if it does by one, and what judges traces."""
    name = run.params[Config].method
    method = load_method("datagen.verify", name)
    if hasattr(method, "opened"):
        with method.opened(run, lambda: (row for row in rows if isinstance(row, Trace))) as (identity, verify):
            yield {"verifier": dict(identity)}, verify
        return
    config = run.params[method.Config]
    identity: dict[str, Any] = method.identity(config) if hasattr(method, "identity") else {}
    judge = partial(getattr(method, name), config)
    if is_named():
        if hasattr(method, "ROW_BY_ROW"):
            judge = partial(judge_on_cluster, name, config)
        else:
            log.warning(
                "verify: method %s needs more than a chunk of rows, so it runs here and not on the cluster", name
            )
    yield {"verifier": identity} if identity else {}, judge


@dataclass(frozen=True, slots=True)
class _Source:
    """What the input's manifest says of the attempts in it.

    Attributes:
        path: of the input.
        stopped: whether a prompt's attempts ended on success.
        is_filtered: whether attempts are gone, for whatever they said, so that what is left says nothing of a rate.
        teacher: the model asked, where the traces stage wrote the input and holds what it could not use.
        prices: what a token cost, where it is known.
    """

    path: Path
    stopped: bool = False
    is_filtered: bool = False
    teacher: str = ""
    prices: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, path: Path) -> "_Source":
        if not is_dataset(path):
            return cls(path)
        stage, origin = read_manifest(path).get("stage"), read_origin(path)
        return cls(
            path,
            stopped=is_stopped(origin),
            is_filtered=stage in ("verify", "select", "filter"),
            teacher=str(origin.get("teacher", {}).get("model", "")) if stage == "traces" else "",
            prices=origin.get("prices", {}),
        )

    def bad_answers(self) -> Iterator[str]:
        """The prompt of each attempt that the traces stage rejected though the teacher had answered."""
        if self.teacher:
            for row in iterate(self.path, "rejections"):
                if row["reason"] in BAD_ANSWERS:
                    yield row["id"].rpartition("#")[0]


def _add_to(bill: Bill, trace: Trace) -> None:
    prompt = trace.prompt
    texts = (trace.completion, trace.reasoning, trace.tool_calls)
    bill.add(trace.n_prompt_tokens, trace.n_completion_tokens, prompt.messages, prompt.tools, *texts)


@dataclass(frozen=True, slots=True)
class _Decided:
    """A trace with its verdict, and where it is dropped the rejection."""

    trace: Trace
    verdict: Verdict
    dropped: Rejection | None = None


def _with_verdicts(
    pending: "deque[Trace | Rejection]", verdicts: Iterable[Verdict]
) -> Iterator[tuple[Trace, Verdict] | Rejection]:
    """The rows of the input in order, the traces with their verdicts; `pending` holds those read so far."""
    for verdict in verdicts:
        while isinstance(row := pending.popleft(), Rejection):
            yield row
        yield row, verdict
    for row in pending:
        if isinstance(row, Trace):
            raise AssertionError(f"trace {row.id!r} got no verdict")
        yield row


def _decided(
    rows: Iterable[tuple[Trace, Verdict] | Rejection], attempts: AttemptCounts, config: Config, stage: str
) -> Iterator[_Decided | Rejection]:
    """What becomes of each row, in order; `attempts` holds those before it.

    Raises:
        DataError: attempts must agree, and those at one prompt do not stand together; or the best are to be kept, and
            no method chose them.
    """
    if config.min_agreement == 1:
        for row in rows:
            yield row if isinstance(row, Rejection) else _decide(*row, 1, config, stage)
        return
    for prompt_id, group in groupby(_with_prompts(rows), key=lambda row: row[0]):
        together = [row for _, row in group]
        if attempts.has_judged(prompt_id):
            raise DataError(
                f"attempts at the prompt {prompt_id!r} stand apart, and min_agreement counts those that stand "
                "together; sort the rows by prompt"
            )
        n_passed = sum(row[1].score >= config.threshold for row in together if not isinstance(row, Rejection))
        for row in together:
            yield row if isinstance(row, Rejection) else _decide(*row, n_passed, config, stage)


def _with_prompts(
    rows: Iterable[tuple[Trace, Verdict] | Rejection],
) -> Iterator[tuple[str, tuple[Trace, Verdict] | Rejection]]:
    """Each row with its prompt's id; a bad row goes with those before it."""
    prompt_id = ""
    for row in rows:
        prompt_id = prompt_id if isinstance(row, Rejection) else row[0].prompt.id
        yield prompt_id, row


def _decide(trace: Trace, verdict: Verdict, n_passed: int, config: Config, stage: str) -> _Decided:
    """`n_passed` is how many attempts at its prompt passed, this one included."""
    if verdict.score < config.threshold:
        dropped = why_failed(verdict.status, verdict.score, verdict.reason, verdict.detail)
    else:
        dropped = why_set_aside(
            config, trace.id, has_reference=trace.prompt.reference is not None, n_passed=n_passed,
            score=trace.score, best=trace.best,
        )  # fmt: skip
    if dropped is None:
        return _Decided(trace, verdict)
    reason, detail = dropped
    return _Decided(trace, verdict, Rejection(id=trace.id, stage=stage, reason=reason, detail=detail))


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
