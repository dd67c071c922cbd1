"""Oracles: the label file of GoEmotions itself; files that are wrong in one way or in several, by hand."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.errors import ParamsError
from datagen.synthesis.taxonomy import Taxonomy, fold, packaged, parse_taxonomy, read_taxonomy

GOOD = "{name: weather, neutral: none, labels: [{name: storm, definition: strong wind}, {name: none}]}"


def problems(text: str) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        parse_taxonomy(text, "mine.yaml")
    return str(caught.value).splitlines()


def test_goemotions_has_the_labels_of_the_dataset():
    """In the order of the dataset's own label numbers (emotions.txt of its release); each with a text that bears it."""
    taxonomy = read_taxonomy("goemotions")
    assert " ".join(taxonomy.names) == (
        "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
        "disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief "
        "remorse sadness surprise neutral"
    )
    assert taxonomy.neutral == "neutral" and packaged() == ["goemotions"]
    assert all(label.definition and 1 <= len(label.examples) <= 2 for label in taxonomy.labels)
    assert set(taxonomy.synonyms) == set(taxonomy.names)


def test_no_definition_and_no_example_names_a_label_s_own_word():
    """A definition that repeats the label says nothing, and an example that names it teaches to name it."""
    taxonomy = read_taxonomy("goemotions")
    for label in taxonomy.labels:
        for text in (label.definition, *label.examples):
            assert label.name not in text.casefold().replace(",", " ").split(), (label.name, text)


def test_a_file_of_the_user(tmp_path: Path):
    path = tmp_path / "weather.yaml"
    path.write_text(GOOD)
    taxonomy = read_taxonomy(path)
    assert taxonomy.names == ("storm", "none") and taxonomy.neutral == "none"
    assert [label.described for label in taxonomy.labels] == ["storm: strong wind", "none"]
    assert read_taxonomy(str(path)) == taxonomy


@pytest.mark.parametrize(
    ("proposed", "found"),
    [
        ("Heavy-Rain", "heavy rain"), ("heavy_rain", "heavy rain"), ("  HEAVY   RAIN. ", "heavy rain"),
        ('"heavy rain"', "heavy rain"), ("heavy\u2013rain", "heavy rain"), ("heavyrain", None), ("rain", None),
        ("C", None), ("c++", "C++"), ("C+", None), ("stra\u00dfe", "STRASSE"), ("", None),
    ],
)  # fmt: skip
def test_a_label_is_found_but_for_case_spaces_and_hyphens(proposed: str, found: str | None):
    labels = [{"name": name} for name in ("heavy rain", "C++", "STRASSE")]
    taxonomy = parse_taxonomy(yaml.safe_dump({"name": "t", "labels": labels}), "t")
    assert taxonomy.find(proposed) == found


def test_lists_are_under_the_labels_own_names():
    text = "{name: t, neutral: B, labels: [{name: A a}, {name: b}], synonyms: {a-A: [x], A A: [y], B: [z]}}"
    taxonomy = parse_taxonomy(text, "t")
    assert taxonomy.synonyms == {"A a": ("x", "y"), "b": ("z",)} and taxonomy.neutral == "b"


