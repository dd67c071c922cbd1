"""`decontamination`; oracle: every n-gram of every item looked for as a substring, and rows written by hand."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.records import Document, Prompt, Rejection, Trace
from datagen.filter import Row
from datagen.filter.decontamination import Config, decontamination


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dropped(rows: list[Row], against: Path, **params: object) -> dict[str, str]:
    config = Config.model_validate({"method": "decontamination", **params})
    out = list(decontamination(config, rows, against))
    assert [row.id for row in out] == [row.id for row in rows]
    rejections = [row for row in out if isinstance(row, Rejection)]
    assert {row.reason for row in rejections} <= {"contaminated"}
    return {row.id: row.detail for row in rejections}


def test_against_a_search_for_substrings(tmp_path: Path):
    """400 rows of words drawn from 60, into 40 of which 13 words of an item are put, and 12 into 40 more."""
    spread = random.Random(3)

    def text(n: int) -> list[str]:
        return [f"w{spread.randrange(60)}" for _ in range(n)]

    items = [text(spread.randint(13, 60)) for _ in range(100)]
    rows = [text(80) for _ in range(400)]
    for i in range(80):
        item = spread.choice(items)
        start = spread.randrange(len(item) - 12)
        rows[i][30 : 30 + (13 if i < 40 else 12)] = item[start : start + (13 if i < 40 else 12)]
    grams = {" ".join(item[k : k + 13]) for item in items for k in range(len(item) - 12)}
    expected = {f"d{i}" for i, row in enumerate(rows) if any(gram in " ".join(row) for gram in grams)}
    against = write(tmp_path / "test.jsonl", [{"id": f"q{i}", "prompt": " ".join(one)} for i, one in enumerate(items)])
    found = dropped([Document(id=f"d{i}", text=" ".join(row)) for i, row in enumerate(rows)], against)
    assert set(found) == expected and len(expected) >= 40
    for id, detail in found.items():  # what is named stands in the row and in the item
        words = detail.rpartition(": ")[2].strip("'")
        item = int(detail.split("'q")[1].split("'")[0])
        assert len(words.split()) == 13
        assert words in " ".join(rows[int(id[1:])]) and words in " ".join(items[item])


LONG = "One two, three four five six seven eight nine ten eleven twelve thirteen fourteen."


def test_case_and_punctuation_do_not_matter_and_the_cause_is_named(tmp_path: Path):
    against = write(tmp_path / "bench.jsonl", [{"id": "q7", "prompt": LONG}])
    text = "Before it: TWO three. Four five six, seven eight nine ten eleven twelve thirteen (fourteen) after"
    found = dropped([Document(id="d", text=text)], against)
    words = "two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    assert found == {"d": f"shares 13 words in a row with item 'q7' of bench.jsonl: '{words}'"}
    assert not dropped([Document(id="d", text=text.replace("nine", "9"))], against)


def test_items_of_few_words(tmp_path: Path):
    """Nine words count together; four are found only as a row's whole question."""
    nine = "how many apples are there in the red box"
    against = write(tmp_path / "t.jsonl", [{"id": "nine", "prompt": nine}, {"id": "four", "prompt": "What is 3+4?"}])
    asked = Prompt(id="asked", messages=[{"role": "user", "content": "what is 3 + 4"}])
    rows: list[Row] = [
        Document(id="part", text=f"Tell me {nine} please"),
        Document(id="cut", text=nine.removesuffix(" box")),
        Document(id="within", text="He asked what is 3 + 4 and left"),
        asked,
        Trace(id="answered", prompt=asked, completion="It is 7."),
    ]
    assert {id: detail.split("'")[1] for id, detail in dropped(rows, against).items()} == {
        "part": "nine",
        "asked": "four",
        "answered": "four",
    }
    assert set(dropped(rows, against, min_words=4)) == {"part", "within", "asked", "answered"}


def test_a_leaked_reference_counts_and_an_answer_is_looked_at(tmp_path: Path):
    against = write(tmp_path / "t.jsonl", [{"id": "q", "prompt": "Count to fourteen.", "reference": LONG}])
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "Go on counting."}])
    rows: list[Row] = [Trace(id="t", prompt=prompt, completion=f"Well: {LONG}")]
    assert set(dropped(rows, against)) == {"t"}
    assert not dropped(rows, against, field="prompt")
    assert not dropped([Document(id="d", text="fourteen")], against)


def test_what_is_missing_is_said(tmp_path: Path):
    config = Config(method="decontamination")
    with pytest.raises(ParamsError, match="name it with --against"):
        list(decontamination(config, [], None))
    with pytest.raises(ParamsError, match=r"min_words: must not be above n=5 \(got 8\)"):
        dropped([], write(tmp_path / "t.jsonl", [{"prompt": "x"}]), n=5)
    with pytest.raises(DataError, match=r"t.jsonl:2: no `prompt`"):
        dropped([], write(tmp_path / "t.jsonl", [*[{"prompt": "x"}], {"question": "x"}, *[{"prompt": "y"}] * 98]))


def test_by_embedding_a_rewording_goes_and_another_question_stays(tmp_path: Path):
    """The real encoder; rows and items by hand. The item in capitals is the same text to an uncased encoder."""
    items = [{"id": "faust", "prompt": "Who wrote Faust?"}, {"id": "apples", "prompt": "How many apples are there?"}]
    against = write(tmp_path / "bench.jsonl", items)
    texts = ["WHO WROTE FAUST?", "Who is the person that wrote Faust?", "How many pears did Tom sell on Monday?"]
    rows: list[Row] = [Prompt(id=f"p{i}", messages=[{"role": "user", "content": text}]) for i, text in enumerate(texts)]
    bad = Rejection(id="f:9", stage="filter", reason="malformed_json", detail="")
    config = Config(method="decontamination", by="embedding")
    first, bad_too, second, third = decontamination(config, [rows[0], bad, rows[1], rows[2]], against)
    assert isinstance(first, Rejection) and isinstance(second, Rejection)
    assert first.detail == "cosine 1.000 with item 'faust' of bench.jsonl by all-minilm-l6-v2"
    assert second.reason == "contaminated" and "with item 'faust'" in second.detail
    assert bad_too is bad and third is rows[2]


def test_by_embedding_an_item_in_one_window_of_a_long_text_is_found(tmp_path: Path):
    item = " ".join(f"The {name} lives in the forest near the lake." for name in ("fox", "bear", "wolf", "owl") * 6)
    against = write(tmp_path / "bench.jsonl", [{"id": "forest", "text": item}])
    other = "Shares of the bank fell after its report on the third quarter. " * 25
    rows: list[Row] = [Document(id="long", text=other + item + item), Document(id="other", text=other)]
    assert set(dropped(rows, against, by="embedding")) == {"long"}


def test_parameters_of_the_other_way_are_refused(tmp_path: Path):
    against = write(tmp_path / "t.jsonl", [{"prompt": "x"}])
    with pytest.raises(ParamsError, match="min_words: means nothing to by=embedding"):
        dropped([], against, by="embedding", min_words=5)
    with pytest.raises(ParamsError, match="min_similarity: means nothing to by=ngram"):
        dropped([], against, min_similarity=0.8)
