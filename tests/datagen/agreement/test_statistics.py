"""Agreement of judges; oracles: worked examples of the literature, nltk, scikit-learn, and resampling row by row."""

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.metrics import masi_distance as nltk_masi_distance
from nltk.metrics.agreement import AnnotationTask

from datagen.agreement.statistics import (
    cohen_kappa,
    compare_all,
    compare_two,
    krippendorff_alpha,
    majority,
    masi_distance,
    nominal_distance,
)

# Krippendorff. Computing Krippendorff's Alpha-Reliability. 2011, section C: four observers, twelve units.
KRIPPENDORFF = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)

# Fleiss. Measuring Nominal Scale Agreement Among Many Raters. Psychological Bulletin 76(5), 1971, table 1: how many of
# six psychiatrists gave each of 30 patients each of five diagnoses.
FLEISS = (
    "00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031 00501 30012 51000 02040 "
    "10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"
)
LABELS = ["joy", "fear", "love", "anger"]


def test_krippendorff_s_own_example():
    """Section C and D: 0.743 for nominal, 0.849 for interval data."""
    rows = [[int(value) for value in unit if value != "."] for unit in zip(*map(str.split, KRIPPENDORFF), strict=True)]
    assert krippendorff_alpha(rows, nominal_distance) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(rows, lambda a, b: float((a - b) ** 2)) == pytest.approx(0.849, abs=5e-4)


def test_fleiss_s_own_example():
    """Kappa is 0.430 over 30 x 6 judgements, and alpha = 1 - (1 - kappa) (n - 1) / n; by diagnosis as well.

    Alpha of one diagnosis against the rest is the same function of Fleiss' kappa of that diagnosis, of which R's irr
    gives 0.245, 0.245, 0.520, 0.471 and 0.566.
    """
    rows = [[frozenset([str(k)]) for k, n in enumerate(patient) for _ in range(int(n))] for patient in FLEISS.split()]

    def kappa_of(alpha: float) -> float:
        return 1 - (1 - alpha) * 180 / 179

    alpha = krippendorff_alpha(rows, nominal_distance)
    assert alpha is not None and kappa_of(alpha) == pytest.approx(0.430, abs=5e-4)
    found = compare_all(rows, list("01234"), n_resamples=20, seed=0)["labels"]
    kappas = [kappa_of(found[label]["value"]) for label in "01234"]
    assert kappas == pytest.approx([0.245, 0.245, 0.520, 0.471, 0.566], abs=6e-4)


