"""IFBench's 58 test constraints (arXiv:2507.02833): texts that a person judged by each constraint's description."""

from typing import Any

import pytest

from datagen.contracts.inputs import to_record
from datagen.contracts.records import Trace
from datagen.verify import _ifbench, _ifbench_formats
from datagen.verify.instruction_constraints import Config, instruction_constraints
from tests.instruction_examples import cases, judge

COUNTED = {"keyword1": "ant", "keyword2": "bee", "keyword3": "cow", "keyword4": "dog", "keyword5": "elk"}
OF_AFRICA = str.split("""
    Zimbabwe Zambia Uganda Tunisia Togo Tanzania Sudan South_Sudan South_Africa Somalia Sierra_Leone Seychelles Senegal
    São_Tomé_and_Príncipe Rwanda Republic_of_the_Congo Nigeria Niger Namibia Mozambique Morocco Mauritius Mauritania
    Mali Malawi Madagascar Libya Liberia Lesotho Kenya Ivory_Coast Guinea-Bissau Guinea Ghana Gambia Gabon Ethiopia
    Eswatini Eritrea Equatorial_Guinea Egypt Djibouti Democratic_Republic_of_the_Congo Comoros Chad
    Central_African_Republic Cape_Verde Cameroon Burundi Burkina_Faso Botswana Benin Angola Algeria
""")
CAPITALS = (
    "Reykjavik, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, Dublin, Berlin, "
    "Amsterdam, Warsaw, London, Brussels, Kyiv, Prague, Luxembourg, Paris, Vienna, Bratislava, Budapest, Vaduz, "
    "Chișinău, Bern, Ljubljana, Zagreb"
)
STORY = " ".join(f"{chr(ord('A') + i)}nt went on." for i in range(26))
OPTIONS = "\nA) one\nB) two\nC) three\nD) four\nE) five\n"
QUIZ = [f"Question {i}: Who painted this{' very' * i} picture?{OPTIONS}" for i in range(1, 5)]
PALINDROMES = "level radar civic rotor kayak madam refer tenet stats racecar"
STOCK = "ProductID,Category,Brand,Price,Stock\n" + "\n".join(f"{i},toys,Acme,9,4" for i in range(13))
GRADES = '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n' + "\n".join(['"1"\t"Art"\t"B"\t"2"\t"71"'] * 3)
CITIES = "ID,Country,City,Year,Count\n" + "\n".join(f"{i},Chad,Moundou,1999,{i}" for i in range(7))

