"""Do the families put the teachers into the order that the overall figure puts them into?

The check is the method notes' own on "Not All Correct Answers Are Equal" (arXiv:2505.14464): its mean lengths are those
of mathematics, and over all data the order of the three teachers is another. An overall mean weighs a family by its
answers, so that a teacher's place may be owed to the mix, as in Simpson's paradox.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any


def compare_orders(
    by_family: Mapping[str, Mapping[str, float | None]], overall: Mapping[str, float | None]
) -> dict[str, Any]:
    """Each family's order beside the overall one.

    Args:
        by_family: family to teacher to the figure; None where there is none.
        overall: teacher to the figure over all answers.

    Returns:
        `overall` and `family_mean`, the teachers from the lowest figure to the highest, the second by the mean of the
        families' figures, each family weighing the same; `families`, for each its order, and `flipped`, the pairs of
        teachers that stand the other way round overall; `n_agree` of the `n_families` in which two teachers at least
        have a figure flip no pair; `agrees`, whether all of them do, None where there is none. Equal figures flip
        nothing.
    """
    families = {
        family: {"order": _order(values), "flipped": flipped_pairs(values, overall)}
        for family, values in by_family.items()
    }
    comparable = [one for one in families.values() if len(one["order"]) > 1]
    n_agree = sum(not one["flipped"] for one in comparable)
    means = {teacher: _mean([values.get(teacher) for values in by_family.values()]) for teacher in overall}
    return {
        "overall": _order(overall),
        "family_mean": _order(means),
        "families": families,
        "n_families": len(comparable),
        "n_agree": n_agree,
        "agrees": n_agree == len(comparable) if comparable else None,
    }


def flipped_pairs(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> list[list[str]]:
    """Pairs of teachers of whom one has more in `one` and the other has more in `other`, by name."""
    known = sorted(name for name in one if one[name] is not None and other.get(name) is not None)
    return [[a, b] for a, b in combinations(known, 2) if _sign(one, a, b) * _sign(other, a, b) < 0]


def _sign(values: Mapping[str, float | None], a: str, b: str) -> int:
    x, y = values[a], values[b]
    assert x is not None and y is not None
    return (x > y) - (x < y)


def _order(values: Mapping[str, float | None]) -> list[str]:
    known = {name: value for name, value in values.items() if value is not None}
    return sorted(known, key=lambda name: (known[name], name))


def _mean(values: list[float | None]) -> float | None:
    """The mean, None where a family has no figure: over other families it would be another mean."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None
