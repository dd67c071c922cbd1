"""Compare teachers on the same prompts, by family and overall, under one tokenizer and one scoring model.

Each teacher is a folder under --verified, named after it, that verify wrote. Figures are over the prompts that every
teacher was asked; answers to others are rejections. With --traces, the same folders as the traces stage wrote them,
attempts at which a teacher said nothing count too. The output holds a Measurement for each answer, the
page `index.html`, and `figures.json`, `histogram.json` and `orderings.json`.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from datagen.backends import scorer
from datagen.comparison import figures
from datagen.comparison.figures import Price
from datagen.comparison.ordering import compare_orders
from datagen.comparison.page import render
from datagen.comparison.repetition import is_looping, repeated_share
from datagen.comparison.teachers import answers, find_teachers, is_judged, prompts, unanswered
from datagen.contracts.dataset import DatasetWriter, content_hash, read_manifest
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Measurement, Rejection, trace_from_row
from datagen.contracts.stage import Run, Stage, main
from datagen.report.figures import ALL

BLOCK_TRACES = 64  # measured at once


class Config(Params):
    """What counts as too surprising and as looping (arXiv:2504.17565, arXiv:2505.14464), and what teachers cost.

    `prices` names teachers, each with the price of a million tokens of `prompt` and of `completion`.
    """

    max_perplexity: float = Field(default=20.0, gt=0)
    n_gram: int = Field(default=20, ge=1)
    max_repeats: int = Field(default=20, ge=1)
    prices: dict[str, Price] = Field(default_factory=dict[str, Price])


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the scoring model's Config."""
    return validate(section, Config, scorer.Config)


def run(run: Run) -> dict[str, Any]:
    """Measure every answer, then count."""
    config = run.params[Config]
    verified = find_teachers(run.inputs["verified"])
    traces = find_teachers(run.inputs["traces"]) if "traces" in run.inputs else {}
    _check_names(verified, traces, config.prices)
    missing = {name: unanswered(path) for name, path in traces.items()}
    families, shared = _prompts(verified, missing)
    scoring = scorer.Scorer(run.params[scorer.Config])
    manifest = {
        "stage": run.name,
        "method": run.name,
        "params": run.params.values(),
        **made_of(
            {
                f"{kind}/{name}": path
                for kind, folders in (("verified", verified), ("traces", traces))
                for name, path in folders.items()
            },
            of_asked(run.params.values(), "judge"),
        ),
        "scorer": dict(scoring.identity),
    }
    n_traces = sum(read_manifest(path)["rows"]["in"] for path in verified.values())
    attempts: list[dict[str, Any]] = []
    with DatasetWriter(run.out, Measurement, manifest) as writer, run.progress(n_traces, "answers") as bar:
        for name, path in verified.items():
            for row in _measure(name, path, shared, scoring, config, run.name):
                writer.read()
                writer.put(row)
                if isinstance(row, Measurement):
                    attempts.append(_attempt(row))
                bar.advance(1, note=name)
            attempts += [
                {"teacher": name, "family": families.get(prompt, ""), "prompt_id": prompt, "sample_index": index,
                 "answered": False, "verified": False}
                for prompt, index in missing.get(name, ()) if prompt in shared
            ]  # fmt: skip
        stopped = {name for name, path in traces.items() if _is_stopped(path)}
        metrics = _count(attempts, config, writer, stopped=stopped, scorer_name=str(scoring.identity["model"]))
    return metrics | {"rows": writer.rows, "rejected": dict(writer.reasons)}


def _check_names(verified: Mapping[str, Path], traces: Mapping[str, Path], prices: Mapping[str, Price]) -> None:
    for name, path in verified.items():
        if not is_judged(path):
            raise DataError(f"{path}: not written by the verify stage; run it on {name}'s traces first")
    if traces and (odd := sorted(traces.keys() ^ verified.keys())):
        raise DataError(f"--traces and --verified hold different teachers: {', '.join(odd)} is in one of them alone")
    for name, path in traces.items():
        if read_manifest(verified[name]).get("inputs", {}).get("traces") != content_hash(path):
            raise DataError(
                f"{verified[name]}: not made of {path}, whose empty answers would count as its own; run verify on "
                "these traces again, or give with --traces those that it was made of"
            )
    if unknown := sorted(prices.keys() - verified.keys()):
        raise ParamsError(f"prices: no teacher {', '.join(unknown)}; there are {', '.join(verified)}")


