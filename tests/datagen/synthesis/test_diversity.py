"""Oracles: counts by hand, NLTK's BLEU, every pair in float64, closed forms of the Vendi score, Counter's entropy."""

import itertools
import json
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from datagen.synthesis.diversity import (
    Accepted,
    Budget,
    coverage,
    distinct,
    have_similar,
    label_figures,
    measure,
    nearest_cosines,
    rarest,
    self_bleu,
    vendi_score,
)
from datagen.synthesis.taxonomy import Taxonomy, read_taxonomy

short_texts = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=2, max_size=8)


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def spread(n: int, width: int, seed: int = 0) -> Any:
    return unit(np.random.default_rng(seed).normal(size=(n, width)))


def test_distinct_by_hand():
    """Of a b a b and b a: 2 of 6 words are different; of the bigrams ab, ba, ab, ba two of four."""
    texts = [list("abab"), list("ba")]
    assert distinct(texts, 1) == 2 / 6
    assert distinct(texts, 2) == 2 / 4
    assert distinct(texts, 1, 3) == 2 / 3  # a b a
    assert distinct(texts, 2, 5) == 2 / 3  # ab, ba, ab, and the second text is cut to one word
    assert distinct(texts, 2, 6) == distinct(texts, 2) and distinct(texts, 1, 7) is None
    assert distinct([["a"], []], 2) is None and distinct([], 1) is None


@given(short_texts)
def test_self_bleu_is_nltk_s(texts: list[list[str]]):
    """Each text beside all others, as in Texygen; NLTK's sentences are by itself."""
    smooth = SmoothingFunction(epsilon=0.1).method1
    total = 0.0
    for i, text in enumerate(texts):
        score: Any = sentence_bleu([*texts[:i], *texts[i + 1 :]], text, smoothing_function=smooth)
        total += score
    assert self_bleu(texts) == pytest.approx(total / len(texts), abs=1e-9)


def test_self_bleu_at_its_ends():
    same = [list("abcde")] * 3
    assert self_bleu(same) == pytest.approx(1)
    assert self_bleu([list("abcde"), list("fghij")]) == 0
    assert self_bleu(same[:1]) is None


def test_nearest_cosines_are_those_of_every_pair():
    vectors = spread(1500, 16)
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    np.fill_diagonal(exact, -1)
    assert nearest_cosines(vectors) == pytest.approx(exact.max(axis=1), abs=1e-6)
    assert nearest_cosines(vectors[:1]).tolist() == [-1] and len(nearest_cosines(vectors[:0])) == 0


@given(
    texts=st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=12),
    n=st.integers(1, 3),
    min_jaccard=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_similar_texts_are_those_of_every_pair(texts: list[list[str]], n: int, min_jaccard: float):
    def shingles(words: Sequence[str]) -> set[tuple[str, ...]]:
        size = min(n, len(words))
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if words else set()

    expected = [False] * len(texts)
    for i, j in itertools.combinations(range(len(texts)), 2):
        one, other = shingles(texts[i]), shingles(texts[j])
        if one and other and len(one & other) >= min_jaccard * len(one | other) - 1e-9:
            expected[i] = expected[j] = True
    assert have_similar(texts, n, min_jaccard) == expected


def test_vendi_score_in_closed_form():
    """Orthogonal texts count one each, equal ones as one; of p and 1 - p it is the exponential of their entropy."""
    axes = np.eye(6, dtype=np.float32)
    assert vendi_score(axes) == pytest.approx(6)
    assert vendi_score(np.repeat(axes[:1], 9, axis=0)) == pytest.approx(1)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert vendi_score(axes[[0, 0, 0, 1]]) == pytest.approx(math.exp(entropy))
    cosine = math.cos(1)  # eigenvalues of [[1, c], [c, 1]] / 2 are (1 + c) / 2 and (1 - c) / 2
    two = unit([[1, 0], [math.cos(1), math.sin(1)]])
    expected = math.exp(-sum(x * math.log(x) for x in ((1 + cosine) / 2, (1 - cosine) / 2)))
    assert vendi_score(two) == pytest.approx(expected, rel=1e-5)
    many = spread(40, 8)  # more texts than coordinates: the (E, E) products in place of the (R, R)
    shares = np.linalg.eigvalsh(many.astype(np.float64) @ many.astype(np.float64).T / 40)
    shares = shares[shares > 1e-9]
    assert vendi_score(many) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert vendi_score(np.zeros((3, 4), np.float32)) is None and vendi_score(axes[:0]) is None


def test_coverage_is_that_of_every_pair():
    """By distances, as in the paper: unit vectors are as near as their cosine is great."""
    reference, ours = spread(60, 5, 1), spread(20, 5, 2)
    covered = 0
    for i, one in enumerate(reference):
        radius = sorted(float(np.linalg.norm(one - other)) for j, other in enumerate(reference) if j != i)[4]
        covered += min(float(np.linalg.norm(one - other)) for other in ours) <= radius
    assert 0 < covered < 60
    assert coverage(ours, reference) == covered / 60
    assert coverage(reference, reference) == 1
    assert coverage(ours[:0], reference) is None and coverage(ours, reference[:5]) is None


