"""Energy that the machine says it used: the RAPL counters of its processors, where Linux shows them.

A counter is of a whole package, whoever worked on it, and on many machines root alone may read it. Where there is none
nothing is said. Graphics cards are not counted.

Source: https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"  # AMD's too; parts of a package have a second colon
_MICRO = 1e-6


class Counter(NamedTuple):
    """Microjoules since some moment; after `largest` it starts again at 0."""

    value: int
    largest: int


def read_counters(powercap: Path = POWERCAP) -> dict[str, Counter]:
    """Each package that shows its counter."""
    counters: dict[str, Counter] = {}
    for zone in sorted(powercap.glob(_PACKAGES)):
        if zone.name.count(":") > 1:
            continue
        try:
            value, largest = ((zone / name).read_text() for name in ("energy_uj", "max_energy_range_uj"))
            counters[zone.name] = Counter(int(value), int(largest))
        except (OSError, ValueError):  # root alone may read it, or it is no counter
            continue
    return counters


def joules_since(before: Mapping[str, Counter], after: Mapping[str, Counter]) -> float | None:
    """Joules of all packages between two readings; None where a package shows no counter, or there is none.

    A counter that began again is taken to have done so once: at 200 W that is after about twenty minutes for the
    smallest range that is in use (2**32 units of 61 microjoules), so long runs on such machines are understated.
    """
    if not before or before.keys() != after.keys():
        return None
    used = ((after[name].value - one.value) % (one.largest + 1) for name, one in before.items())
    return round(sum(used) * _MICRO, 3)
