import json
from fractions import Fraction
from pathlib import Path

import pytest

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.records import Prompt
from datagen.prompts.gsm8k import Config, gsm8k

RAW_FOLDER = Path(__file__).parents[3] / "data" / "raw"


def make(raw: Path = RAW_FOLDER, **params: int) -> list[Prompt]:
    return list(gsm8k(Config(method="gsm8k", **params), raw))


def test_first_row_as_published():
    """The first problem of GSM8K's train.jsonl and its official answer: 48 + 24 = 72 clips."""
    prompt = make(n_prompts=1)[0]
    assert prompt.text.startswith("Natalia sold clips to 48 of her friends in April")
    assert (prompt.reference, prompt.family, prompt.source) == ("72", "gsm8k", "gsm8k/train/1")


def test_references_are_what_the_worked_solutions_end_on():
    """The result of a solution's last calculator mark is its answer in at least nine of ten; the rest do more."""
    rows = [json.loads(line) for line in (RAW_FOLDER / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()]
    prompts = make(n_prompts=200)
    assert [prompt.text.split("\n")[0] for prompt in prompts] == [row["question"].split("\n")[0] for row in rows]
    last = [row["answer"].rsplit("=", 1)[-1].split(">>")[0] for row in rows if "<<" in row["answer"]]
    asked = [prompt.reference for prompt, row in zip(prompts, rows, strict=True) if "<<" in row["answer"]]
    agree = sum(_number(a) == _number(b or "") for a, b in zip(last, asked, strict=True))
    assert agree / len(last) > 0.9


def test_rows_are_a_window():
    """Rows 10 to 14 of the whole are a window's rows; equal calls give equal prompts."""
    assert make(first_row=10, n_prompts=5) == make(n_prompts=200)[10:15]


def test_what_is_missing_is_said(tmp_path: Path):
    """One line that names the folder, the file and line, or the parameter."""
    with pytest.raises(ParamsError, match="--raw data/raw"):
        list(gsm8k(Config(method="gsm8k"), None))
    with pytest.raises(ParamsError, match="rows 150 to 250 are asked for"):
        make(first_row=150, n_prompts=100)
    with pytest.raises(DataError, match=r"train\.jsonl: missing"):
        make(tmp_path)
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/train.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.jsonl:1: no question with an answer after ####"):
        make(tmp_path, n_prompts=1)


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").strip("$% "))
    except ValueError:
        return None
