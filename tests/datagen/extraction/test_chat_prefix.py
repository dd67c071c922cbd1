"""The template's part of a sample, and samples of a model that says what it is told.

Oracles: the templates' texts written out by hand, and turns that a stand-in for a backend was given to say.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from datagen.backends.base import Completion, Failure, Outcome, Request, Sampling
from datagen.contracts.errors import MissingError, ParamsError
from datagen.extraction.chat_prefix import find_turns, literal_turns, raw_text, read_turns, sample_turns
from tests.tiny_model import write_tiny_model

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nBe kind<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "<s>{% for m in messages %}<|head|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|end|>\n\n{% endif %}"
)
BRACKETS = (
    "<s>{% if messages[0]['role'] != 'user' %}{{ raise_exception('a user first') }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
THOUGHTS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}<think></think>{% endif %}"
    "{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)
SILENT = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
TWICE = "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}"


def tokenizer(template: str | None, *special: str, bos: str | None = None, eos: str | None = None) -> Any:
    """It has no words, as templates are rendered and never read."""
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
    made.add_special_tokens({"additional_special_tokens": list(special)})
    if template:
        made.chat_template = template
    return made


def chatml() -> Any:
    return tokenizer(CHATML, "<|im_start|>", "<|im_end|>", bos="<|im_start|>", eos="<|im_end|>")


@pytest.mark.parametrize(
    ("start", "keeps", "prefix", "after"),
    [
        ("user", True, "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\n", ("assistant", "user")),
        ("user", False, "<|im_start|>user\n", ("assistant", "user")),
        ("assistant", True, "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>assistant\n", ("user",)),
        ("assistant", False, "<|im_start|>assistant\n", ("user",)),
        ("system", True, "<|im_start|>system\n", ("user", "assistant", "user")),
        ("system", False, "<|im_start|>system\n", ("user", "assistant", "user")),
    ],
)
def test_a_template_that_adds_a_system_prompt(start: Any, keeps: bool, prefix: str, after: tuple[str, ...]):
    """By hand; the end of a turn is the end token, so no stop string is needed."""
    turns = find_turns(chatml(), start, keep_system_prompt=keeps)
    assert turns.prefix == prefix
    assert turns.after == tuple(f"<|im_end|>\n<|im_start|>{role}\n" for role in after)
    assert turns.stops == (None,) * len(after)
    assert turns.system_prompt == ("" if start == "system" else "<|im_start|>system\nBe kind<|im_end|>\n")
    assert turns.facts()["prefix"] == prefix


def test_a_start_token_and_turns_that_end_by_a_token_of_their_own():
    """The start token stays before the header; the turn's last token is the stop string: the end token is another."""
    turns = find_turns(tokenizer(HEADERS, "<|head|>", "<|end|>", "<|eot|>", bos="<s>", eos="</s>"))
    assert turns.prefix == "<s><|head|>user<|end|>\n\n"
    assert turns.after[0] == "<|eot|><|head|>assistant<|end|>\n\n"
    assert (turns.stops, turns.system_prompt) == (("<|eot|>", "<|eot|>"), "")


def test_turns_without_special_tokens_end_by_the_text_that_follows():
    """All that follows but for white space at its end; the answer ends by the end token."""
    made = tokenizer(BRACKETS, bos="<s>", eos="</s>")
    turns = find_turns(made)
    assert (turns.prefix, turns.after[0], turns.stops) == ("<s>[INST] ", " [/INST]", (" [/INST]", None))
    with pytest.raises(ParamsError, match=r"keep_system_prompt.*\[INST\]"):
        find_turns(made, keep_system_prompt=False)
    with pytest.raises(MissingError, match="start=assistant"):
        find_turns(made, "assistant")


def test_what_a_model_is_asked_with_stands_between_the_turns():
    """A template that shows past thoughts as empty and opens new ones: the new ones are what a model is given."""
    turns = find_turns(tokenizer(THOUGHTS, "<|user|>", "<|assistant|>", eos="</s>"))
    assert (turns.prefix, turns.after[0], turns.stops[0]) == ("<|user|>", "</s><|assistant|><think>", None)


