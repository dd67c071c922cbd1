from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.backends.transformers_models import Example, TemplateError, encode
from datagen.contracts.errors import MissingError
from datagen.contracts.records import Prompt, Trace
from trainers.batches import arrange, check_packing, collate, completion_logits, n_shared_tokens

ENDS = frozenset({1})


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


def trace(completion: str, **more: Any) -> Trace:
    prompt = Prompt(id="p", messages=[{"role": "system", "content": "Sé breve"}, {"role": "user", "content": "Grüße!"}])
    return Trace(id="p#0", prompt=prompt, completion=completion, **more)


def test_learned_tokens_are_those_whose_characters_are_the_answer(tokenizer: Any):
    """Oracle: the tokenizer's own character offsets in the text that the template renders."""
    answer = "Schöne Grüße, 你好"
    example = encode(trace(answer), tokenizer, ENDS)
    text = f"<s>system:Sé breve</s>\n<s>user:Grüße!</s>\n<s>assistant:{answer}</s>\n"
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start = text.index(answer)
    offsets = zip(whole["input_ids"], whole["offset_mapping"], strict=True)
    inside = [token for token, (first, _) in offsets if start <= first < len(text) - 1]
    assert example.tokens[example.n_prompt_tokens :] == inside
    assert tokenizer.decode(inside) == answer + "</s>"


