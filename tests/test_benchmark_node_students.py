"""The table of benchmarks/node_students.py by hand, so that it does not rot; nothing is trained."""

from typing import Any

import pytest

from benchmarks.node_students import PUBLISHED, average, table


def cell(teacher: float, baseline: float, glnn: float, ff_g2m: float, hidden: int = 512) -> dict[str, Any]:
    means = {"teacher": teacher, "baseline": baseline, "glnn": glnn, "ff_g2m": ff_g2m}
    return {
        "settings": {"hidden": hidden}, "published_hidden": 512, "cpu_s": 1.5,
        **{name: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01} for name, mean in means.items()},
    }  # fmt: skip


def test_claims_are_those_of_the_averages():
    """One cell of two may break a claim; the averages are .75, .6, .7 and .8, then .75, .6, .8 and .72."""
    good = average({"a": cell(0.8, 0.6, 0.7, 0.75), "b": cell(0.7, 0.6, 0.7, 0.85)})
    assert [good[name] for name in ("teacher", "baseline", "glnn", "ff_g2m")] == pytest.approx([0.75, 0.6, 0.7, 0.8])
    claims = ("ff_g2m_over_glnn", "glnn_over_baseline", "ff_g2m_at_least_teacher", "ff_g2m_10_points_over_baseline")
    assert [good[name] for name in claims] == [True, True, True, True]
    bad = average({"a": cell(0.75, 0.63, 0.8, 0.72)})
    assert [bad[name] for name in claims] == [False, True, False, False]


def test_a_cut_hidden_layer_is_in_the_table():
    lines = table({"cora gcn": cell(0.8, 0.6, 0.7, 0.75), "cora gat": cell(0.8, 0.6, 0.7, 0.75, hidden=128)})
    assert lines[1].split()[:5] == ["cora", "gcn", "512", "80.00", "±"] and lines[1].split()[5] == "1.00"
    assert "128 of 512" in lines[2]
    assert lines[3].split() == ["average", "80.00", "60.00", "70.00", "75.00"]


def test_settings_are_there_for_each_set_and_teacher():
    """Nine cells; the label weight is a share, and none on Pubmed, as published."""
    assert len(PUBLISHED) == 9
    assert all(0 <= one.label_weight <= 0.5 for one in PUBLISHED.values())
    assert {one.label_weight for (dataset, _), one in PUBLISHED.items() if dataset == "pubmed"} == {0.0}
