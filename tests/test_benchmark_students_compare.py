"""Oracle: a file of results written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.students_compare import check_kept, main
from datagen.contracts.errors import DataError


def outcome(objective: str, seed: int, nats: float) -> dict[str, Any]:
    return {
        "objective": objective, "seed": seed, "nats_per_token": nats, "calibration_error": 0.25, "accuracy": 0.5,
        "verified_rate": None, "n_tokens_learned": 9, "loss_last_step": 1.0, "seconds": 4.0, "cpu_s": 3.0,
        "peak_bytes": 2_000_000_000,
    }  # fmt: skip


def test_without_data_the_table_and_the_claims_of_a_file_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Differences of two seeds, -1 and -2: mean -1.5, and t of one degree of freedom (12.7062) times 0.5."""
    nats = {"supervised": (5.0, 6.0), "taid": (4.0, 4.0), "reverse_kl": (4.0, 4.0)}
    file = tmp_path / "results.json"
    outcomes = [outcome(name, seed, one) for name, both in nats.items() for seed, one in enumerate(both)]
    file.write_text(json.dumps({"outcomes": outcomes}))
    main(["--out", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("| taid | 4.0000 ± 0.0000 | -1.5000 ± 6.3531 | 0.5000 ± 0.0000 | 0.2500 ± 0.0000 |")
    assert lines[3].endswith("| 3 | 2000 |")
    assert lines[5:] == [
        "taid less supervised: -1.5000 [-7.8531, +4.8531] nats per token",
        "reverse_kl less supervised: -1.5000 [-7.8531, +4.8531] nats per token",
        "taid less reverse_kl: +0.0000 [+0.0000, +0.0000] nats per token",
    ]


def test_students_of_other_parameters_are_not_mixed(tmp_path: Path):
    check_kept(tmp_path / "kept", {"steps": 1})
    check_kept(tmp_path / "kept", {"steps": 1})
    with pytest.raises(DataError, match="students of other parameters are there"):
        check_kept(tmp_path / "kept", {"steps": 2})
