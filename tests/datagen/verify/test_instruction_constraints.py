import json
import re
from typing import Any

import pytest

from datagen.contracts.records import Constraint, Prompt, Trace
from datagen.verify.instruction_constraints import (
    BENCHMARKS,
    CHECKS,
    OWN,
    Config,
    Figures,
    instruction_constraints,
)
from tests.instruction_examples import cases

# Oracle of every row: read and judged by hand against the type's description in arXiv:2311.07911, table 1, or in ours.
BY_HAND: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "keywords:existence": [
        ({"keywords": ["lamp"]}, ["The Lamp is lit.", "Two lamps."], ["The light is on.", ""]),
        ({"keywords": ["fox", "hen"]}, ["A hen met a fox."], ["A fox.", "A hen."]),
    ],
    "keywords:frequency": [
        (
            {"keyword": "fish", "frequency": 2, "relation": "at least"},
            ["Fish eat fish.", "fish, fish, fish"],
            ["One fish."],
        ),
        ({"keyword": "fish", "frequency": 2, "relation": "less than"}, ["One fish.", "None."], ["Fish eat fish.", ""]),
    ],
    "keywords:forbidden_words": [
        ({"forbidden_words": ["red", "Old"]}, ["I hired a golden barn."], ["A RED barn.", "An old barn."])
    ],
    "keywords:letter_frequency": [
        ({"letter": "o", "let_frequency": 3, "let_relation": "at least"}, ["Oh no, no"], ["no no", ""]),
        ({"letter": "o", "let_frequency": 3, "let_relation": "less than"}, ["no no"], ["Oh no, no", ""]),
    ],
    "length_constraints:number_paragraphs": [
        (
            {"num_paragraphs": 2},
            ["A.\n***\nB.", "One.\n\nStill one.\n\n***\n\nTwo.\n***"],
            ["A.\n\nB.", "A ****** B", "A"],
        )
    ],
    "length_constraints:nth_paragraph_first_word": [
        (
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
            ["Hello.\n\nWeekend, at last.", 'Hello.\n\n\n"weekend" is a word.'],
            ["Weekend.\n\nHello.", "A.\n\nWeekend-long.", "A.\n\nWeekend.\n\nB.", "Weekend."],
        )
    ],
    "detectable_content:postscript": [
        (
            {"postscript_marker": "P.S."},
            ["Bye.\n\nP.S. Feed the cat.", "Bye. p.s. x"],
            ["Bye.", "Bye. P.S.", "P.P.S. x"],
        ),
        ({"postscript_marker": "P.P.S"}, ["Bye.\nP.P.S. Feed the cat."], ["Bye.\nP.S. Feed the cat."]),
    ],
    "detectable_content:number_placeholders": [
        (
            {"num_placeholders": 2},
            ["Dear [name], come to [address].", "[a] [b] [c]"],
            ["Dear [name]", "[] []", "(a) (b)"],
        )
    ],
    "detectable_format:number_highlighted_sections": [
        (
            {"num_highlights": 2},
            ["*One* and *part two*.", "**Bold** or *x*."],
            ["*One*.", "2 * 3 * 4 * 5", "* a\n* b\n* c"],
        )
    ],
    "detectable_format:multiple_sections": [
        (
            {"section_spliter": "SECTION", "num_sections": 2},
            ["SECTION 1\nA\nSECTION 2\nB"],
            ["SECTION 1\nA", "SECTION A, SECTION B", "SUBSECTION 1, SUBSECTION 2"],
        )
    ],
    "detectable_format:constrained_response": [
        (
            {},
            ["My answer is yes.", "I thought. My answer is maybe."],
            ["Yes.", "My answer is perhaps.", "my answer is no."],
        )
    ],
    "combination:two_responses": [
        (
            {},
            ["A.\n******\nB.", "******\nA.\n\n******\nB."],
            ["A.", "A.\n******\nA.", "A.\n******", "A ****** B ****** C"],
        )
    ],
    "combination:repeat_prompt": [
        (
            {"prompt_to_repeat": "Name a fish. "},
            ["Name a fish.\n\nCod.", "name a fish. Cod."],
            ["Cod. Name a fish.", "Cod."],
        )
    ],
    "startend:end_checker": [
        (
            {"end_phrase": "Any more questions?"},
            ["Cod. any more questions?", '"Any more questions?"'],
            ["Any questions?", "Any more questions? Yes."],
        )
    ],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 2, "capital_relation": "at least"}, ["STOP it NOW"], ["Stop it NOW", "STOPnow NOW"]),
        ({"capital_frequency": 2, "capital_relation": "less than"}, ["Stop it NOW"], ["STOP it NOW", ""]),
    ],
    "length_constraints:number_words": [
        ({"num_words": 4, "relation": "less than"}, ["It's well-made, yes."], ["It is made well.", ""]),
        ({"num_words": 3, "relation": "at least"}, ["One two 3", "a - b - c"], ["one -- two"]),
    ],
    "length_constraints:number_sentences": [
        ({"num_sentences": 2, "relation": "less than"}, ["Just one!", "No end mark", "It is 3.5 m."], ["One. Two"]),
        ({"num_sentences": 2, "relation": "at least"}, ['"Why?" he asked. "So."', "One?! Two..."], ["Only one..."]),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 2}, ["* a\n* b", "Here:\n - a\n - b"], ["* a", "* a\n* b\n* c", "*a* and *b*", "1. a\n2. b"])
    ],
    "detectable_format:json_format": [
        (
            {},
            ['{"a": [1, 2]}', "7", "null", '```json\n{"a": 1}\n```', "```\n[]\n```"],
            ["{'a': 1}", 'Here: {"a": 1}', '{"a": 1', "[" * 100_000, "9" * 5000 + "]", ""],
        )
    ],
    "detectable_format:title": [
        ({}, ["<<poem of joy>>", "<<A>>\nOnce."], ["<title>", "<<>>", "<< >>", "<<never\nclosed>>"])
    ],
    "language:response_language": [
        (
            {"language": "de"},
            ["Der Fuchs sah die Trauben und wollte sie haben.", "DER FUCHS SAH DIE TRAUBEN."],
            ["The fox saw the grapes and wanted them.", "Le renard a vu les raisins.", ""],
        ),
        ({"language": "kn"}, ["ನರಿಯು ದ್ರಾಕ್ಷಿಯನ್ನು ನೋಡಿತು."], ["The fox saw the grapes."]),
    ],
    "startend:quotation": [({}, ['"Yes."'], ["Yes.", '"Yes', 'He said "yes"', '"'])],
    "change_case:english_capital": [
        ({}, ["ALL OF IT WAS THERE, 3 TIMES!"], ["ALL BUT one", "3", "DER FUCHS SAH DIE TRAUBEN."])
    ],
    "change_case:english_lowercase": [
        ({}, ["all of it was there, 3 times!"], ["All of it", "3", "der fuchs sah die trauben."])
    ],
    "punctuation:no_comma": [({}, ["None here; none."], ["One, here", ""])],
    "datastill:exact_text": [
        (
            {"expected": "In unity is strength."},
            ["In unity is strength."],
            ["In unity is strength", "in unity is strength."],
        )
    ],
    "datastill:opening": [
        (
            {"phrase": "Long ago"},
            ["Long ago, a fox sat.", "long ago it was", '"Long ago" it was.'],
            ["It was long ago.", "Long agone"],
        )
    ],
    "datastill:one_question": [
        ({}, ["Who is it?", "So, who is it?"], ["Ask me. Who is it?", "Who is it? I know.", "Who? Me?", "Who is it"])
    ],
    "datastill:json_object": [
        (
            {"expected": {"name": "Tom", "age": 7}},
            ['{"age": 7, "name": "Tom"}', '```json\n{"name": "Tom", "age": 7}\n```'],
            ['{"name": "Tom", "age": "7"}', '{"name": "Tom"}', '{"name": "Tom", "age": 7, "sex": "m"}', "Tom, 7"],
        )
    ],
}


