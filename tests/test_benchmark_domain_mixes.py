"""Oracle: a file of results written by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.domain_mixes import main
from trainers.domain_mix import Config


def outcome(arm: str, seed: int, gaps: tuple[float, float], measured: int = 0) -> dict[str, Any]:
    return {
        "arm": arm, "seed": seed, "gaps": dict(zip("ab", gaps, strict=True)), "weights": [],
        "n_sequences": {"a": 30, "b": 10}, "cpu_s": 22.0 if measured else 20.0, "measuring_s": 2.0 if measured else 0.0,
        "measured_sequences": measured,
    }  # fmt: skip


def test_the_tables_of_a_file_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Mean gaps 1 and 2 less 1.5 and 3.5 are -1 +- 6.3531 (t of one degree of freedom, 12.7062, times 0.5).

    Worst gaps 2 and 3 less 2 and 5: -1 +- 12.7062. Measuring: 2 of 22 seconds; 0.2 s a sequence and 2 s a step.
    """
    outcomes = [outcome("start", 0, (math.log(2), math.log(6)))]
    outcomes += [outcome("uniform", 0, (1.0, 2.0)), outcome("uniform", 1, (2.0, 5.0))]
    outcomes += [outcome("ddk", 0, (0.0, 2.0), 10), outcome("ddk", 1, (1.0, 3.0), 10)]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"outcomes": outcomes, "params": {"steps": 10}}))
    main(["--out", str(file)])
    said = capsys.readouterr().out
    assert "a 2.00, b 6.00; the largest is 3.00 times the smallest" in said
    assert "mean gap, ddk less uniform: -1.0000 [-7.3531, +5.3531]" in said
    assert "worst gap, ddk less uniform: -1.0000 [-13.7062, +11.7062]" in said
    lines = {line[:24].strip(): line[24:].split() for line in said.splitlines()[2:6]}
    assert lines["ddk"] == ["1.5000", "6.3531", "2.5000", "0.5000", "2.5000"]
    assert lines["drawn"] == ["0.750", "0.250"]
    default = Config()
    at_default = default.mixture_rows * 2 * 0.2
    share = at_default / (at_default + default.mixture_every * 2.0)
    assert f"9.1% of training here; {share:.1%} with {default.mixture_rows} sequences" in said
