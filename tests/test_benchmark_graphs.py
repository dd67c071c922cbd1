"""Oracles: metrics written by hand."""

from typing import Any

import pytest

from benchmarks.graphs import cell, main, nets_apart, show_costs


def scores(low: float, high: float, **others: Any) -> dict[str, Any]:
    return {"auc": {"mean": (low + high) / 2, "low": low, "high": high}, **others}


def test_intervals_that_are_apart():
    """Of gin it is above both; of gat at_random reaches into it, and is not the best coreset; of sage the best does."""
    of_set = {
        "gin": scores(0.7, 0.8, best_coreset="herding-60"),
        "gat": scores(0.7, 0.8, best_coreset="herding-60"),
        "sage": scores(0.7, 0.8, best_coreset="at_random-60"),
    }
    coresets = {
        "herding-60": {"nets": {net: scores(0.6, 0.69) for net in of_set}},
        "at_random-60": {"nets": {"gin": scores(0.5, 0.65), "gat": scores(0.5, 0.71), "sage": scores(0.6, 0.7)}},
        "at_random-90": {"nets": {net: scores(0.9, 0.95) for net in of_set}},
    }
    metrics = {"measure": "auc", "condensed": {"ours": {"nets": of_set}}, "coresets": coresets}
    assert nets_apart(metrics, "ours") == ["gin"]


def test_a_cell_of_the_table():
    assert cell(scores(0.5, 0.7), "auc") == "0.600 [0.500, 0.700]"
    assert cell(scores(0.5, 0.7, over_best_coreset={"mean": -0.01}), "auc") == "0.600 [0.500, 0.700] -0.010"


def test_a_set_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]):
    main(["--sets", "NCI1"])
    assert "NCI1: left out, as there is no tu/NCI1; name the folder" in capsys.readouterr().out


def test_what_a_set_costs(capsys: pytest.CaptureFixture[str]):
    """50 of 1,000 bytes; students of it take 2 s in the mean, of everything 6 s."""
    whole = {"bytes": 1000, "nets": {"gin": {"seconds": 4.0}, "gcn": {"seconds": 8.0}}}
    ours = {
        "bytes": 50, "condensing_seconds": 9.0, "worth": {"against_everything": {"n_students": 3}},
        "nets": {"gin": {"seconds": 1.0}, "gcn": {"seconds": 3.0}},
    }  # fmt: skip
    never = ours | {"worth": {"against_everything": {"n_students": None}}}
    show_costs({"NCI1-50": {"whole": whole, "condensed": {"ours": ours, "paper": never}}})
    _, _, first, second = capsys.readouterr().out.splitlines()
    numbers = "0 2 50 5.00% 9.0 s 2.0 s 6.0 s"
    assert " ".join(first.split()) == f"NCI1-50 ours {numbers} 3 students"
    assert second.endswith("never")
