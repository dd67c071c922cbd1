"""The labels that there are and those that rows have; oracle: sets by hand."""

from typing import Any

import pytest

from datagen.agreement.labels import Labels, of_rows, of_taxonomy
from datagen.contracts.records import Example
from datagen.synthesis.taxonomy import parse_taxonomy

MOODS = "{name: moods, neutral: Calm, labels: [{name: joy, definition: being glad}, {name: mild anger}, {name: calm}]}"


def row(**weights: float) -> Example:
    labels: Any = [{"name": name.replace("_", " "), "weight": weight} for name, weight in weights.items()]
    return Example(id="a", text="At last!", labels=labels)


def test_a_taxonomy_s_labels_are_found_however_they_are_spelt():
    labels = of_taxonomy(parse_taxonomy(MOODS, "moods"))
    assert labels.definitions == {"joy": "being glad", "mild anger": "", "calm": ""} and labels.neutral == "calm"
    assert [labels.find(name) for name in ("Joy", "mild-anger", " CALM ", "awe")] == ["joy", "mild anger", "calm", None]


def test_the_labels_of_rows_are_all_they_have_each_once():
    labels = of_rows([row(joy=1, fear=0), row(Joy=0.5), row()])
    assert labels.names == ["Joy", "fear"] and labels.neutral is None and labels.find("joy") == "Joy"


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ({"joy": 0.3, "mild_anger": 0.29}, {"joy"}),
        ({"joy": 0.1 + 0.2}, {"joy"}),  # 0.30000000000000004
        ({"joy": 0.7 - 0.4}, {"joy"}),  # 0.29999999999999993
        ({"joy": 0.2}, {"calm"}),
        ({}, {"calm"}),
    ],
)
def test_a_label_holds_from_a_weight_on_and_neutral_where_none_does(weights: dict[str, float], wanted: set[str]):
    assert of_taxonomy(parse_taxonomy(MOODS, "moods")).of_example(row(**weights), 0.3) == wanted
    without = Labels({"joy": "", "mild anger": "", "calm": ""})
    assert without.of_example(row(**weights), 0.3) == wanted - {"calm"}
