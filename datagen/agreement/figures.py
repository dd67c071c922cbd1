"""What metrics say of each judge: how often it gave no answer, and what it has in common with the rows' own labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.agreement.labels import Answers, Labels, LabelSet, NoAnswer
from datagen.agreement.statistics import compare_all, compare_two, majority

_OVERALL = ("rows", "exact", "alpha", "kappa")


def of_judge(
    own: Sequence[LabelSet],
    answers: Answers,
    labels: Sequence[str],
    judge: str,
    families: Sequence[str],
    *,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """`unanswered` by reason, and where there is an answer, what `compare_two` tells over `labels`, and by family.

    Args:
        own: each row's own labels.
        answers: the judge's, in the same order.
        labels: that are compared.
        judge: what the counts of its labels are called.
        families: of the rows; where all are of one, nothing is told by family.
        n_resamples: for the intervals.
        seed: of the resamples.
    """
    answered = [
        (mine, theirs, family)
        for mine, theirs, family in zip(own, answers, families, strict=True)
        if not isinstance(theirs, NoAnswer)
    ]
    reasons = Counter(one.reason for one in answers if isinstance(one, NoAnswer))
    found: dict[str, Any] = {"unanswered": dict(sorted(reasons.items()))}
    if not answered:
        return found
    first, second, of_family = zip(*answered, strict=True)
    names = ("dataset", judge)
    found |= compare_two(first, second, labels, names=names, n_resamples=n_resamples, seed=seed)
    if len(set(of_family)) > 1:
        found["by_family"] = {}
        for name in sorted(set(of_family)):
            first, second, _ = zip(*(row for row in answered if row[2] == name), strict=True)
            within = compare_two(first, second, labels, n_resamples=n_resamples, seed=seed)
            found["by_family"][name] = {figure: within[figure] for figure in _OVERALL}
    return found


def of_people(
    own: Mapping[str, LabelSet],
    reviews: Mapping[str, Mapping[str, LabelSet]],
    labels: Labels,
    families: Mapping[str, str],
    *,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """`between` them; `dataset`, the rows' own labels and those by most people; `by_person`, own labels and each one's.

    Args:
        own: row id to its own labels.
        reviews: person to row id to labels.
        labels: that are compared.
        families: row id to its family.
        n_resamples: for the intervals.
        seed: of the resamples.
    """
    given = judged_by(reviews)
    names, drawing = labels.names, {"n_resamples": n_resamples, "seed": seed}
    by_person: dict[str, Any] = {}
    for person, answers in reviews.items():
        mine = [own[id] for id in answers]
        found = compare_two(mine, list(answers.values()), names, n_resamples=n_resamples, seed=seed)
        by_person[person] = {figure: found[figure] for figure in _OVERALL}
    most = [by_most(sets, labels) for sets in given.values()]
    of_given = [families[id] for id in given]
    return {
        "between": compare_all(list(given.values()), names, **drawing),
        "dataset": of_judge([own[id] for id in given], most, names, "people", of_given, **drawing),
        "by_person": by_person,
    }


def judged_by(reviews: Mapping[str, Mapping[str, LabelSet]]) -> dict[str, list[LabelSet]]:
    """Row id to the sets that people gave it."""
    given: dict[str, list[LabelSet]] = {}
    for answers in reviews.values():
        for id, labels in answers.items():
            given.setdefault(id, []).append(labels)
    return given


def by_most(sets: Sequence[LabelSet], labels: Labels) -> LabelSet:
    """The labels that more than half gave, or the neutral one where there are none."""
    return labels.of(majority(sets))