def test_effective_number_of_labels():
    assert label_figures({"a": 5, "b": 5, "c": 0, "d": 5}, 5)["effective"] == pytest.approx(3)
    assert label_figures({"a": 5, "b": 5, "c": 0, "d": 4}, 5)["covered"] == 2 / 4
    uneven = label_figures({"a": 3, "b": 1}, 1)["effective"]
    assert uneven == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert label_figures({"a": 0}, 1)["effective"] == 0 and label_figures({}, 1)["covered"] == 0


def test_measure_of_a_corpus_by_hand():
    """Two neutral texts that are the same but for a sign, two others that share nothing, one with two labels."""
    texts = ["The train leaves at nine.", "the train leaves at nine", "I am so glad!", "Go away, you thief of hours"]
    labels = [["neutral"], ["neutral"], ["joy"], ["anger", "annoyance"]]
    vectors = unit([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = measure(texts, labels, vectors, taxonomy=read_taxonomy("goemotions"), n_class_tokens=5, n_enough=1)
    assert json.loads(json.dumps(found)) == found
    everything, neutral, others = found["all"], found["neutral"], found["not_neutral"]
    assert (everything["texts"], everything["tokens"]) == (4, 5 + 5 + 4 + 6)
    assert everything["distinct_1"] == (5 + 4 + 6) / 20 and everything["distinct_2"] == (4 + 3 + 5) / 16
    assert everything["near_by_cosine"] == everything["near_by_words"] == 0.5
    assert everything["nearest_cosine"] == 0.5 and everything["topics"] == pytest.approx(2 * math.sqrt(2))
    assert (neutral["near_by_cosine"], neutral["distinct_2"], neutral["self_bleu"]) == (1, 0.5, pytest.approx(1))
    assert (others["near_by_words"], others["texts"], others["distinct_2"]) == (0, 2, 1)
    assert found["labels"]["counts"] == dict.fromkeys(read_taxonomy("goemotions").names, 0) | {
        "neutral": 2, "joy": 1, "anger": 1, "annoyance": 1,
    }  # fmt: skip
    assert found["labels"]["covered"] == 4 / 28
    assert found["by_label"]["neutral"]["distinct_1"] == 1 and found["by_label"]["joy"]["distinct_1"] is None
    assert found["by_label"]["grief"]["texts"] == 0 and found["by_label"]["grief"]["near_by_cosine"] is None


def test_measure_compares_equal_numbers_of_words():
    """Of a text over and over again the share of different words falls with the number of texts; not at 100 words."""
    sentences = [" ".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=10)) for i in range(200)]
    small, large = (
        measure(one, [["x"]] * len(one), spread(len(one), 4), n_tokens=100)["all"]
        for one in (sentences[:40], sentences)
    )
    assert small["distinct_tokens"] == large["distinct_tokens"] == 100
    assert small["distinct_2"] == pytest.approx(large["distinct_2"], abs=0.1)
    whole = measure(sentences, [["x"]] * 200, spread(200, 4))["all"]
    assert whole["distinct_2"] < large["distinct_2"] / 2
    again = measure(sentences, [["x"]] * 200, spread(200, 4), n_tokens=100, seed=1)["all"]
    assert again["distinct_2"] != large["distinct_2"]
    with pytest.raises(ValueError, match="2 texts, 1 label sets and 2 vectors"):
        measure(["a", "b"], [["x"]], spread(2, 4))


def test_a_planted_near_duplicate_is_refused_with_its_neighbour():
    vectors = spread(3000, 64)
    across = unit([vectors[7] - (vectors[7] @ vectors[1234]) * vectors[1234]])[0]
    planted = unit([0.95 * vectors[1234] + math.sqrt(1 - 0.95**2) * across])[0]
    accepted = Accepted(0.9)
    assert all(accepted.accept(f"t{i}", f"text {i}", one) is None for i, one in enumerate(vectors))
    assert accepted.accept("copy", "another", planted) == "cosine 0.9500 with 't1234', max_cosine is 0.9"
    assert accepted.accept("same", " TEXT  77", spread(1, 64, 9)[0]) == "same text as 't77', but for case and spaces"
    assert len(accepted) == 3000
    (near,) = accepted.nearest(planted[None])
    assert near and near[0] == "t1234" and near[1] == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_what_is_accepted_is_that_of_every_pair(batch: int):
    """Only an accepted text is a reason to refuse another; one by one or together changes nothing."""
    clusters = np.random.default_rng(5).normal(size=(60, 12))
    vectors = unit(clusters[np.arange(400) % 60] + np.random.default_rng(6).normal(size=(400, 12)) * 0.35)
    texts = [("t" + str(i), f"text {i % 390}") for i in range(400)]
    exact = vectors.astype(np.float64)
    kept: list[int] = []
    expected: list[int | None] = []
    for i in range(400):
        same = next((j for j in kept if texts[j][1] == texts[i][1]), None)
        cosines = exact[kept] @ exact[i] if kept else np.array([-1.0])
        near = kept[int(cosines.argmax())] if cosines.max() >= 0.9 else None
        expected.append(same if same is not None else near)
        if expected[-1] is None:
            kept.append(i)
    accepted = Accepted(0.9)
    found = [
        one
        for start in range(0, 400, batch)
        for one in accepted.accept_all(texts[start : start + batch], vectors[start : start + batch])
    ]
    assert 50 < len(kept) < 350 and len(accepted) == len(kept)
    for i, one in enumerate(found):
        assert one is None if expected[i] is None else f"'t{expected[i]}'" in str(one)


