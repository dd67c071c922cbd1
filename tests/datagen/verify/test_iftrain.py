"""IFTrain's 29 constraints (arXiv:2507.02833): texts that a person judged by each constraint's description."""

from typing import Any

import pytest

from datagen.verify import _iftrain
from tests.instruction_examples import cases, judge

REQUEST = {"prompt_to_repeat": "Name a fish."}
PHRASE = {"phrase": "Dance like nobody is watching you", "small_n": 2}
COMPOSED = "Cats run far. Dogs eat it.\n***\nIt is hot. Tea is cold.\n***\nWe go now. You go too."

BY_HAND: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "copy:repeat_phrase": [
        (
            PHRASE,
            ["Dance like everybody is watching you. Dance like nobody was watching you!"],
            [
                "Dance like everybody is watching you.",
                "Dance like nobody is watching you. Dance like nobody was watching you. Dance!",
                "Dance like everybody was watching you. Dance like nobody was watching you.",
            ],
        )
    ],
    "copy:copy": [(REQUEST, ["Name a fish.", "name a fish."], ["Name a fish. Cod.", "Cod"])],
    "copy:copying_simple": [(REQUEST, ["Name a fish."], ["Cod", "Sure: Name a fish."])],
    "copy:copying_multiple": [
        (REQUEST | {"N": 2}, ["Name a fish.\n******\nName a fish."], ["Name a fish.", "Name a fish. Name a fish."])
    ],
    "new:copy_span_idx": [(REQUEST | {"n_start": 7, "n_end": 10}, ["fish"], ["fis", "a fish", "fish."])],
    "detectable_format:sentence_hyphens": [
        ({}, ["It is.-So it is.-Yes!", "It is."], ["It is. So it is.", "It is.- So it is.", "It is. -So it is."])
    ],
    "detectable_format:square_brackets": [
        ({}, ["[It] [is] [so]", "[It] [is]."], ["[It is]", "[It] is", "It is"]),
    ],
    "detectable_format:bigram_wrapping": [
        ({}, ["<<It is>> <<so hot>>", "<<It is>> so"], ["It is so hot", "<<It>> <<is>>", "<<It is so>> hot"])
    ],
    "keywords:no_adjacent_consecutive": [({}, ["Big eagles go, apes too", "Cats beat"], ["A bear", "Go, hen"])],
    "keywords:word_once": [({"keyword": "Fish"}, ["One fish."], ["Fish eat fish.", "None."])],
    "keywords:word_count_different_numbers": [
        (
            {"keyword": "fish", "frequency": 2, "relation": "at least"},
            ["Fish eat fish."],
            ["One fish.", "fish, fish, fish"],
        )
    ],
    "keywords:exclude_word_harder": [({"keyword": "fish"}, ["A fisherman.", "None."], ["Fish!", "A fish swims."])],
    "keywords:palindrome": [({}, ["At noon.", "Level it"], ["A cat", "I am"])],
    "keywords:keyword_specific_position": [
        ({"keyword": "lamp", "n": 2, "m": 1}, ["So. Lamp on."], ["Lamp on. So.", "So. A lamp."])
    ],
    "keywords:start_end": [({}, ["Time is all the time", "Yes, yes"], ["Time is time.", "Time", "Tea is hot"])],
    "paragraphs:paragraphs": [({}, ["A.\n***\nB."], ["A.\n\nB.", "A.\n***\nB.\n***\nC."])],
    "paragraphs:paragraphs2": [({}, ["A.\n\nB.\nC."], ["A.\nB.", "A.\n\nB.\n\nC."])],
    "first_word:first_word_sent": [
        ({"first_word": "so"}, ["So it is. So be it."], ["So it is. It is so."]),
        ({"first_word": ["so"]}, ["So."], ["It is."]),
    ],
    "first_word:first_word_answer": [({"first_word": "so"}, ["So, it is."], ["It is so.", "Sometimes"])],
    "last_word:last_word_sent": [({"last_word": "so"}, ["It is so. Is it so?"], ["It is so. It is.", "Also"])],
    "last_word:last_word_answer": [({"last_word": "so"}, ["It is. Be it so."], ["So it is.", "It is also"])],
    "punctuation:punctuation_dot": [({}, ["It is so!"], ["It is so.", "3.5"])],
    "punctuation:punctuation_exclamation": [({}, ["It is so."], ["It is so!"])],
    "count:lowercase_counting": [({"N": 2}, ["THE cat SAT", "a cat SAT"], ["the cat sat"])],
    "count:counting_composition": [
        (
            {"n_sent": 2, "n_words": 3},
            [COMPOSED, "* * *\n" + COMPOSED.replace("***", "* * *")],
            [COMPOSED.replace("far", "so far"), COMPOSED.replace("***", ""), COMPOSED + " So."],
        )
    ],
    "count:count_unique": [({}, ["It was hot. We went on."], ["It is what it was.", "no, NO"])],
    "count:count_increment_word": [
        ({"keyword1": "ant", "keyword2": "bee"}, ["Bee, ant, bee"], ["ant bee", "bee bee", "ant ant bee bee"])
    ],
    "letters:letter_counting": [
        ({"N": 4, "relation": "at least"}, ["Tea, so"], ["Tea 12345"]),
        ({"N": 4, "relation": "less than"}, ["Tea 12345"], ["Teas"]),
    ],
    "letters:letter_counting2": [
        ({"letter": "e", "let_frequency": 2, "let_relation": "at least"}, ["Eel"], ["Tea", ""]),
    ],
}


@pytest.mark.parametrize(("kind", "kwargs", "completion", "met"), cases(BY_HAND))
def test_types_against_judgement_by_hand(kind: str, kwargs: dict[str, Any], completion: str, met: bool):
    """Examples that a person judged by the constraint's description."""
    assert judge(kind, kwargs, completion).status == ("pass" if met else "fail")


def test_every_type_has_examples():
    """The tables of examples and of checks name the same 29 types."""
    assert _iftrain.CHECKS.keys() == BY_HAND.keys()
    assert len(BY_HAND) == 29
