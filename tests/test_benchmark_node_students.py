"""The table of benchmarks/node_students.py by hand, so that it does not rot; nothing is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.node_students import PUBLISHED, average, main, table
from datagen.contracts.errors import DataError

SPREAD = (-0.02, 0.0, 0.02)  # of the seeds about their mean; half a t-interval of such three is 0.0497


def cell(teacher: float, baseline: float, glnn: float, ff_g2m: float, hidden: int = 512) -> dict[str, Any]:
    """Seeds that differ as `SPREAD` says, alike for all but FF-G2M, which is the same for each seed."""
    means = {"teacher": teacher, "baseline": baseline, "glnn": glnn, "ff_g2m": ff_g2m}
    return {
        "settings": {"hidden": hidden, "seeds": 3}, "published_hidden": 512, "cpu_s": 1.5,
        **{
            name: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01,
                   "by_seed": [mean + (name != "ff_g2m") * one for one in SPREAD]}
            for name, mean in means.items()
        },
    }  # fmt: skip


def test_claims_are_shown_by_differences_seed_by_seed():
    """By hand: averages .75, .6, .7 and .8, each difference of FF-G2M's give or take .0497, of the others' none."""
    good = average({"a": cell(0.8, 0.6, 0.7, 0.75), "b": cell(0.7, 0.6, 0.7, 0.85, hidden=128)})
    assert [good[name] for name in ("teacher", "baseline", "glnn", "ff_g2m")] == pytest.approx([0.75, 0.6, 0.7, 0.8])
    half = 4.302653 * 0.02 / 3**0.5  # Student's t of two degrees of freedom
    for claim, mean, spread in (
        ("ff_g2m_over_glnn", 0.1, half),
        ("glnn_over_baseline", 0.1, 0),
        ("ff_g2m_over_teacher", 0.05, half),
        ("ff_g2m_10_points_over_baseline", 0.2, half),
    ):
        found = good["differences"][claim]
        assert [found[end] for end in ("mean", "low", "high")] == pytest.approx(
            [mean, mean - spread, mean + spread], abs=5.1e-5
        )
    assert all(good["shown"].values()) and len(good["shown"]) == 4
    assert good["cut_cells"] == 1 and good["hidden_and_published"] == {"a": [512, 512], "b": [128, 512]}
    less = average({"a": cell(0.76, 0.66, 0.76, 0.8)})
    assert less["shown"] == {
        "ff_g2m_over_glnn": False, "glnn_over_baseline": True, "ff_g2m_over_teacher": False,
        "ff_g2m_10_points_over_baseline": False,
    }  # fmt: skip


def test_a_cut_hidden_layer_is_in_the_table():
    lines = table({"cora gcn": cell(0.8, 0.6, 0.7, 0.75), "cora gat": cell(0.8, 0.6, 0.7, 0.75, hidden=128)})
    assert lines[1].split()[:5] == ["cora", "gcn", "512", "80.00", "±"] and lines[1].split()[5] == "1.00"
    assert "128 of 512" in lines[2]
    assert lines[3].split() == ["average", "80.00", "60.00", "70.00", "75.00"]
    assert lines[4] == "1 of 2 cells with fewer hidden units than published"
    assert lines[5] == "ff g2m over glnn: +5.00 [+0.03, +9.97] against 0: shown"


def test_cells_of_other_seeds_are_not_merged(tmp_path: Path):
    """Refused before anything is read or trained; with the same seeds the file is what the cells say."""
    out = tmp_path / "cells.json"
    cells = {"cora gcn": cell(0.8, 0.6, 0.7, 0.75)}
    out.write_text(json.dumps({"cells": cells}))
    with pytest.raises(DataError, match=r"--seeds is 5, and there are cells of others: .'cora gcn': 3"):
        main(["--data", str(tmp_path / "none"), "--out", str(out)])
    main(["--out", str(out), "--seeds", "3"])
    assert json.loads(out.read_text()) == {"benchmark": "node_students", "cells": cells, "average": average(cells)}


def test_settings_are_there_for_each_set_and_teacher():
    """Nine cells; the label weight is a share, and none on Pubmed, as published."""
    assert len(PUBLISHED) == 9
    assert all(0 <= one.label_weight <= 0.5 for one in PUBLISHED.values())
    assert {one.label_weight for (dataset, _), one in PUBLISHED.items() if dataset == "pubmed"} == {0.0}
