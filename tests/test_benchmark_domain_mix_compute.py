"""Oracles: budgets by hand, and a file of results written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.domain_mix_compute import main, split


@pytest.mark.parametrize(
    ("budget", "a_measurement", "expected"),
    [
        (960, 0, (40, 0)),
        (960, 32, (34, 128)),  # 34 steps are 816, and measurements before steps 0, 10, 20 and 30 are 128: 944
        (272, 32, (10, 32)),  # ten steps of 24, one measurement
        (295, 32, (10, 32)),  # an eleventh would want a second measurement
        (328, 32, (11, 64)),
    ],
)
def test_a_budget_pays_for_steps_and_the_measurements_between_them(
    budget: int, a_measurement: int, expected: tuple[int, int]
):
    assert split(budget, 24, a_measurement, 10) == expected


def test_a_budget_that_pays_for_no_step_is_refused():
    with pytest.raises(ValueError, match=r"40 sequences pay for no step of 24; raise --steps"):
        split(40, 24, 32, 10)


def test_the_table_of_a_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Mean gaps 1 and 2 less 2 and 4: -1.5, and t of one degree of freedom (12.7062) times 0.5."""

    def spent(arm: str, seed: int, gap: float, on_proxies: int) -> dict[str, Any]:
        outcome = {
            "arm": arm, "seed": seed, "gaps": {"a": gap - 0.5, "b": gap + 0.5}, "weights": [],
            "n_sequences": {"a": 3, "b": 1}, "cpu_s": 1.0, "measuring_s": 0.0, "measured_sequences": 0,
        }  # fmt: skip
        return {
            "outcome": outcome,
            "on_proxies": on_proxies,
            "on_measuring": 0,
            "steps": 40 - on_proxies,
            "weights": {},
        }

    file = tmp_path / "results.json"
    rows = [
        spent("uniform", 0, 2.0, 0),
        spent("uniform", 1, 4.0, 0),
        spent("doremi", 0, 1.0, 30),
        spent("doremi", 1, 2.0, 30),
    ]
    file.write_text(json.dumps({"spent": rows}))
    main(["--out", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["uniform", "0", "0", "40", "3.0000", "±", "12.7062"]
    assert lines[2].split() == ["doremi", "30", "0", "10", "1.5000", "±", "6.3531", "-1.5000", "[-7.8531,", "+4.8531]"]
