"""Oracles: counters written by hand, one of which begins again."""

from pathlib import Path

import pytest

from datagen.contracts.energy import joules_since, read_counters


def write(powercap: Path, **values: str) -> None:
    for name, value in values.items():
        zone = powercap / name.replace("_", ":").replace("intel:rapl", "intel-rapl")
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text("9999999\n")


def test_packages_are_added_and_parts_of_them_are_not(tmp_path: Path):
    write(tmp_path, intel_rapl_0="1000000", intel_rapl_1="9000000", intel_rapl_0_0="0")
    before = read_counters(tmp_path)
    write(tmp_path, intel_rapl_0="3500000", intel_rapl_1="500000", intel_rapl_0_0="7000000")
    after = read_counters(tmp_path)
    assert set(before) == {"intel-rapl:0", "intel-rapl:1"}
    assert joules_since(before, after) == pytest.approx(2.5 + 1.5)


def test_where_nothing_is_shown_nothing_is_said(tmp_path: Path):
    assert read_counters(tmp_path / "none") == {}
    assert joules_since({}, {}) is None
    write(tmp_path, intel_rapl_0="no number")
    assert read_counters(tmp_path) == {}
    write(tmp_path, intel_rapl_0="5")
    one = read_counters(tmp_path)
    assert joules_since(one, {}) is None and joules_since(one, one) == 0
