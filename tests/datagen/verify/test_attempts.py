"""Oracles: brute force over every subset; the guessing model's own expectation, and what was guessed, by simulation."""

import math
import random
from itertools import combinations

import pytest

from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify.attempts import AttemptCounts, n_options, pass_at_k

CHOICE = "Which?\nA) one\nB) two\nC) three\nD) four"


def test_pass_at_k_is_the_share_of_subsets_that_hold_a_pass():
    for n in range(1, 9):
        for c in range(n + 1):
            attempts = [True] * c + [False] * (n - c)
            for k in range(1, n + 1):
                subsets = list(combinations(attempts, k))
                assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


def test_pass_at_k_stays_exact_where_floats_would_not():
    """One pass in n: k / n. At n of 100,000 the binomials have 20,000 digits and more."""
    assert pass_at_k(100_000, 1, 30_000) == 0.3
    assert pass_at_k(10**9, 1, 1) == 1e-9
    assert pass_at_k(3, 0, 3) == 0.0
    for n, c, k in ((2, 3, 1), (2, 1, 3), (2, 1, 0)):
        with pytest.raises(ValueError, match="defined for"):
            pass_at_k(n, c, k)


def counted(rows: list[tuple[str, str, str, list[str]]]) -> AttemptCounts:
    """Counts over (prompt, family, reference, answers); an answer that equals the reference passes. To be entered."""

    class Counted(AttemptCounts):
        def __enter__(self) -> AttemptCounts:
            super().__enter__()
            for id, family, reference, answers in rows:
                text = CHOICE if reference.isalpha() else "How many?"
                prompt = Prompt(id=id, messages=[{"role": "user", "content": text}], family=family, reference=reference)
                for index, answer in enumerate(answers):
                    passed = answer == reference
                    status, reason = ("pass", None) if passed else ("fail", "wrong_answer")
                    trace = Trace(id=f"{id}#{index}", prompt=prompt, sample_index=index, completion=answer)
                    verdict = Verdict(
                        id=trace.id, method="m", status=status, score=float(passed), answer=answer, reason=reason
                    )
                    self.count(trace, verdict, passed)
            return self

    return Counted()


def test_pass_at_k_over_prompts_and_families():
    """By hand: 1 of 2, 0 of 4, 4 of 4; k = 4 has two prompts. A failed attempt of another stage is an attempt."""
    rows = [("a", "f", "7", ["7", "8"]), ("b", "f", "7", ["8"] * 4), ("c", "overall", "7", ["7"] * 4)]
    with counted(rows) as counts:
        found = counts.pass_at_k(stopped=False)
        assert found["overall"] == {
            "1": {"rate": 0.5, "prompts": 3}, "2": {"rate": 0.6667, "prompts": 3}, "4": {"rate": 0.5, "prompts": 2}
        }  # fmt: skip
        assert found["by_family"]["f"]["1"] == {"rate": 0.25, "prompts": 2}
        assert found["by_family"]["overall"]["1"] == {"rate": 1.0, "prompts": 1}
        counts.count_bad_answer("c", "")
        counts.count_bad_answer("nobody", "")
        found = counts.pass_at_k(stopped=False)
        assert found["overall"]["1"] == {"rate": 0.325, "prompts": 4}  # (0.5 + 0 + 0.8 + 0) / 4
        assert found["by_family"]["overall"]["1"]["rate"] == 0.8


def test_attempts_that_stop_at_a_pass_give_the_rate_and_c_over_n_does_not():
    """Each attempt passes with chance 0.3, up to four: pass@k is 1 - 0.7^k. c / n would say nearly twice 0.3."""
    random_ = random.Random(1)
    rows: list[tuple[str, str, str, list[str]]] = []
    n_prompts, chance = 4000, 0.3
    for i in range(n_prompts):
        answers: list[str] = []
        while len(answers) < 4 and "7" not in answers:
            answers.append("7" if random_.random() < chance else "8")
        rows.append((str(i), "f", "7", answers))
    with counted(rows) as counts:
        stopped = counts.pass_at_k(stopped=True)["overall"]
        naive = counts.pass_at_k(stopped=False)["overall"]
    for k in (1, 2, 4):
        expected = 1 - (1 - chance) ** k
        standard_error = math.sqrt(expected * (1 - expected) / n_prompts)
        assert abs(stopped[str(k)]["rate"] - expected) < 3 * standard_error
        assert stopped[str(k)]["prompts"] == n_prompts
    assert naive["1"]["rate"] > 0.45


