"""Oracles: sentences by hand, which name a label in some form, or do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.synthesis._label_words import LabelWords, split_sentences
from datagen.synthesis.taxonomy import Taxonomy

TAXONOMY = Taxonomy.model_validate(
    {
        "name": "moods",
        "labels": [{"name": name} for name in ("joy", "annoyance", "at ease", "anger", "neutral")],
        "neutral": "neutral",
        "synonyms": {"anger": ("angry", "fed up"), "joy": ("longing",)},
    }
)
WORDS = LabelWords(TAXONOMY)


@pytest.mark.parametrize("text", ["Joyful news", "he was ANNOYED", "annoying!", "anger", "she sat at ease."])
def test_a_name_in_any_form(text: str):
    assert WORDS.named_in(text)


@pytest.mark.parametrize("text", ["angrily", "a longing", "I am fed up"])
def test_a_synonym_counts_for_its_own_label_alone(text: str):
    assert WORDS.named_in(text, ("anger", "joy")) and WORDS.named_in(text, ("annoyance",)) is None


@pytest.mark.parametrize("text", ["", "enjoying", "a hungry man", "at the ease", "a long day", "fed and up", "neutral"])
def test_other_words_are_no_label(text: str):
    assert WORDS.named_in(text, ("anger", "joy")) is None


def test_a_sentence_keeps_its_quotation_marks():
    said = ['He shouted "Stop!"', "Then he ran (to the door.)", "She wept."]
    assert split_sentences(" ".join(said)) == said


@given(st.lists(st.sampled_from(["He joyfully ran.", "Dust fell.", "Annoyances!", "She left, angry.", "Rain."])))
def test_what_is_left_of_sentences_names_no_label(sentences: list[str]):
    kept = [one for one in split_sentences(" ".join(sentences)) if not WORDS.named_in(one, ("anger",))]
    assert kept == [one for one in sentences if one in ("Dust fell.", "Rain.")]