@pytest.mark.parametrize(("template", "said"), [(None, "no chat template"), (SILENT, "not found"), (TWICE, "once")])
def test_a_model_whose_turn_cannot_be_found(template: str | None, said: str):
    """One line that says what to do."""
    with pytest.raises(MissingError, match=said) as raised:
        find_turns(tokenizer(template))
    assert "prefix=" in str(raised.value)


def test_a_folder_s_template_and_a_name_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The tiny model's template, by hand; a server's own name says which parameter is missing."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    turns = read_turns(str(write_tiny_model(tmp_path / "tiny")))
    assert (turns.prefix, turns.after) == ("<s>user: ", ("\nassistant: ", "\nuser: "))
    assert turns.stops == ("\nassistant:", "\nuser:")
    with pytest.raises(MissingError, match="template_model"):
        read_turns("a-server-s-name")


def say(texts: dict[tuple[int, int], str | Failure | None], asked: list[Request]) -> Any:
    """A `generate` that says a text by sample and turn; None is cut at the length limit."""

    def generate(requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            asked.append(request)
            assert request.prompt is not None
            place = request.prompt.count("<|im_start|>assistant")
            index = request.sample_index if not place else int(request.prompt.split("question ")[1].split("<")[0])
            given = texts.get((index, place), f"question {index}" if not place else f"answer {index}")
            answer = Completion(text="cut", finish_reason="length") if given is None else given
            if isinstance(answer, str):
                answer = Completion(text=answer, finish_reason="stop")
            yield Outcome(request=request, key=bytes(32), answer=answer)

    return generate


def test_each_turn_is_asked_for_after_those_before_it():
    """The prompts by hand; seeds differ between samples and turns, and more samples leave the first as they are."""
    turns, asked = find_turns(chatml(), keep_system_prompt=False), list[Request]()
    done: list[int] = []
    sampling = Sampling(temperature=1.0, stop=("never",), seed=3)
    samples = list(sample_turns(turns, sampling, 3, say({}, asked), done.append))
    assert [sample.texts for sample in samples] == [[f"question {i}", f"answer {i}"] for i in range(3)]
    assert [request.prompt for request in asked] == ["<|im_start|>user\n"] * 3 + [
        f"<|im_start|>user\nquestion {i}<|im_end|>\n<|im_start|>assistant\n" for i in range(3)
    ]
    assert len({request.sampling.seed for request in asked}) == 6 and sum(done) == 6
    assert {request.sampling.stop for request in asked} == {("never",)}
    fewer: list[Request] = []
    list(sample_turns(turns, sampling, 2, say({}, fewer)))
    assert fewer == [asked[0], asked[1], asked[3], asked[4]]
    assert raw_text(turns, ["q", "a"]) == "q<|im_end|>\n<|im_start|>assistant\na"


def test_a_sample_ends_at_its_first_problem():
    """The planted problems, by reason; a turn after one is never asked for, and counts as done."""
    failed = Failure(reason="http_500", detail="down")
    empty = Failure(reason="empty_answer", detail="no text")
    planted = {
        (0, 0): None, (1, 0): empty, (2, 0): failed, (3, 0): "a <|im_start|> b", (4, 1): None, (5, 1): " \n",
    }  # fmt: skip
    asked: list[Request] = []
    done: list[int] = []
    turns = find_turns(chatml(), keep_system_prompt=False)
    samples = list(sample_turns(turns, Sampling(), 7, say(planted, asked), done.append))
    reasons = [sample.problem and sample.problem.reason for sample in samples]
    assert reasons == ["no_end", "empty_turn", "http_500", "special_token", "no_end", "empty_turn", None]
    assert [sample.is_failure for sample in samples] == [False, False, True, *[False] * 4]
    assert (len(asked), sum(done)) == (7 + 3, 14)


def test_a_turn_s_own_stop_string_joins_the_others():
    """The text that follows it in the template, asked for beside the section's."""
    asked: list[Request] = []
    turns = literal_turns("<|user|>\n", "<|end|>\n<|im_start|>assistant\n")
    list(sample_turns(turns, Sampling(stop=("x",)), 1, say({}, asked)))
    assert [request.sampling.stop for request in asked] == [("x", "<|end|>"), ("x",)]
    assert set(turns.special) == {"<|user|>", "<|end|>", "<|im_start|>"}