def trace(completion: str, constraints: list[Constraint], finish_reason: str = "stop") -> Trace:
    return Trace(
        id="t",
        prompt=Prompt(id="p", messages=[], constraints=constraints),
        completion=completion,
        finish_reason=finish_reason,
    )


def constraint(kind: str, **kwargs: Any) -> Constraint:
    return {"id": kind, "kwargs": json.dumps(kwargs)}


@pytest.mark.parametrize(("kind", "kwargs", "completion", "met"), cases(BY_HAND))
def test_types_against_judgement_by_hand(kind: str, kwargs: dict[str, Any], completion: str, met: bool):
    """Examples that a person judged; white space around the completion does not matter."""
    (verdict,) = instruction_constraints(Config(), [trace(f"\n{completion}  ", [constraint(kind, **kwargs)])])
    assert verdict.status == ("pass" if met else "fail")


def test_every_type_has_examples():
    """The table of examples names IFEval's 25 types and ours; the other two benchmarks' have their own files."""
    assert (BENCHMARKS["ifeval"] | OWN).keys() == BY_HAND.keys()
    assert len(BENCHMARKS["ifeval"]) == 25
    assert len(CHECKS) == 25 + 58 + 29 + len(OWN)


@pytest.mark.parametrize(
    ("kind", "completion", "strict", "loose"),
    [
        ("startend:quotation", 'Here it is:\n"Yes."', False, True),  # without the first line
        ("startend:quotation", '"Yes."\nI hope this helps.', False, True),  # without the last
        ("startend:quotation", 'Here it is:\n"Yes."\nI hope this helps.', False, True),  # without both
        ("startend:quotation", '**"Yes."**', False, True),  # without asterisks
        ("startend:quotation", '*Sure:*\n*"Yes."*\n*Bye.*', False, True),  # without all of that
        ("startend:quotation", 'One\nTwo\n"Yes."\nThree', False, False),  # two lines before
        ("punctuation:no_comma", "Well, here\nNone here", False, True),
        ("punctuation:no_comma", "None, here", False, False),  # nothing is left without its only line
        ("detectable_format:number_highlighted_sections", "*One* and *two*", True, True),
    ],
)
def test_loose_takes_away_first_and_last_lines_and_asterisks(kind: str, completion: str, strict: bool, loose: bool):
    """By hand, from section 2.2 of arXiv:2311.07911: eight variants, any of which may meet the constraint."""
    kwargs = {"num_highlights": 2} if "highlighted" in kind else {}
    row = trace(completion, [constraint(kind, **kwargs)])
    for strictness, met in (("strict", strict), ("loose", loose)):
        (verdict,) = instruction_constraints(Config.model_validate({"strictness": strictness}), [row])
        assert verdict.status == ("pass" if met else "fail"), strictness


