"""Oracle: what was kept by the part of a run that ended; names by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainers.lm_comparison import Outcome, compare, name_of, open_bench, parse


def nothing(_: object) -> None:
    """No judge, and no one to tell."""


def test_a_run_that_ended_goes_on_with_the_next_student(tiny: Path, traces: Path, tmp_path: Path):
    """The seconds of those that are done are the first run's: they were read, and not trained again."""
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text(json.dumps({"prompt": "tell", "completion": "12"}) + "\n")
    section = {
        "student": str(tiny), "teacher": str(tiny), "teacher_kind": "hidden", "steps": 2, "batch_size": 2,
        "n_threads": 1, "seeds": 2, "objectives": ["supervised", "reverse_kl"],
    }  # fmt: skip
    kept = tmp_path / "kept"
    judge: Callable[[Any], None] = nothing
    bench = open_bench(parse(section), traces, heldout, tmp_path)
    begun = compare(bench, kept, judge, nothing)
    first = [next(begun) for _ in range(3)]
    begun.close()
    told: list[Outcome] = []
    whole = list(compare(bench, kept, judge, told.append))
    assert whole[:3] == first and told == whole
    assert [(one.objective, one.seed) for one in whole] == [
        ("start", 0), ("supervised", 0), ("reverse_kl", 0), ("supervised", 1), ("reverse_kl", 1),
    ]  # fmt: skip
    assert whole[1].nats_per_token != whole[3].nats_per_token
    assert {file.name for file in kept.iterdir()} == {f"student-{one.objective}-{one.seed}.json" for one in whole}


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        ("taid", "taid"),
        ({"forward_kl": 0.9, "supervised": 0.1}, "forward_kl 0.9 + supervised 0.1"),
        ({"jensen_shannon": {"weight": 1, "weight_of_teacher": 0.1}}, "jensen_shannon 1 (weight_of_teacher 0.1)"),
    ],
)
def test_an_objective_is_named_by_its_parts(objective: Any, name: str):
    assert name_of(objective) == name
