"""Oracles: the reasons, by hand; `<s>user:q</s>` and so on are 21 tokens around the answer's bytes."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from datagen.contracts.records import Prompt, Rejection, Trace
from trainers.lm_rows import Bounds, select

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