def test_loose_asks_each_constraint_of_its_own_variant():
    """By hand: the comma is in the first line, the quotation marks around the rest and the highlight in the whole."""
    both = [
        constraint("punctuation:no_comma"),
        constraint("detectable_format:number_highlighted_sections", num_highlights=1),
    ]
    (verdict,) = instruction_constraints(Config(strictness="loose"), [trace("*Well*, so\nit is", both)])
    assert (verdict.status, verdict.score) == ("pass", 1.0)


def test_accuracy_by_benchmark_at_both_levels():
    """By hand: IFEval has 1 of 2 prompts and 2 of 3 instructions, IFBench 0 of 1 and 1 of 2, IFTrain none."""
    comma, quoted = constraint("punctuation:no_comma"), constraint("startend:quotation")
    rows = [
        trace("plain", [comma]),
        trace("plain", [comma, quoted]),
        trace("No white space", [comma, constraint("format:no_whitespace")]),
        trace("No dot.", [constraint("punctuation:punctuation_dot")]),
        trace("plain", [comma, constraint("datastill:opening", phrase="plain")]),  # of our own: no benchmark's
        trace("plain", []),
    ]
    figures = Figures(Config())
    for row, verdict in zip(rows, instruction_constraints(Config(), rows), strict=True):
        figures.count(row, verdict)
    assert figures.metrics()["instruction_following"] == {
        "ifbench": {"prompts": 1, "prompt_accuracy": 0.0, "instructions": 2, "instruction_accuracy": 0.5},
        "ifeval": {"prompts": 2, "prompt_accuracy": 0.5, "instructions": 3, "instruction_accuracy": 0.6667},
        "iftrain": {"prompts": 1, "prompt_accuracy": 0.0, "instructions": 1, "instruction_accuracy": 0.0},
    }
    assert Figures(Config()).metrics() == {}