def _prompts(
    verified: Mapping[str, Path], missing: Mapping[str, list[tuple[str, int]]]
) -> tuple[dict[str, str], set[str]]:
    """Family of every prompt that anyone answered, and the prompts that everyone was asked."""
    families: dict[str, str] = {}
    asked: list[set[str]] = []
    for name, path in verified.items():
        mine = prompts(path)
        families |= mine
        asked.append(mine.keys() | {prompt for prompt, _ in missing.get(name, ())})
    shared = {prompt for prompt in asked[0] if all(prompt in one for one in asked)}
    if not shared:
        raise DataError(f"no prompt was asked of all of {', '.join(verified)}; teachers are compared on the same ones")
    return families, shared


def _measure(
    teacher: str, verified: Path, shared: set[str], scoring: scorer.Scorer, config: Config, stage: str
) -> Iterator[Measurement | Rejection]:
    """Every answer of one teacher, those that verify kept first."""
    traces = ((trace_from_row(row), kept) for row, kept in answers(verified))
    while block := list(islice(traces, BLOCK_TRACES)):
        mine = [(trace, kept) for trace, kept in block if trace.prompt.id in shared]
        scores = iter(scoring.score([trace for trace, _ in mine]))
        for trace, kept in block:
            if trace.prompt.id not in shared:
                detail = f"not every teacher was asked prompt {trace.prompt.id!r}"
                yield Rejection(id=trace.id, stage=stage, reason="not_asked_of_all", detail=detail)
                continue
            score = next(scores)
            yield Measurement(
                id=trace.id,
                prompt_id=trace.prompt.id,
                family=trace.prompt.family,
                teacher=teacher,
                sample_index=trace.sample_index,
                verified=kept,
                n_tokens=len(score.tokens),
                nll=score.nll,
                not_scored=score.not_scored,
                looping=is_looping(score.tokens, n=config.n_gram, max_count=config.max_repeats),
                repeated_share=repeated_share(score.tokens),
                n_prompt_tokens=trace.n_prompt_tokens,
                n_completion_tokens=trace.n_completion_tokens,
            )


def _attempt(row: Measurement) -> dict[str, Any]:
    return {name: True if name == "answered" else getattr(row, name) for name in figures.SCHEMA}


def _is_stopped(traces: Path) -> bool:
    """Whether attempts at a prompt ended with the first that held."""
    return read_manifest(traces).get("method") == "until_verified"


def _count(
    attempts: list[dict[str, Any]], config: Config, writer: DatasetWriter, *, stopped: set[str], scorer_name: str
) -> dict[str, Any]:
    """Figures as metrics; the same in rows, histograms and orderings as files of the output."""
    import polars as pl

    frame = pl.DataFrame(attempts, schema=figures.SCHEMA, orient="row")
    counted = figures.by_teacher(frame, config.prices, max_perplexity=config.max_perplexity, stopped=stopped)
    orderings = {name: _ordering(name, counted) for name in figures.ORDERED}
    in_rows = [
        {"teacher": teacher, "family": family, "label": f"{family}: {teacher}"} | row
        for teacher, of in counted.items()
        for family, row in of.items()
    ]
    histogram = figures.histogram(frame)
    writer.attach("index.html", render(counted, histogram, orderings, scorer_name))
    for name, content in (("figures", in_rows), ("histogram", histogram), ("orderings", orderings)):
        writer.attach(f"{name}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return {
        "teachers": {teacher: of[ALL] for teacher, of in counted.items()},
        "by_family": {teacher: {f: row for f, row in of.items() if f != ALL} for teacher, of in counted.items()},
        "orderings": orderings,
    }


def _ordering(figure: str, counted: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    families = sorted({family for of in counted.values() for family in of} - {ALL})
    by_family = {
        family: {teacher: of.get(family, {}).get(figure) for teacher, of in counted.items()} for family in families
    }
    return compare_orders(by_family, {teacher: of[ALL][figure] for teacher, of in counted.items()})


STAGE = Stage(
    name="compare_teachers",
    parse=parse,
    inputs={"verified": "folder of datasets that verify wrote, one a teacher, named after it"},
    optional_inputs={"traces": "folder of the same names as the traces stage wrote them: empty answers count too"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