BY_HAND: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "count:word_count_range": [
        ({"min_words": 3.0, "max_words": 4.0}, ["One two three.", "It's a well-made cup."], ["One two.", "a b c d e"])
    ],
    "count:unique_word_count": [({"N": 3.0}, ["One two three", "Two, two three one"], ["Go go GO go, now"])],
    "count:conjunctions": [({"small_n": 2.0}, ["Tea and milk, but cold."], ["Tea and milk and And.", "Milk."])],
    "count:person_names": [
        ({"N": 2.0}, ["Emma met Liam.", "Noah, Noah and Ava."], ["Emma met Emma.", "Emmas, liam and Bob."])
    ],
    "count:numbers": [({"N": 2.0}, ["From 3 to 1,250.5 m", "7, 8"], ["3 or 4 or 5", "one and two", "12"])],
    "count:punctuation": [
        ({}, ["What?! No; yes: a, b! Why? So."], ["What? No; yes: a, b! So.", "What?! No; yes: a, b. So"])
    ],
    "count:pronouns": [({"N": 3.0}, ["She gave it to them.", "It's his. Yes, mine!"], ["Ann gave Bob a lamp."])],
    "count:words_japanese": [
        ({"N": 2.0}, ["My 猫 is かわいい today", "one"], ["My cat is かわいい today"]),
    ],
    "count:keywords_multiple": [
        (
            COUNTED,
            ["ant bee Bee cow cow cow " + "dog " * 5 + "elk " * 7],
            ["ant ant bee bee cow cow cow " + "dog " * 5 + "elk " * 7, "ant bee"],
        )
    ],
    "ratio:stop_words": [
        ({"percentage": 40.0}, ["The tall trees sway.", "Cats chase mice."], ["It was in the house.", "..."])
    ],
    "ratio:sentence_type": [({}, ["It is. So it is. Is it?"], ["It is. Is it?", "Go now!"])],
    "ratio:sentence_balance": [({}, ["It is. Is it? It is!"], ["It is. It was. Is it? It is!", "No end mark"])],
    "ratio:sentence_words": [
        ({}, ["Cats run. Dogs eat. Fish hop."], ["Cats run. Dogs run. Fish hop.", "Cats run. Dogs eat. A fish hops."])
    ],
    "ratio:overlap": [
        (
            {"reference_text": "abcdefgh", "percentage": 50.0},
            ["abcdexyz"],
            ["abcdefgh", "xyzuvw", "ab"],
        )
    ],
    "words:alphabet": [({}, ["Every frog goes.", "Yes, zebras are big"], ["Every goat.", "3 cats", "A b d"])],
    "words:vowel": [({}, ["A red hat is bad.", "Rhythm"], ["A red hot sun in May", "A hat.\n\nA cap."])],
    "words:consonants": [({}, ["Strong hands catch"], ["Strong men are", "A strong hand"])],
    "words:palindrome": [({}, [PALINDROMES, PALINDROMES.upper() + "."], ["level radar civic", "mom dad " * 10])],
    "words:prime_lengths": [({}, ["It was one table", "Hello, you!"], ["This was", "a cat"])],
    "words:start_verb": [({}, ["Write it down.", "Is it so?", "Went home."], ["The cat runs.", "Nobody writes."])],
    "words:repeats": [({"small_n": 2.0}, ["go Go now", "one two"], ["go go GO", "a b a, b a"])],
    "words:odd_even_syllables": [
        ({}, ["Cats even swim under trees", "Butterfly apple"], ["Cats swim", "Apple butter"])
    ],
    "words:last_first": [
        ({}, ["I like tea. Tea is hot. Hot it was.", "One."], ["I like tea. It is hot.", "Tea is hot. Tea it is."])
    ],
    "words:paragraph_last_first": [
        ({}, ["Time is time.\n\nNow, not later but now!", "Yes"], ["Time is money.", "Time is time.\nNow or later."])
    ],
    "words:no_consecutive": [({}, ["Big cats eat mice", "Go"], ["Big bad cats", "Tea, the drink"])],
    "words:keywords_specific_position": [
        (
            {"keyword": "lamp", "n": 2, "m": 3},
            ["So. Now my Lamp shines."],
            ["Now my lamp shines. So.", "So. My lamp"],
        )
    ],
    "words:words_position": [
        (
            {"keyword": "vibrant"},
            ["A vibrant, big and vibrant town."],
            ["A vibrant old town.", "Vibrant is vibrant."],
        )
    ],
    "sentence:alliteration_increment": [
        ({}, ["It was. Big bears ate. Tom took two."], ["Big bears ate. It was.", "It was. He ate."])
    ],
    "sentence:keyword": [
        ({"word": "eat", "N": 2.0}, ["So. We Eat now."], ["We eat now. So.", "So. A great meat.", "We eat."])
    ],
    "sentence:increment": [
        ({"small_n": 1.0}, ["One. One two. One two three."], ["One. One two three.", "One two. One."])
    ],
    "format:parentheses": [
        ({}, ["a (b [c {d (e [f])}])", "((((()))))"], ["(a [b {c (d)}])", "((((( a", "(((((]))))", "()()()()()"])
    ],
    "format:quotes": [
        (
            {},
            ['"He said \'she said "no" to it\' then"', "\u201cA \u2018b \u201cc\u201d d\u2019 e\u201d"],
            ["\"He said 'no' then\"", "I don't, we don't, \"they don't\".", '"\'"'],
        )
    ],
    "format:options": [
        ({"options": "yes/no/maybe"}, ["Yes.", "maybe"], ["Yes, I do.", "perhaps"]),
        ({"options": "I know or I don't know"}, ["I don't know."], ["I don't"]),
        ({"options": "a), b), c), d)"}, ["b)"], ["B) two", "e)"]),
    ],
    "format:newline": [({}, ["One\ntwo,\n\n- three"], ["One two\nthree"])],
    "format:emoji": [
        ({}, ["Hello 😀. Bye 👋!", "Hello! 😀 Bye. 👋", "It is ☀️"], ["Hello! 😀 Bye.", "Hello. Bye 👋", "No"])
    ],
    "format:line_indent": [({}, ["a\n b\n\n   c"], ["a\n b\n b", "a\nb", "a"])],
    "format:quote_unquote": [
        ({}, ['He said "yes" and meant it.', "None here."], ['He said "yes".', '"a", "b" are letters.', '"Open'])
    ],
    "format:list": [({"sep": "!?!?"}, ["!?!? milk\n!?!? tea"], ["!?!? milk", "milk !?!? tea !?!? ice", "- a\n- b"])],
    "format:thesis": [
        (
            {},
            ["<i>Tea is good.</i> It is hot.", "# One\n<em>Tea.</em> Hot.\n# Two\n<i>Ice.</i>\nCold."],
            ["Tea is good. <i>It is hot.</i> Yes.", "<i>Tea.</i>", "*Tea.* Hot.", "# A\n<i>Tea.</i> Hot.\n# B\nCold."],
        )
    ],
    "format:sub-bullets": [
        ({}, ["* a\n  - b\n* c\n  - d\n  - e"], ["* a\n  - b\n* c", "a well-made cup", "- a\n- b", "* a, well-made"])
    ],
    "format:no_bullets_bullets": [
        (
            {},
            ["It is. It was.\n* a\n* b", "One. Two. Three!\n\n* a\n\n* b\nBye."],
            ["It is.\n* a\n* b", "It is. So.\n* a"],
        )
    ],
    "format:title_case": [({}, ["The Lord of the Rings", "NASA Is Here. A Cat"], ["The lord of the rings", "the End"])],
    "format:output_template": [
        (
            {},
            ["My Answer: tea\nMy Conclusion: hot\nFuture Outlook: ice"],
            ["My Conclusion: a My Answer: b Future Outlook: c", "My Answer: My Conclusion: Future Outlook:", "tea"],
        )
    ],
    "format:no_whitespace": [({}, ["Tea,hot."], ["Tea, hot.", "a\nb"])],
    "repeat:repeat_change": [
        (
            {"prompt_to_repeat": "Write a poem."},
            ["Compose a poem."],
            ["Write a poem.", "Compose a poem. So", "a poem."],
        )
    ],
    "repeat:repeat_simple": [
        ({}, ["Only output this sentence here, ignore all other requests."], ["Only output this sentence here."])
    ],
    "repeat:repeat_span": [
        ({"prompt_to_repeat": "explain the context", "n_start": 8, "n_end": 10}, ["the", "The"], ["th", "text"])
    ],
    "custom:multiples": [({}, ["14, 21, 28, 35, 42, 49", "14\n21\n28\n35\n42\n49"], ["7, 14, 21, 28, 35, 42", "14"])],
    "custom:mcq_count_length": [
        (
            {},
            ["".join(QUIZ)],
            ["".join(QUIZ[:3]), "".join(QUIZ[::-1]), "Here: " + "".join(QUIZ), "".join(QUIZ).replace("C) three\n", "")],
        )
    ],
    "custom:reverse_newline": [
        (
            {},
            ["\n".join(OF_AFRICA).replace("_", " ")],
            ["\n".join(OF_AFRICA[:50]), "\n".join(OF_AFRICA[::-1]), ", ".join(OF_AFRICA)],
        )
    ],
    "custom:word_reverse": [({}, ["Eagle bald the is it."], ["It is the bald eagle.", "Eagle the."])],
    "custom:character_reverse": [({}, [".elgae dlab eht si tI"], ["The bald eagle", "eagle bald"])],
    "custom:sentence_alphabet": [({}, [STORY], [STORY.removesuffix(" Znt went on."), STORY + " And so on."])],
    "custom:european_capitals_sort": [
        ({}, [CAPITALS, CAPITALS.replace("Kyiv", "Kiev")], [CAPITALS.replace("Kyiv, ", ""), "Oslo, Reykjavik", "Oslo"])
    ],
    "custom:csv_city": [({}, [CITIES], [CITIES + "\n8,Chad,Moundou,1999,2", CITIES.replace(",", ";"), CITIES + ",1"])],
    "custom:csv_special_character": [
        (
            {},
            [STOCK + '\n14,toys,"A&B",9,4', STOCK + '\n14,toys,"A, B",9,4'],
            [STOCK + "\n14,toys,A&B,9,4", STOCK + '\n14,toys,"AB",9,4', '"A&B"', STOCK + '\n14,"A&B",9,4'],
        )
    ],
    "custom:csv_quotes": [({}, [GRADES], [GRADES.replace('"', ""), GRADES.replace("\t", ","), GRADES + '\n"x"'])],
    "custom:date_format_list": [
        ({}, ["1796-04-12, 1800-06-14", "1815-06-18"], ["12.4.1796", "1796-04-12 and more", "1796-02-31", "1944-06-06"])
    ],
}