def test_a_block_s_edge_is_no_edge():
    """The nearest of several blocks is found, the first of equals."""
    accepted = Accepted(0.999)
    vectors = spread(11, 8)
    accepted.accept_all([(str(i), f"t{i}") for i in range(11)], vectors)
    found = accepted.nearest(vectors, block=4)
    assert [one and one[0] for one in found] == [str(i) for i in range(11)]


def test_a_text_is_the_same_but_for_case_and_spaces():
    accepted, vectors = Accepted(0.9), spread(3, 64)
    assert (
        accepted.accept("a", "Stra\u00dfe  1", vectors[0]) is None
        and accepted.accept("b", "street", vectors[1]) is None
    )
    assert accepted.accept("c", "STRASSE 1 ", vectors[2]) == "same text as 'a', but for case and spaces"
    with pytest.raises(ValueError, match="0 vectors of 1 texts"):
        accepted.accept("d", "x", None)


def test_at_one_nothing_is_refused():
    accepted = Accepted(1)
    assert (
        accepted.accept_all([("a", "x"), ("b", "x")], None) == [None, None] and accepted.accept("c", "X", None) is None
    )
    assert len(accepted) == 0 and accepted.nearest(spread(1, 4)) == [None]


def small_taxonomy() -> Taxonomy:
    labels = [{"name": name} for name in ("d", "a", "none", "c")]
    return Taxonomy.model_validate({"name": "t", "neutral": "None", "labels": labels})


def test_the_rarest_labels_come_first():
    assert rarest({}, small_taxonomy(), 2) == ["d", "a"]
    assert rarest({"d": 3, "a": 1, "c": 1}, small_taxonomy(), 2) == ["a", "c"]
    assert rarest({"d": 3}, small_taxonomy(), 9) == ["a", "c", "d"] and rarest({}, small_taxonomy(), 0) == []


def test_the_budget_goes_to_rare_labels():
    """A teacher that writes one text for each label it is asked for: after k questions, no two counts differ by two."""
    for n, k in ((1, 7), (2, 11), (3, 4)):
        counts: dict[str, int] = dict.fromkeys(("d", "a", "c"), 0)
        for _ in range(k):
            for name in rarest(counts, small_taxonomy(), n):
                counts[name] += 1
        assert min(counts.values()) == n * k // 3 and max(counts.values()) <= min(counts.values()) + 1


@given(answers=st.lists(st.booleans(), min_size=60, max_size=60))
def test_a_frequent_label_is_not_asked_for(answers: list[bool]):
    """However a teacher chooses between the two it is asked for, the two most frequent keep within one of each other.

    A teacher that never writes one of them keeps that one rare, and the other place goes on.
    """
    counts: dict[str, int] = dict.fromkeys(("d", "a", "c"), 0)
    for answer in answers:
        counts[rarest(counts, small_taxonomy(), 2)[answer]] += 1
        assert max(counts.values()) - sorted(counts.values())[1] <= 1


def test_open_questions_share_the_labels():
    """14 open questions of 2 labels ask for each of 27 once and for the first once more; then for what is rare."""
    taxonomy = read_taxonomy("goemotions")
    budget = Budget(taxonomy, 2, 10)
    asked = [name for _ in range(14) for name in budget.ask()]
    assert asked == [*taxonomy.names[:27], taxonomy.names[0]]
    budget.observe([taxonomy.names[1]] * 10)  # the first question, for 0 and 1: nobody wrote the first
    assert budget.counts == {taxonomy.names[1]: 10}
    # promised are 5 of each label, of 0 by the last question; 1 is written ten times, and of the others the first come
    assert budget.ask() == [taxonomy.names[0], taxonomy.names[2]]
    budget.observe([])  # the second question, for 2 and 3: 3 is promised by nobody
    assert budget.ask()[0] == taxonomy.names[3]


def test_no_label_is_asked_for():
    budget = Budget(small_taxonomy(), 0, 10)
    assert budget.ask() == []
    budget.observe(["a"])
    assert budget.counts == {"a": 1}
