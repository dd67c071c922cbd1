"""`query_quality`; oracle: questions written by hand, breaking one rule each or nearly so."""

import pytest

from datagen.contracts.records import Document, Message, Prompt, Rejection, Trace
from datagen.filter.query_quality import Config, query_quality


def fault(text: str, **params: object) -> str | None:
    config = Config.model_validate({"method": "query_quality", **params})
    messages: list[Message] = [{"role": "system", "content": "http://x"}, {"role": "user", "content": text}]
    (row,) = query_quality(config, [Prompt(id="p", messages=messages)], None)
    return f"{row.reason}: {row.detail}" if isinstance(row, Rejection) else None


@pytest.mark.parametrize(
    "text",
    [
        "How many apples are there in the box?",
        "Name the café's three owners, and say (briefly) who they are.",
        "Is 3 in [0, 3) or not, and why?",
        "a) Add 3 and 4.\nb) Multiply them.",
        "Write a loop:\n```\nfor i in range(3): pass\n```",
        "What does f(x) = |x| + |y| mean here?",
        "Complete the sentence: once upon a time...",
        "Explain what www means to you.",
        "I lost my keys :( what can I do?",
    ],
)
def test_a_good_question_stays(text: str):
    assert fault(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Что такое жизнь и смерть?", "high_unicode: 0.952 of its characters are not ASCII, the most is 0.2"),
        ("Why so?", "incomplete: has 2 words, the least is 3"),
        ("How many apples are in the", "incomplete: ends in the middle of a sentence, on 'the'"),
        ("Take the first, the second, ", "incomplete: ends in the middle of a sentence, on ','"),
        ("What does this do: ```print(3)", "incomplete: opens a code block that it does not close"),
        ("Solve f(x = 3 for all x", "incomplete: opens '(' and does not close it"),
        (
            "What does https://a.org/b?c=1 say of it?",
            "url: holds 1 addresses, the most is 0; the first is https://a.org/b?c=1",
        ),
        ("Look at www.a.org for help.", "url: holds 1 addresses, the most is 0; the first is www.a.org"),
        ("Read it:\n| a | b |\n|---|---|\n| 1 | 2 |\nWhat is a?", "table: holds a table of 3 lines"),
        ("Read it:\na\tb\tc\n1\t2\t3\nWhat is a?", "table: holds a table of 2 lines"),
        ("Read this <table><tr></tr></table> aloud.", "table: holds a table: <table"),
        (r"Read \begin{tabular}{c}1\end{tabular} aloud.", r"table: holds a table: \begin{tabular"),
    ],
)
def test_a_fault_is_named(text: str, expected: str):
    assert fault(text) == expected


def test_thresholds_are_parameters():
    assert fault("Что такое жизнь и смерть?", max_unicode_share=1) is None
    assert fault("Why so?", min_words=2) is None
    assert fault("What does https://a.org/ say?", max_urls=1) is None
    assert fault("Read it:\n| a | b |\n| 1 | 2 |\nWhat is a?", min_table_rows=3) is None


def test_of_a_trace_the_question_counts_and_a_document_is_one():
    config = Config(method="query_quality")
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "Where can I read of it?"}])
    trace = Trace(id="t", prompt=prompt, completion="At https://a.org")
    assert list(query_quality(config, [trace], None)) == [trace]
    (row,) = query_quality(config, [Document(id="d", text="See https://a.org for more.")], None)
    assert isinstance(row, Rejection) and row.reason == "url"
