"""What the report shows, counted from dataset directories: the funnel, verified rates with intervals, samples.

Everything is lazy and by column, so that a million rows take seconds; the samples are chosen by the hash of their
prompt's id, so that nobody picks them and a rerun shows the same.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from datagen.contracts.dataset import read_manifest
from datagen.contracts.errors import DataError
from datagen.lineage import by_flow, find_directories, trace_back

Z_95 = 1.959964  # the normal distribution's 97.5 % point
ALL = "all families"
MAX_FAMILIES = 24  # that samples are shown of
RUNS = {  # what a dataset is here: the run that wrote it, as `metrics/NAME.run.json` is named
    "prompts": "prompts",
    "prompts_heldout": "prompts_heldout",
    "traces": "traces",
    "verified": "verify",
    "student": "train_lm_student",
    "evaluation": "evaluate_lm",
}

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage of the funnel: how many came in, went on, and were dropped under which reason."""

    note: str
    n_in: int
    n_out: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    stage: str = ""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of answers that were verified, with its 95 % interval."""

    n_passed: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.n_passed / self.n


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An answer kept and an answer dropped, to one prompt where a prompt has both; `why` is the rejection."""

    family: str
    kept: Row | None
    dropped: Row | None
    why: Row | None


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """The student's answers to a prompt that it never saw; `..._why` is the rejection, None where it passed."""

    family: str
    before: Row
    after: Row
    before_why: Row | None
    after_why: Row | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the page shows; what is empty is left out.

    Attributes:
        steps: of the funnel: `prompts`, `traces`, `verified`, what lies between, each by the name of its directory, and
            `student` where one was trained.
        rates: who ("teacher", "before", "after") to family (or `ALL`) to rate.
        gain: of the verified rate by training, in [-1, 1]: `mean`, and `low` and `high`, the ends of its 95 % interval.
        tokens: of the prompts and of the answers in the traces.
        losses: (step, nats a token).
        runs: stage to what its run measured, None where nothing was.
        manifests: name to manifest.
        sources: where the prompts' raw material comes from: origin to number of prompts, most first.
    """

    steps: Mapping[str, Step]
    rates: Mapping[str, Mapping[str, Rate]]
    samples: Sequence[Sample]
    tokens: tuple[int, int]
    runs: Mapping[str, Mapping[str, Any] | None]
    manifests: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, int]
    gain: Mapping[str, float] | None = None
    losses: Sequence[tuple[int, float]] = ()
    unseen: Sequence[Unseen] = ()


def count(datasets: Mapping[str, Path], run_metrics: Path | None) -> Figures:
    """Everything that the page shows.

    Args:
        datasets: `prompts`, `traces` and `verified`, and any of `prompts_heldout`, `student` and `evaluation`; and
            `between`, a folder of datasets, of which those count that the student was made of, or where there is none
            the last.
        run_metrics: folder that holds `NAME.run.json` of the runs that were measured.

    Raises:
        DataError: a dataset is missing, or was written by another stage than it is given for.
    """
    manifests = {name: _read_manifest(name, datasets[name]) for name in RUNS if name in datasets}
    teacher = rates(judged(datasets["verified"]))
    families = [family for family in teacher if family != ALL][:MAX_FAMILIES]
    judged_student = manifests["evaluation"]["figures"] if "evaluation" in manifests else None
    if judged_student is not None and "difference" not in judged_student:
        raise DataError(
            f"{datasets['evaluation']}: one model's verified rate or none, and the report shows two; run evaluate_lm "
            "with before=MODEL on prompts that can be judged"
        )
    return Figures(
        steps=_steps(datasets, manifests),
        rates={"teacher": teacher} | (_student_rates(judged_student) if judged_student else {}),
        gain=judged_student["difference"] if judged_student else None,
        samples=samples(datasets["verified"], families),
        unseen=unseen(datasets["evaluation"]) if judged_student else [],
        tokens=n_tokens(datasets["traces"]),
        losses=_read_losses(datasets["student"]) if "student" in datasets else [],
        runs={RUNS[name]: _read_run(run_metrics, RUNS[name]) for name in manifests},
        manifests=manifests,
        sources=sources(datasets["prompts"]),
    )


def _read_manifest(name: str, dataset: Path) -> Row:
    manifest = read_manifest(dataset)
    if not RUNS[name].startswith(manifest.get("stage", "?")):
        raise DataError(
            f"{dataset}: expected what {RUNS[name]} writes, found {manifest.get('stage', 'another folder')}"
        )
    return manifest


def _notes(datasets: Mapping[str, Path], manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What is said of each step of the funnel."""
    n_prompts = pl.scan_parquet(datasets["traces"] / "part-*.parquet").select(pl.col("prompt_id").n_unique())
    notes = {
        "prompts": f"method {manifests['prompts']['method']}",
        "traces": f"{manifests['traces']['teacher']['model']} on {n_prompts.collect().item():,} prompts",
        "verified": f"method {manifests['verified']['method']}",
    }
    if "student" in manifests:
        student = manifests["student"]
        steps = student["params"].get("steps")
        length = f"{steps} steps" if steps else f"{student['params']['epochs']} epochs"
        notes["student"] = f"{student['base']['name']}, {length}"
    return notes


