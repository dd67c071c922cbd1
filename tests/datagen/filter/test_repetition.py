"""`repetition`; oracle: places of the n-gram counted as substrings, texts built by hand."""

import random

from datagen.contracts.records import Document, Prompt, Rejection, Trace
from datagen.filter.repetition import Config, repetition

LINE = " ".join(f"w{i}" for i in range(20))


def detail(text: str, **params: object) -> str | None:
    config = Config.model_validate({"method": "repetition", **params})
    (row,) = repetition(config, [Document(id="d", text=text)], None)
    return f"{row.reason}: {row.detail}" if isinstance(row, Rejection) else None


def test_the_bound_itself_may_stand():
    """Twenty lines have their 20 words 20 times; one more is too many."""
    assert detail("\n".join([LINE] * 20)) is None
    assert detail("\n".join([LINE] * 21)) == f"repetition: 20 words in a row stand 21 times, the most is 20: '{LINE}'"


def test_places_may_overlap():
    """40 equal words have 21 places for 20 of them."""
    assert detail("no " * 39) is None
    assert "stand 21 times" in (detail("no " * 40) or "")


def test_counts_are_those_of_substrings():
    """200 texts of two words; the most frequent of their 3-grams, counted in the text itself."""
    spread = random.Random(4)
    for _ in range(200):
        words = [spread.choice("ab") for _ in range(30)]
        text = " ".join(words)
        counts = {tuple(words[i : i + 3]): 0 for i in range(28)}
        for gram in counts:
            counts[gram] = sum(text.startswith(" ".join(gram), at) for at in range(0, len(text), 2))
        found = detail(text, n=3, max_count=1)
        assert found and f"stand {max(counts.values())} times" in found


def test_the_answer_of_a_trace_counts_and_bad_rows_go_through():
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "Say it."}])
    trace = Trace(id="t", prompt=prompt, reasoning=" ".join([LINE] * 21), completion="Done.")
    bad = Rejection(id="f:1", stage="filter", reason="malformed_json", detail="")
    first, second = repetition(Config(method="repetition"), [bad, trace], None)
    assert first is bad and isinstance(second, Rejection) and second.id == "t"
    assert list(repetition(Config(method="repetition", field="prompt"), [trace], None)) == [trace]
