"""Oracles: words counted by hand, and the definition of F1 by precision and recall over lists."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify.short_answer import Config, exact_match, find_short_answer, short_answer, token_f1


def judge(completion: str, reference: str | None, **changed: Any) -> Verdict:
    trace = Trace(id="t", prompt=Prompt(id="p", messages=[], reference=reference), completion=completion)
    (verdict,) = short_answer(Config.model_validate({"method": "short_answer"} | changed), [trace])
    return verdict


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("tower Eiffel", "Eiffel Tower", 0, 1),
        ("the tall Eiffel tower", "Eiffel Tower", 0, Fraction(4, 5)),  # P = 2/3, R = 1
        ("to be or not to be", "to be", 0, Fraction(1, 2)),  # P = 2/6, R = 1: a word counts as often as both have it
        ("Paris", "London", 0, 0),
        ("\uff30\uff41\uff32\uff29\uff33", "paris", 1, 1),  # full-width letters
        ("«Straße»", "STRASSE", 1, 1),
        ("the", "The", 0, 0),  # no word is left, and they are not the same as written
        ("?", "?", 1, 1),
        ("", "Paris", 0, 0),
    ],
)
def test_measures(answer: str, reference: str, exact: float, f1: Fraction | int):
    assert exact_match(answer, reference) == exact
    assert token_f1(answer, reference) == pytest.approx(float(f1))


texts = st.lists(st.sampled_from(["red", "blue", "green", "the", "A"]), min_size=1, max_size=8).map(" ".join)


@given(one=texts, other=texts)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(one: str, other: str):
    given, wanted = ([word for word in text.lower().split() if word not in ("the", "a")] for text in (one, other))
    left = list(wanted)
    n_shared = 0
    for word in given:
        if word in left:
            left.remove(word)
            n_shared += 1
    if given and wanted:
        precision, recall = n_shared / len(given), n_shared / len(wanted)
        mean = 2 * precision * recall / (precision + recall) if n_shared else 0
        assert token_f1(one, other) == pytest.approx(mean)
    assert token_f1(one, other) == token_f1(other, one)


@pytest.mark.parametrize(
    ("completion", "answer", "rule"),
    [
        (r"It stands in \boxed{Paris}, the answer is Rome.", "Paris", r"in \boxed"),
        ("The answer is Rome? No. So the answer is: **Paris**. Done.", "Paris", "after 'the answer is'"),
        ("  Paris\n", "Paris", "the whole completion"),
    ],
)
def test_where_the_answer_stands(completion: str, answer: str, rule: str):
    found = find_short_answer(completion)
    assert found and (found.text, found.rule) == (answer, rule)


def test_verdicts():
    assert judge("Paris.", "paris").status == "pass"
    wrong = judge("Paris", "London")
    assert (wrong.status, wrong.reason, wrong.score, wrong.answer) == ("fail", "wrong_answer", 0, "Paris")
    assert "the whole completion: Paris, beside London: exact 0" in str(wrong.detail)
    assert judge("Paris", None).reason == "no_reference"
    assert judge(" \n", "Paris").reason == judge("x " * 5000, "Paris").reason == "no_answer"


def test_the_threshold_says_what_passes():
    near = {"measure": "f1", "threshold": 0.8}
    assert judge("the tall Eiffel tower", "Eiffel Tower", **near).status == "pass"
    assert judge("the tall old Eiffel tower", "Eiffel Tower", **near).status == "fail"  # 2/3


def test_the_best_alternative_counts():
    verdict = judge("the answer is JFK", '["John F. Kennedy", "JFK"]')
    assert (verdict.status, verdict.score) == ("pass", 1) and "beside JFK" in str(verdict.detail)
    assert judge("[1, 2]", "[1, 2]").status == "pass"  # no list of texts: the reference as it stands


@pytest.mark.parametrize(("given", "named"), [({"measure": "bleu"}, "measure"), ({"threshold": 2}, "threshold")])
def test_bad_params(given: dict[str, Any], named: str):
    with pytest.raises(ParamsError, match=named):
        validate({"method": "short_answer"} | given, Config)