def _steps(datasets: Mapping[str, Path], manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Step]:
    steps = {name: _step(manifests[name], note) for name, note in _notes(datasets, manifests).items()}
    student = steps.pop("student", None)
    for dataset in _between(datasets):
        manifest = read_manifest(dataset)
        name = dataset.name if dataset.name not in steps else dataset.as_posix()
        steps[name] = _step(manifest, f"method {manifest.get('method')}")
    return steps | ({"student": student} if student else {})


def _between(datasets: Mapping[str, Path]) -> list[Path]:
    """The datasets of the folder `between` that the student, or else the last of them, was made of, in their order."""
    if "between" not in datasets:
        return []
    known = {path.resolve() for name, path in datasets.items() if name != "between"}
    folder = [one for one in find_directories(datasets["between"]) if "record" in read_manifest(one)]
    flow = [one for one in by_flow([*folder, datasets["verified"]]) if one.resolve() not in known]
    if not flow:
        raise DataError(f"{datasets['between']}: holds no dataset directory; leave --between out")
    end = datasets.get("student", flow[-1])
    made_of = {Path(step.dataset).resolve() for step in trace_back(end, [*folder, datasets["verified"]])} - known
    return [one for one in flow if one.resolve() in made_of]


def _step(manifest: Mapping[str, Any], note: str) -> Step:
    rows = manifest["rows"]
    return Step(
        note=note, n_in=rows["in"], n_out=rows["out"], reasons=manifest["rejected"], stage=manifest.get("stage", "")
    )


def _student_rates(figures: Mapping[str, Any]) -> dict[str, dict[str, Rate]]:
    """Before and after training, from what evaluate_lm counted: one answer a prompt, a missing one not verified."""
    counted = {ALL: {"n": figures["n_prompts"]} | figures["verified_rate"]} | figures["by_family"]
    return {
        who: {family: _wilson(round(row[who] * row["n"]), row["n"], row["n"]) for family, row in counted.items()}
        for who in ("before", "after")
    }


def _read_losses(student: Path) -> list[tuple[int, float]]:
    records = json.loads((student / "loss.json").read_text(encoding="utf-8"))
    return [(record["step"], record["loss"]) for record in records]


def _read_run(folder: Path | None, name: str) -> Row | None:
    file = folder / f"{name}.run.json" if folder else None
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else None


def judged(verified: Path) -> pl.LazyFrame:
    """Every trace that was judged: `id`, `family`, `prompt_id`, `passed`."""
    tables = {"part-*.parquet": True, "rejected.parquet": False}
    return pl.concat(
        pl.scan_parquet(verified / table).select("id", "family", "prompt_id", passed=pl.lit(passed))
        for table, passed in tables.items()
    )


def rates(answers: pl.LazyFrame) -> dict[str, Rate]:
    """Verified rate by family, and over all under `ALL`.

    Wilson's interval (1927) at the effective sample size of Korn and Graubard (Survey Methodology 24, 1998): attempts
    at one prompt resemble each other, so they count for less than as many attempts at different prompts. Where all or
    none passed, the attempts at one prompt count as one.

    Args:
        answers: columns family, prompt_id, passed (bool).
    """
    x, n = pl.col("x"), pl.col("n")
    prompts = answers.group_by("family", "prompt_id").agg(
        x=pl.col("passed").sum().cast(pl.Float64), n=pl.len().cast(pl.Float64)
    )
    sums = {"x": x.sum(), "n": n.sum(), "xx": (x * x).sum(), "xn": (x * n).sum(), "nn": (n * n).sum(), "m": pl.len()}
    by_family = prompts.group_by("family").agg(**sums).sort("family")
    overall = prompts.select(family=pl.lit(ALL), **sums)
    rows = [row for frame in pl.collect_all([by_family, overall]) for row in frame.iter_rows(named=True)]
    return {row["family"]: _rate(**{name: row[name] for name in sums}) for row in rows if row["n"]}


