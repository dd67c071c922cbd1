"""A dvc.yaml as the stages of ours that it runs, with what each reads and writes; DVC itself is not needed."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from datagen.contracts.errors import DataError
from datagen.contracts.stage import PACKAGES, find_stages


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a pipeline.

    Attributes:
        name: as DVC calls it, `STAGE@KEY` where it is one of several.
        stage: of ours that it runs.
        section: of the params file; empty for one that reads none.
        inputs: argument to path.
        out: what it writes.
        metrics: its metrics file, None where it writes none.
    """

    name: str
    stage: str
    section: str
    inputs: Mapping[str, Path]
    out: Path
    metrics: Path | None


def read_pipeline(path: Path) -> list[Step]:
    """The steps in an order in which each comes after those whose outputs it reads.

    Raises:
        DataError: no such file, not YAML, without stages, or going round in a circle.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a pipeline with --pipeline FILE") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise DataError(f"{path}: expected `stages`, each a name and what it runs")
    steps = [step for name, one in _written_out(content["stages"]) if (step := _step(name, str(one.get("cmd", ""))))]
    return _in_order(steps, path)


def _written_out(stages: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each stage of a `foreach` by itself."""
    for name, one in stages.items():
        if "foreach" not in one:
            yield name, one
            continue
        items = one["foreach"]
        for key, item in items.items() if isinstance(items, dict) else [(item, item) for item in items]:
            text = json.dumps(one["do"]).replace("${item}", str(item)).replace("${key}", str(key))
            yield f"{name}@{key}", json.loads(text)


def _step(name: str, command: str) -> Step | None:
    """None for a command that is none of our stages."""
    words = shlex.split(command)
    stage = next((word for word in words[1:] if not word.startswith("-")), "").rpartition(".")[2]
    of_ours = words[:1] == ["datastill"] or (words[:2] == ["python", "-m"] and words[2].split(".")[0] in PACKAGES)
    if not of_ours or stage not in find_stages():
        return None
    given = {option[2:].replace("-", "_"): value for option, value in pairwise(words) if option.startswith("--")}
    section = given.pop("section", stage) if "params" in given else ""
    given.pop("params", None)
    metrics = given.pop("metrics", None)
    return Step(
        name=name, stage=stage, section=section, out=Path(given.pop("out", "")),
        metrics=Path(metrics) if metrics else None, inputs={argument: Path(value) for argument, value in given.items()},
    )  # fmt: skip


def _in_order(steps: list[Step], path: Path) -> list[Step]:
    made = {step.out: step.name for step in steps}
    needs = {
        step.name: {made[out] for out in made for read in step.inputs.values() if out in (read, *read.parents)}
        for step in steps
    }
    ordered: list[Step] = []
    while len(ordered) < len(steps):
        done = {step.name for step in ordered}
        ready = [step for step in steps if step.name not in done and needs[step.name] - {step.name} <= done]
        if not ready:
            raise DataError(f"{path}: stages wait for each other: {', '.join(sorted(needs.keys() - done))}")
        ordered.append(ready[0])
    return ordered
