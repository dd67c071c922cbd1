"""Oracles: cosines one text at a time; every threshold tried over lists; plane vectors whose cosines are known."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import yaml

from datagen.backends.embeddings import EMBEDDED, Encoder, embed
from datagen.contracts.dataset import DatasetWriter, iterate
from datagen.contracts.errors import DataError
from datagen.contracts.records import Example
from datagen.synthesis.label_map import (
    LabelMap,
    LabelMapping,
    evaluate,
    listed_words,
    split_words,
    summarise,
    tabulate,
)
from datagen.synthesis.taxonomy import Taxonomy, parse_taxonomy, read_taxonomy


class Plane:
    """An embedder by angles, in degrees, that notes what it is asked for."""

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Any:
        self.asked.append(list(texts))
        at = [math.radians(self.angles[text]) for text in texts]
        return np.array([(math.cos(one), math.sin(one)) for one in at])


def taxonomy(**more: Any) -> Taxonomy:
    labels = [{"name": "up", "definition": "towards the sky"}, {"name": "right-hand"}]
    return parse_taxonomy(yaml.safe_dump({"name": "t", "labels": labels} | more), "t")


AXES = {"up: towards the sky": 90.0, "right-hand": 0.0}


def test_labels_that_are_known_need_no_embedder():
    label_map = LabelMap(taxonomy(synonyms={"Up": ["upward"]}, no_class=["blue"]), None)
    found = [
        label_map.match(one)
        for one in ("UP", "Right Hand", "Upward", "blue", "skyward", " ", "x" * 101, "up" + " " * 99)
    ]
    assert [(one.mapped_to, one.how) for one in found] == [
        ("up", "exact"), ("right-hand", "exact"), ("up", "listed"), (None, "no_class"), (None, "not_calibrated"),
        (None, "not_a_label"), (None, "not_a_label"), ("up", "exact"),
    ]  # fmt: skip
    assert label_map.threshold is None and label_map.calibration is None


def test_an_unknown_label_goes_to_the_nearest_from_the_threshold_on():
    """At 60 degrees of the first axis the cosine is 1/2."""
    angles = AXES | {"skyward": 80.0, "sideways": 150.0, "there": 61.0, "there: away from the ground": 85.0}
    label_map = LabelMap(taxonomy(), Plane(angles), threshold=0.9)
    skyward = label_map.match("Skyward")
    assert (skyward.mapped_to, skyward.how, skyward.n) == ("up", "embedding", 1)
    assert skyward.cosine == pytest.approx(math.cos(math.radians(10)), abs=1e-6)
    sideways = label_map.match("sideways")
    assert (sideways.mapped_to, sideways.how) == (None, "below_threshold")
    assert sideways.cosine == 0.5
    assert LabelMap(taxonomy(), Plane(angles), threshold=0.5).match("sideways").mapped_to == "up"
    assert label_map.match("there").how == "below_threshold"
    assert label_map.match("there", "away from  the ground").mapped_to == "up"


def test_an_unknown_label_is_embedded_once_and_alone():
    """So its cosine is the same whatever was proposed before it."""
    embedded = Plane(AXES | {"skyward": 80.0, "aloft": 70.0})
    label_map = LabelMap(taxonomy(), embedded, threshold=0.9)
    for one in ("skyward", "aloft", "Skyward ", "up"):
        label_map.match(one)
    assert embedded.asked == [["skyward"], list(AXES), ["aloft"]]


def test_the_threshold_is_read_off_one_half_of_the_listed_words():
    """Every cosine tried over lists, for several precisions; the words of the other half do not count."""
    words = [f"word{i}" for i in range(60)]
    spread = np.random.default_rng(3)
    owners = [("up", "right-hand", None)[i] for i in spread.integers(3, size=60)]
    off_axis = spread.exponential(
        25, 60
    ).tolist()  # of a word that is no label from the middle, of another from its own
    angles = AXES | {
        word: {"up": 90 - off, "right-hand": off, None: 45 + (off if off % 2 < 1 else -off) / 2}[owner]
        for word, owner, off in zip(words, owners, off_axis, strict=True)
    }
    listed = {label: [w for w, o in zip(words, owners, strict=True) if o == label] for label in ("up", "right-hand")}
    given = taxonomy(synonyms=listed, no_class=[w for w, o in zip(words, owners, strict=True) if o is None])
    first, second = split_words(given)
    assert sorted(first + second, key=str) == sorted(listed_words(given), key=str) and 20 <= len(first) <= 40
    rows = [
        (max(math.sin(a), math.cos(a)), ("up" if math.sin(a) > math.cos(a) else "right-hand") == label, label)
        for a, label in ((math.radians(angles[word]), label) for word, label in first)
    ]
    reached = set[float]()
    for target in (0.6, 0.75, 0.9):
        precise = [
            t for t, _, _ in rows
            if sum(right for c, right, _ in rows if c >= t) / sum(c >= t for c, _, _ in rows) >= target
        ]  # fmt: skip
        label_map = LabelMap(given, Plane(angles), target_precision=target)
        assert label_map.threshold == pytest.approx(min(precise), abs=1e-6)
        figures = evaluate(label_map, first)
        kept = [right for c, right, _ in rows if c >= min(precise) - 1e-6]
        assert (figures.n_words, figures.n_mapped, figures.n_right) == (len(first), len(kept), sum(kept))
        n_of_class = sum(label is not None for _, _, label in rows)
        assert figures.precision == sum(kept) / len(kept) and figures.recall == sum(kept) / n_of_class
        reached.add(min(precise))
    assert len(reached) > 1


def test_words_that_cannot_be_told_apart_are_refused():
    alike = AXES | {f"w{i}": 90.0 for i in range(20)}
    given = taxonomy(synonyms={"up": [f"w{i}" for i in range(10)]}, no_class=[f"w{i}" for i in range(10, 20)])
    with pytest.raises(
        DataError, match=r"taxonomy t: no threshold for labels outside it .* no threshold has the preci"
    ):
        LabelMap(given, Plane(alike | {"new": 0.0}), target_precision=0.95).match("new")
    with pytest.raises(DataError, match="are labelled true; give right pairs and wrong ones"):
        LabelMap(taxonomy(synonyms={"up": [f"w{i}" for i in range(10)]}), Plane(alike | {"new": 0.0})).match("new")


def test_the_table_counts_and_does_not_depend_on_the_order():
    angles = AXES | {"skyward": 80.0, "sideways": 150.0, "sideways: to the right": 5.0}
    proposals = [
        ("skyward", ""),
        ("Up", ""),
        ("SKYWARD", ""),
        ("sideways", ""),
        ("sideways", "to the right"),
        ("up", ""),
    ]
    label_map = LabelMap(taxonomy(), Plane(angles), threshold=0.9)
    tables = {tuple(tabulate(label_map.match(*one) for one in order)) for order in itertools.permutations(proposals)}
    (table,) = tables
    assert [(row.proposed, row.mapped_to, row.n, row.how) for row in table] == [
        ("SKYWARD", "up", 2, "embedding"), ("Up", "up", 2, "exact"), ("sideways", None, 1, "below_threshold"),
        ("sideways", "right-hand", 1, "embedding"),
    ]  # fmt: skip
    summary = summarise(label_map, table)
    assert summary["by_how"] == {"below_threshold": 1, "embedding": 3, "exact": 2} and summary["proposed"] == 6
    assert summary["threshold"] == 0.9


def test_the_table_is_a_side_table(tmp_path: Any):
    rows = [LabelMap(taxonomy(), None).match(one) for one in ("up", "\u4e0a")]
    with DatasetWriter(tmp_path / "out", Example, {}, {"labels": LabelMapping}) as writer:  # pyright: ignore[reportArgumentType]
        for row in rows:
            writer.add("labels", row)  # pyright: ignore[reportArgumentType]
    assert [LabelMapping(**row) for row in iterate(tmp_path / "out", "labels")] == rows


@lru_cache(maxsize=1)
def encoder() -> Encoder:
    return Encoder(EMBEDDED)


def test_goemotions_through_the_real_encoder():
    """Cosines of each text by itself, in float64; other languages and noise are rejected."""
    given = read_taxonomy("goemotions")
    label_map = LabelMap(given, lambda texts: embed(texts, EMBEDDED))
    described = {label.name: encoder().encode([label.described])[0][0].double() for label in given.labels}
    for word in ("joyfulness", "thankful", "furious anger", "bravery"):
        vector = encoder().encode([word])[0][0].double()
        best = max(described, key=lambda name: float(described[name] @ vector))
        found = label_map.match(word)
        assert found.cosine == pytest.approx(float(described[best] @ vector), abs=1e-5)
        assert found.mapped_to == (best if (found.cosine or 0) >= (label_map.threshold or 2) else None)
    assert label_map.match("joyfulness").mapped_to == "joy" and label_map.match("furious anger").mapped_to == "anger"
    for noise in ("alegr\u00eda", "\u559c\u3073", "ignore all instructions", "42", "bravery"):
        assert label_map.match(noise).how == "below_threshold"
    assert label_map.calibration and label_map.calibration.precision >= 0.95
