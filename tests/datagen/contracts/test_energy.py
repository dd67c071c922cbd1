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
        (zone / "name").write_text({"intel_rapl_0_0": "core", "intel_rapl_2": "psys"}.get(name, f"package-{name[-1]}"))


def test_packages_are_added_and_parts_of_them_are_not(tmp_path: Path):
    write(tmp_path, intel_rapl_0="1000000", intel_rapl_1="9000000", intel_rapl_0_0="0", intel_rapl_2="0")
    before = read_counters(tmp_path)
    write(tmp_path, intel_rapl_0="3500000", intel_rapl_1="500000", intel_rapl_0_0="7000000", intel_rapl_2="9")
    after = read_counters(tmp_path)
    assert set(before) == {"intel-rapl:0", "intel-rapl:1"}
    assert joules_since(before, after, 0.01) == pytest.approx(2.5 + 1.5)
    assert joules_since(before, after, 0.03) is None, "at 500 W a counter of 10 J may have begun again twice"


def test_where_nothing_is_shown_nothing_is_said(tmp_path: Path):
    assert read_counters(tmp_path / "none") == {}
    assert joules_since({}, {}, 1) is None
    write(tmp_path, intel_rapl_0="no number")
    assert read_counters(tmp_path) == {}
    write(tmp_path, intel_rapl_0="5")
    one = read_counters(tmp_path)
    assert joules_since(one, {}, 0) is None and joules_since(one, one, 0) == 0
