"""Oracle: a file of results and rows of GSM8K written by hand."""

import json
from pathlib import Path

import pytest

from benchmarks.students_compare import check_kept, main
from datagen.contracts.errors import DataError


def test_without_data_the_table_of_a_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    interval = {"mean": 5.0, "low": 4.75, "high": 5.25}
    figures = {"taid": {name: interval for name in ("nats_per_token", "calibration_error", "accuracy")}}
    costs = {"taid": {"cpu_s": 3.0, "peak_bytes": 2e9}}
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"figures": figures, "costs": costs}))
    main(["--out", str(file)])
    cell = "5.0000 ± 0.2500"
    assert capsys.readouterr().out.splitlines()[-1] == f"| taid | {cell} |  | {cell} | {cell} |  | 3 | 2000 |"


def test_students_of_other_parameters_are_not_mixed(tmp_path: Path):
    check_kept(tmp_path / "kept", {"steps": 1})
    check_kept(tmp_path / "kept", {"steps": 1})
    with pytest.raises(DataError, match="students of other parameters are there"):
        check_kept(tmp_path / "kept", {"steps": 2})