@given(st.text(max_size=20))
def test_folding_twice_is_folding_once(name: str):
    assert fold(fold(name)) == fold(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[", "mine.yaml: not readable as YAML"),
        ("", "mine.yaml: expected a mapping with name and labels, found NoneType"),
        ("[joy]", "mine.yaml: expected a mapping with name and labels, found list"),
        ("{labels: [{name: a}, {name: b}]}", "mine.yaml: name: required, and not given"),
        ("{name: t}", "mine.yaml: labels: required, and not given"),
        ("{name: t, labels: [{name: a}]}", "mine.yaml: labels: a taxonomy has two or more (got 1)"),
        ("{name: t, labels: [{name: a}, {name: b}], neutrl: a}", "mine.yaml: neutrl: unknown parameter; did you mean"),
        ("{name: t, labels: [{name: a, colour: red}, {name: b}]}", "mine.yaml: labels.0.colour: Extra inputs"),
        ("{name: t, labels: [{name: a}, {name: '  '}]}", "mine.yaml: labels.1.name: String should have at least 1"),
        ("{name: t, labels: [{name: a}, {definition: x}]}", "mine.yaml: labels.1.name: required, and not given"),
        ("{name: t, labels: [{name: a}, {name: no}]}", "mine.yaml: labels.1.name: Input should be a valid string (g"),
        ("{name: t, labels: [{name: a}, {name: '-'}]}", "mine.yaml: labels.1.name: '-' has no letter, digit or sign"),
        ('{name: t, labels: [{name: a}, {name: "b\\nc"}]}', "mine.yaml: labels.1.name: Value error, a name is one"),
        ("{name: t, labels: [{name: a}, {name: b, examples: ['']}]}", "mine.yaml: labels.1.examples.0: String should"),
        (
            "{name: t, labels: [{name: Heavy-Rain}, {name: b}, {name: heavy rain}]}",
            "mine.yaml: labels.2.name: 'heavy rain' is the same label as labels.0.name; drop one",
        ),
        ("{name: t, neutral: c, labels: [{name: a}, {name: b}]}", "mine.yaml: neutral: 'c' is none of the labels"),
        (
            "{name: t, labels: [{name: a}, {name: b}], synonyms: {c: [d]}}",
            "mine.yaml: synonyms.c.0: 'c' is none of the labels; name one of them (got 'd')",
        ),
        (
            "{name: t, labels: [{name: a}, {name: b}], synonyms: {a: [B]}}",
            "mine.yaml: synonyms.a.0: 'B' is itself the label at labels.1.name; drop it here",
        ),
        (
            "{name: t, labels: [{name: a}, {name: b}], synonyms: {a: [d], b: [D]}}",
            "mine.yaml: synonyms.b.0: 'D' stands at synonyms.a.0 too; drop one of the two",
        ),
        (
            "{name: t, labels: [{name: a}, {name: b}], synonyms: {a: [d]}, no_class: [d]}",
            "mine.yaml: synonyms.a.0: 'd' stands at no_class.0 too; drop one of the two",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, expected: str):
    (line,) = problems(text)
    assert line.startswith(expected)


def test_everything_wrong_is_said_at_once():
    text = """
        {name: '', neutral: calm, colour: red, labels: [{name: joy}, {name: Joy}, {name: 3}, {examples: [x]}],
         synonyms: {rage: [fury]}, no_class: [joy]}
    """
    places = [line.removeprefix("mine.yaml: ").partition(": ")[0] for line in problems(text)]
    assert sorted(places) == [
        "colour", "labels.1.name", "labels.2.name", "labels.3.name", "name", "neutral", "no_class.0", "synonyms.rage.0",
    ]  # fmt: skip


def test_no_such_taxonomy(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"taxonomy: 'goemotion': No such file.*come with datastill: goemotions"):
        read_taxonomy("goemotion")
    with pytest.raises(ParamsError, match="Is a directory"):
        read_taxonomy(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: m\u00fcde".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"latin.yaml: not UTF-8 .*save the taxonomy as UTF-8"):
        read_taxonomy(tmp_path / "latin.yaml")


def test_the_revision_changes_with_anything_in_it():
    revisions = {
        parse_taxonomy(text, "t").revision
        for text in (
            GOOD,
            GOOD.replace("wind", "gale"),
            GOOD.replace("neutral: none, ", ""),
            GOOD.replace("none", "no one"),
        )
    }
    assert len(revisions) == 4
    reordered = "{labels: [{definition: strong wind, name: storm}, {name: none}], neutral: none, name: weather}"
    assert parse_taxonomy(reordered, "other").revision == parse_taxonomy(GOOD, "t").revision
    assert isinstance(parse_taxonomy(GOOD, "t"), Taxonomy)
