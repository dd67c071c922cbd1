"""What a run cost: sums by hand over the runs' own facts."""

import json
from pathlib import Path

import pytest

from datagen.contracts.errors import DataError
from datagen.report.costs import cost_section, read_runs


def test_sums_are_over_all_stages(tmp_path: Path):
    """1,000 + 500 prompt tokens, 0.25 + 0.5 paid; a stage that asked nobody counts in the time alone: 3 min 00 s."""
    runs = {
        "traces": {"seconds": 60.0, "cpu_seconds": 5.0, "requests": 8, "ledger_hits": 2, "spent_prompt_tokens": 1000,
                   "spent_completion_tokens": 300, "spent_cost": 0.25},
        "corpus": {"seconds": 60.0, "cpu_seconds": 5.0, "requests": 4, "spent_prompt_tokens": 500, "spent_cost": 0.5},
        "verify": {"seconds": 60.0, "cpu_seconds": 20.0, "joules": 3_600_000},
    }  # fmt: skip
    for name, facts in runs.items():
        (tmp_path / f"{name}.run.json").write_text(json.dumps(facts))
    assert read_runs(tmp_path) == runs
    html = cost_section(runs)
    last = html[html.index(">all<") :]
    assert [last.count(f">{cell}<") for cell in ("12", "2", "1,500", "300", "0.75")] == [1] * 5
    assert "3 stages" in html and "3 min 00 s" in html and "30.0 s of processor" in html and "1 kWh" in html
    assert "verify" not in html


def test_a_run_that_asked_nobody_has_no_costs():
    assert cost_section({"verify": {"seconds": 1.0, "cpu_seconds": 1.0, "requests": 0}}) == ""


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_file_is_named(tmp_path: Path, content: str):
    (tmp_path / "traces.run.json").write_text(content)
    with pytest.raises(DataError, match=r"traces\.run\.json.*run the stage again"):
        read_runs(tmp_path)
