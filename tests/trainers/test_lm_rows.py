"""Oracles: the reasons, by hand; `<s>user:q</s>` and so on are 21 tokens around the answer's bytes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from datagen.contracts.records import Document, Prompt, Rejection, Trace
from trainers.lm_rows import Bounds, select, select_texts

PROMPT = Prompt(id="p", messages=[{"role": "user", "content": "q"}])
ENDS = frozenset({1})


def trace(completion: str, id: str = "t", **more: Any) -> Trace:
    return Trace(id=id, prompt=PROMPT, completion=completion, **more)


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


def test_every_row_is_used_or_dropped_with_its_reason(tokenizer: Any):
    completions = ["a", "a", "b", "c", " ", "d" * 40, "", "e" * 18]
    rows = [trace(text, id=f"p#{i}") for i, text in enumerate(completions)]
    other = Trace(id="o#0", prompt=Prompt(id="o", messages=PROMPT.messages), completion="a")
    bad = Rejection(id="line 7", stage="train_lm", reason="malformed_json", detail="")
    bounds = Bounds(max_tokens=38, context=60, max_rows_per_prompt=2)
    chosen, rejections = select([*rows, bad, other], bounds, tokenizer, ENDS, stage="train_lm")
    learned = [tokenizer.decode(row.example.tokens[row.example.n_prompt_tokens :]) for row in chosen]
    assert learned == ["a</s>", "b</s>", "a</s>"]
    assert [row.id for row in chosen] == ["p#0", "p#2", "o#0"]
    assert {row.id: row.reason for row in rejections} == {
        "p#1": "equal_completion", "p#3": "over_cap", "p#4": "empty_completion", "p#5": "too_long",
        "p#6": "empty_completion", "p#7": "too_long", "line 7": "malformed_json",
    }  # fmt: skip
    details = {row.id: row.detail for row in rejections}
    assert details["p#5"] == "61 tokens, the model's context is 60"
    assert details["p#7"] == "39 tokens, max_tokens is 38"


def test_a_template_that_hides_the_answer_s_start_is_refused(tokenizer: Any):
    """One that cuts thoughts out of answers, as DeepSeek-R1's does; one that trims white space hides nothing."""
    turn = "{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1] | trim }}{% else %}q{% endif %}"
    ending = "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ':' }}" + turn + ending
    rows = [trace("<think>hm</think>4", id="thinks"), trace(" 4\n", id="spaced"), trace("5</think>", id="all")]
    bounds = Bounds(max_tokens=64, context=64, max_rows_per_prompt=9)
    chosen, rejections = select(rows, bounds, tokenizer, ENDS, stage="train_lm")
    assert [row.id for row in chosen] == ["spaced"]
    assert {row.id: row.reason for row in rejections} == {"thinks": "chat_template", "all": "chat_template"}
    assert "hides the answer's start, '<think>hm</think>4'" in rejections[0].detail


def test_a_template_without_a_prompt_is_refused(tokenizer: Any):
    """No position stands before the first token, so it cannot be learned."""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    bounds = Bounds(max_tokens=64, context=64, max_rows_per_prompt=9)
    chosen, rejections = select([trace("4")], bounds, tokenizer, ENDS, stage="train_lm")
    assert not chosen and [row.reason for row in rejections] == ["empty_completion"]


def test_a_text_is_cut_so_that_each_token_but_its_first_is_learned_once(tokenizer: Any):
    """By hand: of 7 bytes in pieces of 3, `abc`, `cde`, `efg`; a tokenizer of bytes has no mark of a start."""
    rows = [
        Document(id="long", text="abcdefg", domain="d"), Document(id="short", text="xy"), Document(id="one", text="z"),
        Document(id="long/1", text="in the way"),
    ]  # fmt: skip
    bad = Rejection(id="line 9", stage="train_lm", reason="malformed_json", detail="")
    bounds = Bounds(max_tokens=3, context=60, max_rows_per_prompt=1)
    chosen, rejections = select_texts([*rows[:3], bad], bounds, tokenizer, stage="train_lm")
    read = {row.id: tokenizer.decode(row.example.tokens) for row in chosen}
    assert read == {"long/0": "abc", "long/1": "cde", "long/2": "efg", "short": "xy"}
    learned = [token for row in chosen[:3] for token in row.example.tokens[row.example.n_prompt_tokens :]]
    assert tokenizer.decode(learned) == "bcdefg"
    assert {row.id: row.reason for row in rejections} == {"one": "empty_text", "line 9": "malformed_json"}
    assert [row.domain for row in chosen] == ["d", "d", "d", ""]
    _, rejections = select_texts([rows[0], rows[3]], replace(bounds, context=4), tokenizer, stage="train_lm")
    assert not rejections  # its own pieces are long/1/0 and so on
    whole = Document(id="long/1", text="ab")
    _, rejections = select_texts([rows[0], whole], bounds, tokenizer, stage="train_lm")
    assert [(row.id, row.reason) for row in rejections] == [("long/1", "duplicate_id")]


def test_all_turns_are_learned_with_what_the_template_puts_around_them(tokenizer: Any):
    """By hand: the template's text but for its first token, and the same tokens as else."""
    bounds = Bounds(max_tokens=64, context=64, max_rows_per_prompt=9, learned_tokens="all")
    (row,), _ = select([trace("abc")], bounds, tokenizer, ENDS, stage="train_lm")
    learned = tokenizer.decode(row.example.tokens[row.example.n_prompt_tokens :])
    assert learned == "user:q</s>\n<s>assistant:abc</s>"
    (other,), _ = select([trace("abc")], replace(bounds, learned_tokens="completion"), tokenizer, ENDS, stage="t")
    assert other.example.tokens == row.example.tokens