def test_cohen_s_kappa_of_a_table():
    """20 twice yes, 15 twice no, 5 and 10 apart: observed 0.7, expected 0.5, so 0.4."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(*zip(*pairs, strict=True)) == pytest.approx(0.4)
    assert cohen_kappa([True, True], [True, True]) is None
    assert cohen_kappa([True, False], [True, False]) == 1
    assert cohen_kappa([True, False], [False, True]) == -1


SETS = st.frozensets(st.sampled_from(LABELS))


@given(SETS, SETS)
def test_masi_is_nltk_s(a: frozenset[str], b: frozenset[str]):
    """And a distance: symmetric, 0 between equal sets alone; nltk divides by zero between empty ones."""
    assert masi_distance(a, b) == masi_distance(b, a)
    assert (masi_distance(a, b) == 0) == (a == b)
    assert not (a or b) or masi_distance(a, b) == pytest.approx(nltk_masi_distance(a, b))


@given(st.lists(st.lists(SETS.filter(bool), min_size=1, max_size=4), min_size=1, max_size=12))
def test_alpha_over_sets_is_nltk_s(rows: list[list[frozenset[str]]]):
    """Where some values differ; nltk calls it 1 where none does, and here it is not defined."""
    alpha = krippendorff_alpha(rows, masi_distance)
    paired = [row for row in rows if len(row) > 1]
    if len({one for row in paired for one in row}) < 2:
        assert alpha is None
    else:
        triples = [(str(coder), str(i), one) for i, row in enumerate(rows) for coder, one in enumerate(row)]
        assert alpha == pytest.approx(AnnotationTask(triples, distance=nltk_masi_distance).alpha())


def test_precision_recall_and_kappa_by_label():
    """Four rows by hand. Of joy the first judge gave 2, the second 3, both 2; fear neither gave."""
    first = [frozenset({"joy"}), frozenset({"joy", "love"}), frozenset[str](), frozenset({"love", "unknown"})]
    second = [frozenset({"joy"}), frozenset({"joy"}), frozenset({"joy"}), frozenset({"love"})]
    found = compare_two(first, second, LABELS[:3], names=("dataset", "people"), n_resamples=200, seed=0)
    assert found["rows"] == 4 and found["exact"]["value"] == 0.5
    joy, fear, love = (found["labels"][label] for label in LABELS[:3])
    assert [joy[name] for name in ("dataset", "people", "both")] == [2, 3, 2]
    assert (joy["precision"]["value"], joy["recall"]["value"]) == (1.0, 0.6667)
    assert joy["kappa"]["value"] == 0.5  # (0.75 - 0.5) / 0.5
    assert (fear["precision"], fear["recall"], fear["kappa"]) == (None, None, None)
    assert love["kappa"]["value"] == 0.5
    assert found["kappa"]["value"] == 0.5


def some_rows(n: int, seed: int) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    """Two judges of `n` rows; the second copies a label of the first seven times in ten."""
    draw = random.Random(seed)
    first = [frozenset(label for label in LABELS if draw.random() < 0.4) for _ in range(n)]
    second = [
        frozenset(label for label in LABELS if (label in one if draw.random() < 0.7 else draw.random() < 0.4))
        for one in first
    ]
    return first, second


def test_kappa_is_scikit_learn_s():
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = some_rows(60, seed=1)
    found = compare_two(first, second, LABELS, n_resamples=10, seed=0)
    kappas = [
        metrics.cohen_kappa_score([label in one for one in first], [label in one for one in second]) for label in LABELS
    ]
    assert [found["labels"][label]["kappa"]["value"] for label in LABELS] == pytest.approx(kappas, abs=5e-5)
    assert found["kappa"]["value"] == pytest.approx(np.mean(kappas), abs=5e-5)


def test_intervals_are_those_of_rows_drawn_one_by_one():
    """Other draws by Python's generator, each statistic computed anew from the rows that it gave."""
    first, second = some_rows(40, seed=2)
    found = compare_two(first, second, LABELS, n_resamples=2000, seed=0)
    draw = random.Random(3)
    alphas: list[float] = []
    kappas: list[float] = []
    for _ in range(1000):
        rows = draw.choices(range(40), k=40)
        alpha = krippendorff_alpha([[first[i], second[i]] for i in rows], masi_distance)
        kappa = cohen_kappa(["joy" in first[i] for i in rows], ["joy" in second[i] for i in rows])
        assert alpha is not None and kappa is not None
        alphas.append(alpha)
        kappas.append(kappa)
    for figure, drawn in ((found["alpha"], alphas), (found["labels"]["joy"]["kappa"], kappas)):
        assert [figure["low"], figure["high"]] == pytest.approx(list(np.quantile(drawn, [0.025, 0.975])), abs=0.03)
        assert figure["low"] < figure["value"] < figure["high"]


def test_equal_seeds_give_equal_figures_and_more_rows_narrower_intervals():
    few, many = some_rows(30, seed=4), some_rows(480, seed=4)
    assert compare_two(*few, LABELS, n_resamples=300, seed=1) == compare_two(*few, LABELS, n_resamples=300, seed=1)
    widths = [
        figure["high"] - figure["low"]
        for judges in (few, many)
        if (figure := compare_two(*judges, LABELS, n_resamples=300, seed=1)["alpha"])
    ]
    assert widths[1] < widths[0] / 2  # a fourth, for 16 times the rows


def test_judges_who_draw_at_random_agree_by_chance_alone():
    """Alpha and kappa near 0 over 2000 rows, though one row in four is equal by chance."""
    draw = random.Random(5)
    first, second = ([frozenset([draw.choice(LABELS)]) for _ in range(2000)] for _ in range(2))
    found = compare_two(first, second, LABELS, n_resamples=50, seed=0)
    assert abs(found["alpha"]["value"]) < 0.04 and abs(found["kappa"]["value"]) < 0.04
    assert found["exact"]["value"] == pytest.approx(0.25, abs=0.03)


def test_rows_of_one_judge_say_nothing_of_agreement():
    one = [[frozenset({"joy"})], [frozenset({"fear"})]]
    assert compare_all(one, LABELS[:1], n_resamples=5, seed=0) == {"rows": 0, "alpha": None, "labels": {"joy": None}}
    assert krippendorff_alpha(one, masi_distance) is None


@given(st.lists(SETS, min_size=1, max_size=5))
def test_a_majority_is_more_than_half(sets: list[frozenset[str]]):
    """Every label whose givers no group of those who did not give it matches, by trying all groups."""
    found = majority(sets)
    for label in LABELS:
        givers = [one for one in sets if label in one]
        others = list(combinations([one for one in sets if label not in one], len(givers)))
        assert (label in found) == (bool(givers) and not others)


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [([], [], LABELS), ([frozenset("a")], [], LABELS), ([frozenset("a")] * 2,) * 2 + ([],)],
)
def test_nothing_to_compare_is_refused(
    first: Sequence[frozenset[str]], second: Sequence[frozenset[str]], labels: list[str]
):
    with pytest.raises(ValueError, match="give as many rows"):
        compare_two(first, second, labels, n_resamples=5, seed=0)