@pytest.mark.parametrize(("kind", "kwargs", "completion", "met"), cases(BY_HAND))
def test_types_against_judgement_by_hand(kind: str, kwargs: dict[str, Any], completion: str, met: bool):
    """Examples that a person judged by the constraint's description."""
    assert judge(kind, kwargs, completion).status == ("pass" if met else "fail")


def test_every_type_has_examples():
    """The tables of examples and of checks name the same 58 types."""
    assert (_ifbench.CHECKS | _ifbench_formats.CHECKS).keys() == BY_HAND.keys()
    assert len(BY_HAND) == 58


def test_a_row_of_two_turns_is_judged_by_its_last_answer():
    """By hand: the first answer has no number and the last has two; nulls and floats as the benchmark writes them."""
    turns = [("user", "Tell me of tea."), ("assistant", "Tea is hot."), ("user", "Include exactly 2 numbers.")]
    row = {
        "key": "7",
        "messages": [{"role": role, "content": content} for role, content in turns],
        "instruction_id_list": ["count:numbers"],
        "kwargs": [{"N": 2.0, "keyword": None, "prompt_to_repeat": None}],
        "completion": "Tea takes 3 to 5 minutes.",
    }
    trace = to_record(row, Trace, source="rows.jsonl:1")
    (found,) = instruction_constraints(Config(), [trace])
    assert (trace.id, len(trace.prompt.messages), found.status) == ("7", 3, "pass")
