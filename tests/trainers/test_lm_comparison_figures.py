"""Oracles: means, t-intervals and differences by hand."""

import math

import pytest

from trainers.lm_comparison import START, Outcome
from trainers.lm_comparison_figures import costs, figures, plot_rows, table


def outcome(objective: str, seed: int, nats: float, cpu_s: float = 1.0) -> Outcome:
    return Outcome(
        objective=objective, seed=seed, nats_per_token=nats, calibration_error=0.1, accuracy=0.5, verified_rate=None,
        n_tokens_learned=10, loss_last_step=1.0, seconds=2.0, cpu_s=cpu_s, peak_bytes=2_000_000,
    )  # fmt: skip


OUTCOMES = [
    outcome(START, 0, 9.0),
    *(outcome("supervised", seed, nats, 1.0) for seed, nats in enumerate((5.0, 5.1, 5.2))),
    *(outcome("forward_kl", seed, nats, 2.0 + seed) for seed, nats in enumerate((4.0, 4.2, 4.4))),
    *(outcome("taid", seed, nats) for seed, nats in enumerate((5.0, 5.2, 5.1))),
]
T = 4.302653  # Student's t, 2 degrees of freedom, 97.5 %


def test_intervals_and_differences_are_those_of_seeds():
    stated = figures(OUTCOMES)
    assert list(stated) == [START, "supervised", "forward_kl", "taid"]
    half = T * 0.1 / math.sqrt(3)
    assert stated["supervised"]["nats_per_token"]["high"] == pytest.approx(5.1 + half, abs=1e-4)
    forward = stated["forward_kl"]
    assert forward["over_supervised"]["mean"] == pytest.approx(-0.9)
    assert forward["over_supervised"]["high"] == pytest.approx(-0.9 + half, abs=1e-4)  # differences -1, -.9, -.8
    assert forward["apart"] and not stated["taid"]["apart"]
    assert "verified_rate" not in forward and "over_supervised" not in stated["supervised"]


def test_costs_are_apart_and_the_start_has_none():
    assert costs(OUTCOMES)["forward_kl"] == {"seconds": 2.0, "cpu_s": 3.0, "peak_bytes": 2_000_000}
    assert START not in costs(OUTCOMES)
    assert not {"seconds", "cpu_s", "peak_bytes"} & set(figures(OUTCOMES)["forward_kl"])


def test_plot_and_table_have_a_row_for_each():
    stated = figures(OUTCOMES)
    rows = plot_rows(stated)
    assert rows[0] == {"objective": START, "mean": 9.0, "low": 9.0, "high": 9.0}
    assert rows[2]["mean"] == 4.2
    lines = table(stated, costs(OUTCOMES)).splitlines()
    assert len(lines) == 6
    half = T * 0.2 / math.sqrt(3)
    assert lines[4].startswith(f"| forward_kl | 4.2000 ± {half:.4f} | -0.9000 ± ")
    assert lines[4].endswith("| 3 | 2 |")
