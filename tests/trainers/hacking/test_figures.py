"""Oracle: curves written by hand."""

import pytest

from trainers.hacking.figures import of_run, of_runs, plot_rows
from trainers.hacking.tabular import Point


def points(golden: list[float], train: list[float], proxy: list[float]) -> list[Point]:
    return [Point(i, *values) for i, values in enumerate(zip(train, proxy, golden, strict=True))]


FALLING = [1 / (1 + i) + 0.1 for i in range(30)]
TURNING = [*FALLING[:20], *(FALLING[19] * (1 + 0.05 * i) for i in range(1, 11))]


def test_a_student_hacks_where_the_golden_curve_turns_while_the_proxy_falls():
    run = of_run(points(TURNING, FALLING, TURNING), 0.1)
    assert run["hacked"] and run["departed"]
    assert run["golden_rise"] == pytest.approx(0.5)
    assert (run["golden_lowest_step"], run["stop_step"]) == (19, 19)
    assert run["golden_at_stop"] == run["golden_lowest"] == TURNING[19]


def test_it_does_not_where_the_proxy_turns_too_or_nothing_does():
    assert not of_run(points(TURNING, TURNING, TURNING), 0.1)["hacked"]
    assert not of_run(points(FALLING, FALLING, FALLING), 0.1)["hacked"]


def test_seeds_are_counted_and_averaged():
    runs = [of_run(points(golden, FALLING, golden), 0.1) for golden in (TURNING, FALLING)]
    stated = of_runs(runs)
    assert (stated["n_seeds"], stated["hacked"], stated["departed"]) == (2, 1, 1)
    assert stated["golden_rise"]["mean"] == pytest.approx(0.25)
    rows = plot_rows([points([1.0, 3.0], [1.0, 1.0], [2.0, 2.0]), points([3.0, 5.0], [1.0, 1.0], [2.0, 2.0])])
    assert rows == [
        {"step": 0, "train_proxy": 1.0, "proxy": 2.0, "golden": 2.0},
        {"step": 1, "train_proxy": 1.0, "proxy": 2.0, "golden": 4.0},
    ]
