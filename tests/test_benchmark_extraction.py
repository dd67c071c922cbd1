"""The benchmark of extraction: rows of several kinds as texts. Oracle: the texts written out by hand."""

import json
from pathlib import Path

import pytest

from benchmarks import extraction

ROWS = {
    "gsm8k": ({"question": "How many?", "answer": "2+2 = <<2+2=4>>4\n#### 4"}, "How many?\n2+2 = 4\n#### 4"),
    "instructions": ({"instruction": "Add.", "input": "1, 2", "output": "3"}, "Add.\n1, 2\n3"),
    "seed tasks": ({"instruction": "Add.", "instances": [{"input": "", "output": "3"}]}, "Add.\n3"),
    "turns": ({"question_id": 1, "turns": ["First?", "Then?"]}, "First?\nThen?"),
    "traces": ({"prompt": "Why?", "completion": "So."}, "Why?\nSo."),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_s_text(tmp_path: Path, kind: str):
    """What is asked and what is answered, a line each, without a calculator's marks."""
    row, text = ROWS[kind]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert list(extraction._texts_of(file)) == [text]


def test_rows_for_a_stage_are_written_once(tmp_path: Path):
    """A file with the same rows stays as it is, so that the training that read it is not done again."""
    file = extraction._write(tmp_path / "rows.jsonl", [("q", "a")])
    assert json.loads(file.read_text()) == {"id": "r0", "prompt": "q", "completion": "a"}
    written = file.stat().st_mtime_ns
    extraction._write(file, [("q", "a")])
    assert file.stat().st_mtime_ns == written
    extraction._write(file, [("q", "b")])
    assert json.loads(file.read_text())["completion"] == "b"