def samples(verified: Path, families: Iterable[str]) -> list[Sample]:
    """One prompt a family, with both a kept and a dropped answer where there is one: by the least hash of its id."""
    answers = judged(verified).group_by("family", "prompt_id")
    passed = pl.col("passed")
    prompts = answers.agg(kept=pl.col("id").filter(passed).min(), dropped=pl.col("id").filter(~passed).min()).collect()
    chosen: list[Row] = []
    for family in families:
        of_family = prompts.filter(pl.col("family") == family)
        both = of_family.drop_nulls()
        id = min(both["prompt_id"] if len(both) else of_family["prompt_id"], key=_hash)
        chosen.append(of_family.row(by_predicate=pl.col("prompt_id") == id, named=True))
    kept = _by_id(verified / "part-*.parquet", [row["kept"] for row in chosen])
    dropped = _by_id(verified / "rejected.parquet", [row["dropped"] for row in chosen])
    why = _by_id(verified / "rejections.parquet", [row["dropped"] for row in chosen])
    return [
        Sample(
            family=r["family"], kept=kept.get(r["kept"]), dropped=dropped.get(r["dropped"]), why=why.get(r["dropped"])
        )
        for r in chosen
    ]


def unseen(evaluation: Path) -> list[Unseen]:
    """One prompt a family that the student answered before and after training, by the least hash of its id."""
    answers = pl.scan_parquet(evaluation / "part-*.parquet").select("id", "family", "prompt_id", "teacher")
    pairs = answers.collect().pivot("teacher", index=["family", "prompt_id"], values="id").drop_nulls()
    ids = [min(of_family["prompt_id"], key=_hash) for of_family in pairs.sort("family").partition_by("family")]
    chosen = {row["prompt_id"]: row for row in pairs.filter(pl.col("prompt_id").is_in(ids)).to_dicts()}
    wanted = [row[who] for row in chosen.values() for who in ("before", "after")]
    rows = _by_id(evaluation / "part-*.parquet", wanted)
    verdicts = _by_id(evaluation / "verdicts.parquet", wanted)
    why = {
        id: {"reason": verdict["reason"] or verdict["status"], "detail": verdict["detail"] or ""}
        for id, verdict in verdicts.items()
        if verdict["status"] != "pass"
    }
    return [
        Unseen(
            family=chosen[id]["family"],
            before=rows[chosen[id]["before"]],
            after=rows[chosen[id]["after"]],
            before_why=why.get(chosen[id]["before"]),
            after_why=why.get(chosen[id]["after"]),
        )
        for id in ids[:MAX_FAMILIES]
    ]


def sources(prompts: Path) -> dict[str, int]:
    """Origin of the prompts' raw rows, a file or a corpus, to the number of prompts; a `source` starts with it."""
    origin = pl.col("source").str.extract(r"^([^/:]+)").drop_nulls().value_counts().struct.unnest()
    counts = (
        pl.scan_parquet(prompts / "part-*.parquet").select(origin).sort("count", "source", descending=[True, False])
    )
    return dict(counts.collect().iter_rows())


def n_tokens(traces: Path) -> tuple[int, int]:
    """Tokens of the prompts and of the answers in a dataset of Traces, as the teacher counted them."""
    sums = pl.scan_parquet(traces / "part-*.parquet").select(
        pl.col("n_prompt_tokens", "n_completion_tokens").cast(pl.Int64).sum()
    )
    return sums.collect().row(0)


def _rate(x: float, n: float, xx: float, xn: float, nn: float, m: int) -> Rate:
    """From x of n answers to m prompts that passed; xx, xn and nn are sums of products over prompts."""
    p = x / n
    variance = (xx - 2 * p * xn + p * p * nn) * m / max(1, m - 1) / n**2  # of the ratio x / n, prompts as clusters
    effective = min(n, p * (1 - p) / variance) if variance > 0 else float(m)
    return _wilson(int(x), int(n), effective)


def _wilson(n_passed: int, n: int, effective: float) -> Rate:
    """The rate with Wilson's interval as of `effective` answers."""
    p, z2 = n_passed / n, Z_95**2
    centre = (p + z2 / (2 * effective)) / (1 + z2 / effective)
    half = Z_95 / (1 + z2 / effective) * math.sqrt(p * (1 - p) / effective + z2 / (4 * effective**2))
    return Rate(n_passed=n_passed, n=n, low=max(0.0, centre - half), high=min(1.0, centre + half))


def _by_id(table: Path, ids: Iterable[str | None]) -> dict[str, Row]:
    rows = pl.scan_parquet(table, parallel="prefiltered").filter(pl.col("id").is_in([id for id in ids if id]))
    return {row["id"]: row for row in rows.collect().iter_rows(named=True)}


def _hash(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()
