"""Oracles: published intervals; arms whose every figure is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.synthesis import Arm, compare, main, read_arm, wilson


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_s_interval(n_right: int, n: int, low: float, high: float):
    """Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3."""
    assert wilson(n_right, n) == pytest.approx([low, high], abs=6e-4)


def test_two_corpora_are_compared_at_equally_many_texts_and_words():
    """Four texts of three words each, all different, beside two texts of two, both the same."""
    texts = ["a b c", "d e f", "g h i", "j k l"]
    first = Arm(texts, [["x"]] * 4, np.eye(4, dtype=np.float32), [[0], [1], [2], [3]], False)
    second = Arm(["m n", "M n!"], [["x"]] * 2, np.eye(4, dtype=np.float32)[[0, 0]], [[0], [1]], False)
    one, other = compare([first, second], [range(4), range(2)], 0)
    assert (one["distinct_1"], other["distinct_1"]) == (1, 0.5)
    assert (one["topics"], other["topics"]) == (pytest.approx(2), pytest.approx(1))
    assert (one["near_by_cosine"], one["near_by_words"]) == (0, 0)
    assert (other["near_by_cosine"], other["near_by_words"]) == (1, 1)


def test_utterances_are_those_without_a_context(tmp_path: Path):
    rows: list[dict[str, Any]] = [
        {"id": str(i), "text": f"text {i}", "labels": ["joy"], "source": f"s{i % 25}"} for i in range(100)
    ]
    for row in rows[1::2]:
        row["context"] = "somewhere"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arm = read_arm(path, 50, 0)
    assert sorted(arm.texts) == sorted(f"text {i}" for i in range(0, 100, 2))
    assert arm.by_source and len(arm.units) == 25 and sorted(i for unit in arm.units for i in unit) == [*range(50)]
    assert not read_arm(path, 10, 0).by_source
    with pytest.raises(SystemExit, match="50 examples without a context; --utterances asks for 51"):
        read_arm(path, 51, 0)


def test_diversity_needs_two_datasets(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--only", "diversity"])
    assert "needs --grounded and --ungrounded" in capsys.readouterr().err
