"""Energy that the machine says it used: the RAPL counters of its processors, where Linux shows them.

A counter is of a whole package, whoever worked on it, and on many machines root alone may read it. Where there is none
nothing is said. Graphics cards are not counted.

Source: https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

POWERCAP = Path("/sys/class/powercap")
_ZONES = "intel-rapl:[0-9]*"  # AMD's too
MOST_WATTS = 500  # of a package
_MICRO = 1e-6


class Counter(NamedTuple):
    """Microjoules since some moment; after `largest` it starts again at 0."""

    value: int
    largest: int


def read_counters(powercap: Path = POWERCAP) -> dict[str, Counter]:
    """Each package that shows its counter."""
    counters: dict[str, Counter] = {}
    for zone in sorted(powercap.glob(_ZONES)):
        try:
            if not (zone / "name").read_text().startswith("package"):  # a part of one, or the platform around it
                continue
            value, largest = ((zone / name).read_text() for name in ("energy_uj", "max_energy_range_uj"))
            counters[zone.name] = Counter(int(value), int(largest))
        except (OSError, ValueError):  # root alone may read it, or it is no counter
            continue
    return counters


def joules_since(before: Mapping[str, Counter], after: Mapping[str, Counter], seconds: float) -> float | None:
    """Joules of all packages between two readings, so many seconds apart.

    None where there is no counter, or where one may have begun again twice, as a package of `MOST_WATTS` would have it
    do: the smallest range in use is 2**32 units of 61 microjoules.
    """
    if not before or before.keys() != after.keys():
        return None
    if any(seconds * MOST_WATTS > one.largest * _MICRO for one in before.values()):
        return None
    used = ((after[name].value - one.value) % (one.largest + 1) for name, one in before.items())
    return round(sum(used) * _MICRO, 3)
