"""How much better is one training set than another, how sure is that, and was it worth its making?

Every arm is a set that students learn from, and its accuracies are those of students by seed: seed i has the same
initial weights and the same noise whatever the arm, so arms are compared seed by seed. Intervals are Student's t over
the seeds: they say what another seed may give, not what other test images may.

Student. The Probable Error of a Mean. Biometrika 6(1), 1908; for pairs, of their differences.
Hard label recovery and improvement over random: Li et al. DD-Ranking. 2025. arXiv:2505.13300, as in its code.
Labels that do the work of images: Dey et al. Rethinking Dataset Distillation. 2026. arXiv:2604.18811.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from trainers.bootstrap import Interval

LEVEL = 0.95
Standing = Literal["wins", "wins by its labels", "loses", "no difference shown", "the net learns nothing"]


class Cheaper(NamedTuple):
    """Numbers of students, `first` to `last`, both with them; `last` None where every number from `first` on is."""

    first: int
    last: int | None


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean over seeds and its t-interval.

    Args:
        values: a number a seed, two or more.
        level: of the interval, in (0, 1).

    Raises:
        ValueError: one seed alone has no interval.
    """
    from scipy.special import stdtrit

    if len(values) < 2:
        raise ValueError(f"{len(values)} seeds; an interval needs 2 or more")
    numbers = np.asarray(values, dtype=np.float64)
    half = float(stdtrit(len(numbers) - 1, (1 + level) / 2) * numbers.std(ddof=1) / math.sqrt(len(numbers)))
    mean = float(numbers.mean())
    return Interval(mean, mean - half, mean + half)


def difference(after: Sequence[float], before: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of `after` - `before`, seed by seed, and its interval.

    Raises:
        ValueError: not the same seeds, or one alone.
    """
    return mean_interval([a - b for a, b in zip(after, before, strict=True)], level)


def hard_label_recovery(whole: Sequence[float], condensed: Sequence[float]) -> Interval:
    """What is lost against training on everything, both with hard labels: HLR, the less the better."""
    return difference(whole, condensed)


def improvement_over_random(arm: Sequence[float], random: Sequence[float]) -> Interval:
    """What is won over as many bytes drawn at random, both with the same kind of labels: IOR, the more the better."""
    return difference(arm, random)


def best_of(rivals: Mapping[str, Sequence[float]]) -> str:
    """The arm with the highest mean; of equal ones the first.

    It is chosen on the very figures that it is compared by, which can only favour it: who beats it, beats them all.

    Raises:
        ValueError: there is none.
    """
    return max(rivals, key=lambda name: float(np.mean(rivals[name])))


def standing(differences: Mapping[str, Interval], *, whole: Interval, chance: float) -> Standing:
    """How a condensed set stands against the best coreset of equal bytes, by the regime of the labels.

    Args:
        differences: regime (`hard`, `soft`, `teacher`) to the condensed set's accuracy less the coreset's. A set that
            has not shown that it wins with `hard` labels, and has with others, wins by its labels.
        whole: accuracy of the same net after everything.
        chance: share of the test images' most frequent class, which a net that learned nothing may reach.

    Returns:
        What is shown: an interval that holds 0 shows nothing, nor does a net that everything does not teach.
    """
    if whole.low <= chance:
        return "the net learns nothing"
    hard = differences.get("hard")
    if hard is not None and hard.low > 0:
        return "wins"
    if any(one.low > 0 for regime, one in differences.items() if regime != "hard"):
        return "wins by its labels"
    shown = hard if hard is not None else next(iter(differences.values()))
    return "loses" if shown.high < 0 else "no difference shown"


def break_even(fixed_s: float, each_s: float, other_fixed_s: float, other_each_s: float) -> Cheaper | None:
    """The numbers n of students, from 1, at which fixed + n each is below other_fixed + n other_each.

    Args:
        fixed_s: seconds that are spent once, such as those of condensing.
        each_s: seconds of training one student.
        other_fixed_s: likewise of the other way, such as those of choosing a coreset.
        other_each_s: likewise.

    Returns:
        None where no number is enough.
    """
    more, gain = fixed_s - other_fixed_s, other_each_s - each_s
    if gain > 0:
        return Cheaper(max(math.floor(more / gain) + 1, 1), None)
    if fixed_s + each_s >= other_fixed_s + other_each_s:
        return None  # nor is a later student, who costs as much or more
    return Cheaper(1, math.ceil(more / gain) - 1 if gain else None)
