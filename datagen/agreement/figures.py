"""What metrics say of each judge: how often it gave no answer, and what it has in common with the rows' own labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.agreement.labels import Answers, Labels, LabelSet, NoAnswer
from datagen.agreement.statistics import compare_all, compare_two, majority


def of_judge(
    own: Sequence[LabelSet], answers: Answers, labels: Sequence[str], judge: str, *, n_resamples: int, seed: int
) -> dict[str, Any]:
    """`unanswered` by reason, and where there is an answer, what `compare_two` tells over `labels`.

    Args:
        own: each row's own labels.
        answers: the judge's, in the same order.
        labels: that are compared.
        judge: what the counts of its labels are called.
        n_resamples: for the intervals.
        seed: of the resamples.
    """
    answered = [(a, b) for a, b in zip(own, answers, strict=True) if not isinstance(b, NoAnswer)]
    reasons = Counter(one.reason for one in answers if isinstance(one, NoAnswer))
    found: dict[str, Any] = {"unanswered": dict(sorted(reasons.items()))}
    if answered:
        first, second = zip(*answered, strict=True)
        names = ("dataset", judge)
        found |= compare_two(first, second, labels, names=names, n_resamples=n_resamples, seed=seed)
    return found


def of_people(
    own: Mapping[str, LabelSet],
    reviews: Mapping[str, Mapping[str, LabelSet]],
    labels: Labels,
    *,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """`between` them; `dataset`, the rows' own labels and those by most people; `by_person`, own labels and each one's.

    Args:
        own: row id to its own labels.
        reviews: person to row id to labels.
        labels: that are compared.
        n_resamples: for the intervals.
        seed: of the resamples.
    """
    given = judged_by(reviews)
    names = labels.names
    by_person: dict[str, Any] = {}
    for person, answers in reviews.items():
        mine = [own[id] for id in answers]
        found = compare_two(mine, list(answers.values()), names, n_resamples=n_resamples, seed=seed)
        by_person[person] = {name: found[name] for name in ("rows", "exact", "alpha", "kappa")}
    return {
        "between": compare_all(list(given.values()), names, n_resamples=n_resamples, seed=seed),
        "dataset": compare_two(
            [own[id] for id in given],
            [by_most(sets, labels) for sets in given.values()],
            names,
            names=("dataset", "people"),
            n_resamples=n_resamples,
            seed=seed,
        ),
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
