"""Oracles: tables by hand, with the published mean lengths among them."""

import pytest

from datagen.comparison.ordering import compare_orders, flipped_pairs

PUBLISHED = {"am": 3757.0, "qwen3": 4197.0, "r1": 3785.0}  # mean tokens of mathematics: arXiv:2505.14464, section 3
TOTALS = {  # million tokens of the five published parts, mathematics first, over 1.89 million items
    "am": (2097.1, 1677.1, 2077.8, 322.3, 112.0),
    "qwen3": (2342.3, 1691.4, 1779.9, 277.3, 67.4),
    "r1": (2112.6, 1353.4, 1331.1, 286.3, 69.7),
}


@pytest.mark.published
def test_the_published_lengths_are_in_another_order_over_all_data():
    """By mathematics AM writes least and Qwen3 most; over all data R1 least and AM most: all but one pair flip."""
    overall = {teacher: sum(parts) / 1.89 for teacher, parts in TOTALS.items()}
    assert overall == pytest.approx({"am": 3325, "qwen3": 3257, "r1": 2725}, rel=1e-3)
    found = compare_orders({"math": PUBLISHED}, overall)
    assert found["families"]["math"]["order"] == ["am", "r1", "qwen3"]
    assert found["overall"] == ["r1", "qwen3", "am"]
    assert found["families"]["math"]["flipped"] == [["am", "qwen3"], ["am", "r1"]]
    assert not found["agrees"] and (found["n_agree"], found["n_families"]) == (0, 1)


def test_simpsons_paradox():
    """B is better in both families and worse overall, as most of its answers are in the hard one."""
    by_family = {"easy": {"a": 0.8, "b": 0.9}, "hard": {"a": 0.1, "b": 0.2}}
    overall = {"a": (80 + 1) / 110, "b": (9 + 20) / 110}
    found = compare_orders(by_family, overall)
    assert found["overall"] == ["b", "a"] and found["family_mean"] == ["a", "b"]
    assert found["n_agree"] == 0 and found["families"]["hard"]["flipped"] == [["a", "b"]]


def test_what_is_equal_or_unknown_flips_nothing():
    overall = {"a": 1.0, "b": 2.0, "c": None}
    found = compare_orders({"x": {"a": 5.0, "b": 5.0, "c": 9.0}, "y": {"a": None, "b": 1.0}}, overall)
    assert found["agrees"] and found["n_families"] == 1 and found["overall"] == ["a", "b"]
    assert compare_orders({"x": {"a": 1.0, "b": None}}, overall)["agrees"] is None
    assert found["family_mean"] == ["b"]  # of a there is no figure in y, so its mean would be over other families
    assert flipped_pairs({"a": 2.0, "b": 1.0}, overall) == [["a", "b"]]