def test_score_is_the_share_met_and_the_reason_the_first_that_is_not():
    """By hand: of three constraints the second and third fail."""
    constraints = [
        constraint("punctuation:no_comma"),
        constraint("startend:quotation"),
        constraint("detectable_format:title"),
    ]
    (verdict,) = instruction_constraints(Config(), [trace("plain", constraints)])
    assert (verdict.status, verdict.reason) == ("fail", "startend:quotation")
    assert verdict.score == pytest.approx(1 / 3)
    assert verdict.detail == "not met: startend:quotation {}; detectable_format:title {}"


def test_an_answer_that_was_cut_scores_nothing():
    """By definition, whatever it meets: all of its constraints, one of two, none."""
    met, unmet = constraint("punctuation:no_comma"), constraint("startend:quotation")
    verdicts = list(
        instruction_constraints(Config(), (trace("plain", some, "length") for some in ([met], [met, unmet], [unmet])))
    )
    assert [(one.status, one.reason, one.score) for one in verdicts] == [("fail", "cut_off", 0.0)] * 3


def test_no_constraints_is_an_error_and_null_arguments_are_absent():
    """IFEval's file writes every argument of every type, null where it does not apply."""
    null: Constraint = {"id": "startend:quotation", "kwargs": '{"keywords": null, "num_words": null}'}
    nothing, quoted = instruction_constraints(Config(), [trace("x", []), trace('"x"', [null])])
    assert (nothing.status, nothing.reason, quoted.status) == ("error", "no_constraints", "pass")


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (constraint("startend:quotes"), "unknown_instruction", "startend:quotes; there are .*startend:quotation"),
        (constraint("keywords:existence", words=["a"]), "bad_arguments", "keywords:existence cannot be checked"),
        (constraint("keywords:frequency", keyword="a", frequency=1, relation="more"), "bad_arguments", "'at least'"),
        (
            constraint("length_constraints:number_words", num_words="4", relation="less than"),
            "bad_arguments",
            "num_words",
        ),
        (
            constraint(
                "length_constraints:nth_paragraph_first_word", num_paragraphs=1, nth_paragraph=2, first_word="a"
            ),
            "bad_arguments",
            "no paragraph 2",
        ),
        ({"id": "startend:quotation", "kwargs": "{"}, "bad_arguments", "cannot be checked"),
        ({"id": "startend:quotation", "kwargs": "[]"}, "bad_arguments", "cannot be checked"),
        ({"id": "startend:quotation", "kwargs": "[" * 100_000}, "bad_arguments", "cannot be checked"),
    ],
)
def test_what_cannot_be_checked_costs_its_row_alone(bad: Constraint, reason: str, detail: str):
    """An error that says what is wrong, beside a constraint that is met; the row after it is judged."""
    met = constraint("punctuation:no_comma")
    wrong, right = instruction_constraints(Config(), [trace("x", [met, bad]), trace("x", [met])])
    assert (wrong.status, wrong.score, wrong.reason) == ("error", 0.0, reason)
    assert re.search(detail, wrong.detail or "")
    assert right.status == "pass"
