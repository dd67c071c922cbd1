"""What earlier runs took: a stage's time, with the params that it had.

Time is where NAME.run.json stands beside a stage's metrics, params are in the manifest of what it wrote. A time is
taken over as it is where the params are equal, and in proportion where they differ in counts of work alone (`COUNTS`):
other models, sizes or methods make another rate. A run that found answers in the ledger did not ask for them, so its
time says nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import content_hash
from datagen.lineage import input_hashes
from datagen.plan.pipeline import Step

COUNTS = frozenset(
    ("n_prompts", "samples_per_prompt", "max_attempts", "epochs", "iterations", "n_trajectories", "seeds", "n_steps",
     "steps", "n_narratives", "n_samples")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An earlier run of a step.

    Attributes:
        seconds: None where the run did not ask for all that it needed.
        params: of the manifest.
        facts: of NAME.run.json.
        rows: that its output has; None where those are no rows.
        rows_in: that it read, as it counts them.
        inputs: argument, or `ARGUMENT/FOLDER` of it, to the SHA-256 of what it read.
    """

    seconds: float | None
    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    rows: int | None
    rows_in: int | None
    inputs: Mapping[str, str]


def read_measured(step: Step, root: Path) -> Measured | None:
    """The run of `step` whose output and metrics lie under `root`; None where none was there."""
    manifest = _read(root / step.out / "manifest.json")
    if manifest is None:
        return None
    facts = (_read(root / step.metrics.with_suffix(".run.json")) if step.metrics else None) or {}
    return Measured(
        seconds=None if _n_hits(facts) else facts.get("seconds"),
        params=manifest.get("params", {}),
        facts=facts,
        rows=manifest.get("rows", {}).get("out"),
        rows_in=manifest.get("rows", {}).get("in"),
        inputs=input_hashes(manifest),
    )


def has_read(measured: Measured, argument: str, path: Path) -> bool:
    """Whether what is at `path` is what the run read by that argument; so it is where it recorded nothing of it."""
    for name, recorded in measured.inputs.items():
        own, _, folder = name.partition("/")
        if own == argument and not ((path / folder).exists() and content_hash(path / folder) == recorded):
            return False
    return True


def scaled_seconds(
    measured: Measured, params: Mapping[str, Any], rows: int | None, earlier_rows: int | None
) -> tuple[float | None, str]:
    """Seconds with `params` and so many input rows, and why; None with the reason where the run does not say."""
    if measured.seconds is None:
        if hits := _n_hits(measured.facts):
            return None, f"the earlier run had {hits:.0f} answers from the ledger"
        return None, "the earlier run's time was not kept"
    names = {name for name in {*params, *measured.params} if params.get(name) != measured.params.get(name)}
    if names - COUNTS:
        return None, f"the earlier run had another {', '.join(sorted(names - COUNTS))}"
    factor = 1.0
    for name in names:
        if not params.get(name) or not measured.params.get(name):
            return None, f"the earlier run did not say {name}"
        factor *= params[name] / measured.params[name]
    if rows and earlier_rows and rows != earlier_rows:
        factor *= rows / earlier_rows
        names.add("rows")
    how = f"in proportion to {', '.join(sorted(names))}" if names else "same params"
    return measured.seconds * factor, f"an earlier run, {how}"


def _n_hits(facts: Mapping[str, Any]) -> float:
    """Answers from the ledger, whichever model's."""
    return sum(n for name, n in facts.items() if name.startswith("ledger_hits"))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
