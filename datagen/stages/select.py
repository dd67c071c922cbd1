"""Choose what is trained on from what verify judged: by another threshold, by difficulty, or at random.

--verified is a dataset that verify wrote, or a folder with one for each teacher, each named after its teacher. All rows
that were ever judged are considered, those that verify dropped as well. The output is a dataset of Traces with side
tables like verify's, so that it can be selected from again: `verdicts.parquet`, as they were, and `rejected.parquet`;
and `scores.parquet`, a row for each prompt with the pass rate and the variation of its attempts' scores, to be queried.
Neither a teacher nor a verifier runs, and nothing is written to the input.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from datagen.comparison.teachers import find_teachers, is_judged
from datagen.contracts.dataset import DatasetWriter, is_dataset, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.licences import made_of
from datagen.contracts.origin import is_stopped, read_origin
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import PromptScores, Rejection, Trace, Verdict
from datagen.contracts.stage import Run, Stage, find_methods, load_method, main
from datagen.select._scores import score_prompts
from datagen.select.attempts import gather, in_rows, judged
from datagen.verify.decision import why_failed

DEFAULT_METHOD = "by_threshold"


class Config(Params):
    """Which method chooses."""

    method: str = DEFAULT_METHOD


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    method = load_method("datagen.select", name)
    return validate({**section, "method": name}, Config, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write the rows that are kept, and for each of the others its reason."""
    name = run.params[Config].method
    method = load_method("datagen.select", name)
    config = run.params[method.Config]
    datasets = _datasets(run.inputs["verified"])
    origins = {teacher: read_origin(path) for teacher, path in datasets.items()}
    manifest = {
        "stage": run.name,
        "method": name,
        "params": run.params.values(),
        **made_of({f"verified/{teacher}".rstrip("/"): path for teacher, path in datasets.items()}),
    }
    if origins.get(""):
        manifest["origin"] = origins[""]
    tables = {"verdicts": Verdict, "rejected": Trace, "scores": PromptScores}
    n_rows = sum(read_manifest(path)["rows"]["in"] for path in datasets.values())
    with (
        tempfile.TemporaryDirectory(prefix="datastill-select-") as folder,
        DatasetWriter(run.out, Trace, manifest, tables) as writer,
        run.progress(n_rows, "rows") as bar,
    ):
        attempts = gather(datasets, Path(folder) / "attempts.parquet")
        stopped = any(map(is_stopped, origins.values()))
        reasons = getattr(method, name)(config, attempts, stopped=stopped)
        for path in datasets.values():
            for row in judged(path):
                writer.read()
                bar.advance(1, note=f"{writer.rows_out} kept")
                if isinstance(row, Rejection):
                    writer.reject(row)
                    continue
                trace, verdict = row[0], _at_threshold(*row, config.threshold)
                writer.add("verdicts", verdict)
                if verdict.score < config.threshold:
                    why = why_failed(verdict.status, verdict.score, verdict.reason, verdict.detail)
                else:
                    why = next(reasons)
                if why:
                    writer.add("rejected", trace)
                    writer.reject(Rejection(id=trace.id, stage=run.name, reason=why[0], detail=why[1]))
                else:
                    writer.write(trace)
        passes = Counter[str](never=0, sometimes=0, always=0)
        for scores in in_rows(score_prompts(attempts, config.threshold)):
            writer.add("scores", PromptScores(**scores))
            passes[_how_often(scores["pass_rate"])] += 1
    return {"rows": writer.rows, "rejected": dict(sorted(writer.reasons.items())), "prompts_that_pass": dict(passes)}


def _datasets(verified: Path) -> dict[str, Path]:
    """Teacher to dataset; one dataset alone has no name.

    Raises:
        DataError: there is none, or one that verify or select did not write.
    """
    datasets = {"": verified} if is_dataset(verified) else find_teachers(verified)
    for path in datasets.values():
        if read_manifest(path).get("record") != "Trace" or not is_judged(path):
            raise DataError(
                f"{path}: holds no verdicts beside its rows; give what verify or select wrote, and filter afterwards"
            )
    return datasets


def _at_threshold(trace: Trace, verdict: Verdict, threshold: float) -> Verdict:
    """The verdict as its method would have written it at this threshold, where what it writes depends on one."""
    method = _verifier(verdict.method)
    return method.at_threshold(trace, verdict, threshold) if method and hasattr(method, "at_threshold") else verdict


@cache
def _verifier(name: str) -> ModuleType | None:
    return load_method("datagen.verify", name) if name in find_methods("datagen.verify") else None


def _how_often(pass_rate: float) -> str:
    return "never" if pass_rate == 0 else "always" if pass_rate == 1 else "sometimes"


STAGE = Stage(
    name="select",
    parse=parse,
    inputs={"verified": "dataset that verify or select wrote, or a folder with one for each teacher, named so"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