def test_a_prompt_that_ended_early_is_undecided():
    """Of three prompts one passed at its second attempt, one has three failures, one a single failure."""
    rows = [("a", "f", "7", ["8", "7"]), ("b", "f", "7", ["8"] * 3), ("c", "f", "7", ["8"])]
    with counted(rows) as counts:
        assert counts.pass_at_k(stopped=True)["overall"] == {
            "1": {"rate": 0.0, "prompts": 3},
            "2": {"rate": 0.5, "prompts": 2, "undecided": 1},
        }


@pytest.mark.parametrize("stopping", [False, True])
def test_lucky_passes_of_a_choice_are_those_that_were_guessed(stopping: bool):
    """The teacher knows 40 % and guesses among four: 0.15 of 0.55 passes are guesses, stop on success or not."""
    random_ = random.Random(2)
    n_lucky = n_passes = 0
    rows: list[tuple[str, str, str, list[str]]] = []
    for i in range(3000):
        answers: list[str] = []
        for _ in range(4):
            knows = random_.random() < 0.4
            answers.append("B" if knows else random_.choice("ABCD"))
            n_passes += answers[-1] == "B"
            n_lucky += answers[-1] == "B" and not knows
            if stopping and answers[-1] == "B":
                break
        rows.append((str(i), "choice", "B", answers))
    with counted(rows) as counts:
        found = counts.lucky_passes()["overall"]
    assert found["passes"] == n_passes and found["prompts"] == 3000
    assert found["share"] == pytest.approx(n_lucky / n_passes, abs=0.02)
    assert found["share"] == pytest.approx(0.15 / 0.55, abs=0.02)


def test_lucky_passes_of_small_integers_are_estimated_from_how_often_wrong_ones_agree():
    """Guesses are even over 0 to 9; nobody tells the estimate that there are ten."""
    random_ = random.Random(3)
    rows: list[tuple[str, str, str, list[str]]] = []
    for i in range(2000):
        answers = ["7" if random_.random() < 0.2 else str(random_.randrange(10)) for _ in range(8)]
        rows.append((str(i), "digit", "7", answers))
    with counted(rows) as counts:
        found = counts.lucky_passes()["by_family"]["digit"]
    assert found["share"] == pytest.approx(0.08 / 0.28, abs=0.02)


def test_where_nothing_can_be_guessed_there_is_no_share():
    """And where a wrong answer has no other to be compared with, none is made up."""
    with counted([("a", "f", "1234", ["1234", "5"])]) as counts:
        assert counts.lucky_passes() == {}
    with counted([("a", "f", "7", ["7", "5"])]) as counts:
        assert counts.lucky_passes()["overall"] == {
            "expected": 0.0, "passes": 0, "share": 0.0, "prompts": 1, "not_estimated": 1
        }  # fmt: skip
    with counted([("a", "f", "7", ["7", "7"])]) as counts:
        assert counts.lucky_passes()["overall"] == {"expected": 0.0, "passes": 2, "share": 0.0, "prompts": 1}


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        (CHOICE, "B", 4),
        ("pick: (A) x (B) y", "(A)", 2),
        ("options: ['A)21', 'B)21.5', 'C)22', 'D)22.5', 'E)23']", "E", 5),
        (CHOICE, "E", None),
        ("no options", "B", None),
        ("Was A. Smith there?", "A", None),
        ("Is it?", "yes", 2),
        ("Is it?", "False.", 2),
        ("How many?", "12", 0),
        ("How many?", "It is 3 + 4.\n#### 7", 0),
        ("How many?", "-20", 0),
        ("How many?", "21", None),
        ("How many?", "1/2", None),
        ("How much?", "12%", None),
        ("Name it", "blue", None),
    ],
)
def test_what_can_be_guessed(text: str, reference: str, expected: int | None):
    prompt = Prompt(id="p", messages=[{"role": "user", "content": text}], reference=reference)
    assert n_options(prompt) == expected
    assert n_options(Prompt(id="p", messages=[], reference=None)) is None
