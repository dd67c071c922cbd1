"""Cutting long texts; oracles: sections by hand, and what must hold of any text."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from datagen.narratives.sections import count_words, cut_sections


def cut(text: str, max_words: int) -> list[str]:
    return [text[start:end] for start, end in cut_sections(text, max_words)]


def test_sentences_stay_whole():
    """Twelve words in sentences of four: two sections of at most eight are one sentence and two, by hand."""
    text = "One two three four. Five six seven eight! Nine ten eleven twelve?"
    assert cut(text, 8) == ["One two three four. Five six seven eight!", "Nine ten eleven twelve?"]
    assert cut(text, 12) == [text]


def test_quotations_and_titles_end_no_sentence_too_early():
    """By hand: the mark within the quotation belongs to the sentence that goes on in lower case."""
    text = 'Mr. Fox said, "No!" and ran. "Why?" she asked St. George. He wept.'
    assert cut(text, 6) == ['Mr. Fox said, "No!" and ran.', '"Why?" she asked St. George.', "He wept."]


def test_a_section_would_rather_end_with_its_paragraph():
    """Eighteen words, twelve at most: two sections of nine, but the first paragraph's end after seven is near enough.

    With ten at most the rest would not fit into one section, and with a paragraph of four words it is too early.
    """
    assert cut("A b c d. E f g.\n\nH i j k. L m n o. P q r.", 12) == ["A b c d. E f g.", "H i j k. L m n o. P q r."]
    assert cut("A b c d.\n\nE f g h. H i j k. L m n o. P q.", 12) == [
        "A b c d.\n\nE f g h. H i j k.",
        "L m n o. P q.",
    ]


def test_a_sentence_longer_than_a_section_is_cut_between_words():
    """Ten words, four at most: cut as a section's length goes."""
    assert cut("a b c d e f g h i j", 4) == ["a b c d", "e f g h", "i j"]


def test_scripts_without_spaces_are_counted_by_character():
    """Sentences of five and three characters, the full stops apart."""
    text = "狼看见小羊。羊跑了。"
    assert count_words("狼看见小羊") == 5 and count_words("The wolf 看") == 3
    assert cut(text, 6) == ["狼看见小羊。", "羊跑了。"]


WORDS = ("fox", "Wolf", "ran.", "said,", '"No!"', "\n\n", "Mr.", "狼", "。", "?", "é")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=80)


@given(TEXTS.map(" ".join), st.integers(min_value=1, max_value=12))
def test_any_text_is_covered_in_order_and_no_section_is_too_long(text: str, max_words: int):
    spans = cut_sections(text, max_words)
    assert all(1 <= count_words(text[start:end]) <= max_words for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