def test_given_tokens_are_those_that_generation_starts_from(tokenizer: Any):
    """Oracle: the template with its generation prompt."""
    example = encode(trace("x"), tokenizer, ENDS)
    prompt = tokenizer.apply_chat_template(
        trace("x").prompt.messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert example.tokens[: example.n_prompt_tokens] == prompt


def test_an_answer_cut_at_its_length_limit_has_no_end(tokenizer: Any):
    """Oracle: the text, spelled out."""
    example = encode(trace("cut of", finish_reason="length"), tokenizer, ENDS)
    assert tokenizer.decode(example.tokens[example.n_prompt_tokens :]) == "cut of"


def test_a_template_that_rewrites_the_prompt_is_refused(tiny: Path):
    """Such as one that drops the system turn once an answer is there."""
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = "{{ messages | length }}{% if add_generation_prompt %}:{% endif %}"
    with pytest.raises(TemplateError, match="changes the prompt"):
        encode(trace("x"), tokenizer, ENDS)


def test_messages_that_a_template_refuses_are_named(tiny: Path):
    """Such as a system turn where the template knows none; and no messages at all."""
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    with pytest.raises(TemplateError, match="refuses the messages"):
        encode(replace(trace("x"), prompt=Prompt(id="p", messages=[])), tokenizer, ENDS)
    tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
    with pytest.raises(TemplateError, match="refuses the messages: no system turn"):
        encode(trace("x"), tokenizer, ENDS)


def test_padding_and_masks_by_hand():
    """Prompt 5 6, answer 7 8; prompt 9, answer 4."""
    batch = collate([Example([5, 6, 7, 8], 2), Example([9, 4], 1)])
    assert batch.tokens.tolist() == [[5, 6, 7, 8], [9, 4, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.learned.tolist() == [[False, True, True, False], [True, False, False, False]]
    assert batch.labels.tolist() == [7, 8, 4]


def test_logits_stand_before_their_tokens(tiny: Path):
    """Oracle: the model on each sequence alone, without padding, all positions computed."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64)
    examples = [Example([5, 6, 7, 8], 2), Example([9, 4], 1), Example(list(range(20, 40)), 7)]
    with torch.no_grad():
        logits = completion_logits(model, collate(examples))
        alone = [model(input_ids=torch.tensor([e.tokens])).logits[0, e.n_prompt_tokens - 1 : -1] for e in examples]
    torch.testing.assert_close(logits, torch.cat(alone))


def test_a_shared_start_changes_neither_logits_nor_gradient(tiny: Path):
    """Oracle: each sequence alone, without a cache, in float64. Four tokens are shared, the fifth is learned in one."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64)
    start = [5, 6, 7, 8]
    examples = [Example([*start, 30, 31], 4), Example([*start, 30, 40, 41, 42], 6), Example([*start, 9, 9, 9], 5)]
    batch = collate(examples)
    assert n_shared_tokens(batch) == 3  # the fourth token's logits are needed
    logits = completion_logits(model, batch)
    logits.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    alone = [model(input_ids=torch.tensor([e.tokens])).logits[0, e.n_prompt_tokens - 1 : -1] for e in examples]
    torch.cat(alone).square().sum().backward()
    torch.testing.assert_close(logits, torch.cat(alone))
    wanted = [parameter.grad for parameter in model.parameters()]
    torch.testing.assert_close(gradients, wanted, rtol=1e-5, atol=1e-4)  # Llama's norms compute in float32


def test_nothing_is_shared_by_one_sequence_or_by_different_ones():
    assert n_shared_tokens(collate([Example([5, 6, 7], 2)])) == 0
    assert n_shared_tokens(collate([Example([5, 6, 7], 2), Example([4, 6, 7], 2)])) == 0


def documents(n: int) -> list[Example]:
    """Of 3 to 40 tokens, prompts of 1 to 3."""
    return [Example([(7 * i + 11 * at) % 259 for i in range(3 + (13 * at) % 38)], 1 + at % 3) for at in range(n)]


def losses(model: Any, layout: Any, examples: list[Example]) -> dict[int, torch.Tensor]:
    """The sum of each document's loss, by the document's identity."""
    arranged, batch = arrange(examples, layout)
    logits = completion_logits(model, batch)
    found = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
    by_document = found.split([example.n_completion_tokens for example in arranged])
    return {id(one): part.sum() for one, part in zip(arranged, by_document, strict=True)}


@pytest.mark.parametrize(
    ("attention", "dtype", "bound"),
    [("sdpa", torch.float64, 1e-10), ("sdpa", torch.float32, 1e-5), ("eager", torch.float32, 1e-5)],
)
def test_packed_documents_have_the_losses_that_they_have_alone(tiny: Path, attention: str, dtype: Any, bound: float):
    """Oracle: each document through the model alone, without padding; relative to the loss.

    The norms are given the type of the rest, as transformers' own compute in float32.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=dtype, attn_implementation=attention)
    for norm in [part for part in model.modules() if hasattr(part, "variance_epsilon")]:
        norm.forward = lambda x, norm=norm: (
            norm.weight * x * (x.square().mean(-1, True) + norm.variance_epsilon).rsqrt()
        )
    examples = documents(20)
    with torch.no_grad():
        together = losses(model, "packed", examples)
        for example in examples:
            logits = model(input_ids=torch.tensor([example.tokens])).logits[0, example.n_prompt_tokens - 1 : -1]
            alone = torch.nn.functional.cross_entropy(
                logits, torch.tensor(example.tokens[example.n_prompt_tokens :]), reduction="sum"
            )
            assert abs(together[id(example)] - alone) <= bound * alone


def test_packed_and_padded_have_the_same_gradient(tiny: Path):
    """Oracle: the padded batch, which no code of packing sees; two documents share their start."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64)
    examples = [*documents(9), Example([5, 6, 7, 8], 2), Example([5, 6, 7, 9, 9], 2)]
    gradients: list[list[torch.Tensor]] = []
    for layout in ("packed", "padded"):
        model.zero_grad()
        torch.stack(list(losses(model, layout, examples).values())).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)  # Llama's norms compute in float32


def test_packed_rows_by_hand():
    """4 and 2 slots fill a row, 3 and 3 the other; positions start anew, and learned are those before answers."""
    examples = [Example([1, 2, 3, 4], 2), Example([5, 6, 7], 1), Example([8, 9, 10], 2), Example([11, 12], 1)]
    arranged, batch = arrange(examples, "packed")
    assert arranged == [examples[0], examples[3], examples[1], examples[2]]
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 11, 12], [5, 6, 7, 8, 9, 10]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]]
    assert batch.labels.tolist() == [3, 4, 12, 6, 7, 10]
    assert batch.attention_mask.all()


def test_a_network_that_mixes_what_is_packed_is_refused(tiny: Path):
    """One whose state runs on from token to token, however positions start; the tiny Llama does not."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    check_packing(model, 259)

    class Running(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(259, 8)

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return SimpleNamespace(logits=self.embedding(input_ids).cumsum(dim=1))

    with pytest.raises(MissingError, match="Running mixes sequences that stand in one row; set layout=padded"):
        check_packing(Running(), 259)
