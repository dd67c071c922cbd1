"""Oracles: transformers' own logits; a loop over sequences; layers by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from datagen.backends.transformers_models import Example
from datagen.contracts.errors import MissingError, ParamsError
from trainers.batches import collate, pack
from trainers.language_models import StudentModel, check_linear_head, head_of, hidden_states, keep_layers
from trainers.objectives import SumCount

EXAMPLES = [Example([5, 6, 7, 8, 9, 10], 4), Example([5, 6, 7, 3, 4, 3, 9], 3), Example([5, 6, 9], 2)]


@pytest.fixture
def model(tiny: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64).eval()


def alone(model: Any, example: Example) -> Tensor:
    """Logits before each learned token, the sequence by itself."""
    with torch.no_grad():
        return model(torch.tensor([example.tokens])).logits[0, example.n_prompt_tokens - 1 : -1]


def nll(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> SumCount:
    losses = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels, reduction="sum")
    return SumCount(losses, torch.tensor(len(labels)))


@pytest.mark.parametrize("shares_prompts", [False, True])
def test_states_and_head_give_the_model_s_logits(model: Any, shares_prompts: bool):
    """Each sequence by itself; the three share their start `5 6`."""
    weight, bias = head_of(model)
    with torch.no_grad():
        found = hidden_states(model, collate(EXAMPLES), shares_prompts=shares_prompts)
    assert bias is None
    wanted = torch.cat([alone(model, example) for example in EXAMPLES])
    torch.testing.assert_close(found @ weight.T, wanted, rtol=0, atol=1e-12)


def test_packed_states_are_those_of_each_sequence_alone(model: Any):
    ordered, batch = pack(EXAMPLES)
    with torch.no_grad():
        found = hidden_states(model, batch, shares_prompts=True)
    wanted = torch.cat([alone(model, example) for example in ordered])
    torch.testing.assert_close(found @ head_of(model).weight.T, wanted, rtol=0, atol=1e-12)


def test_the_gradient_through_a_shared_start_is_that_of_each_sequence(model: Any):
    """Summed over sequences that are run one by one."""
    for example in EXAMPLES:
        logits = model(torch.tensor([example.tokens])).logits[0, example.n_prompt_tokens - 1 : -1]
        labels = torch.tensor(example.tokens[example.n_prompt_tokens :])
        nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    wanted = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    batch = collate(EXAMPLES)
    part = StudentModel(model)(batch, lambda *states: nll(*states, labels=batch.labels))
    part.sum.backward()
    assert part.n == sum(example.n_completion_tokens for example in EXAMPLES)
    for name, one in model.named_parameters():
        torch.testing.assert_close(one.grad, wanted[name], rtol=0, atol=5e-6)  # norms are float32


def test_a_head_that_caps_its_logits_is_refused():
    """Gemma 2 caps at 30 by tanh; with the cap far away it is linear again."""
    sizes: dict[str, Any] = {
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "initializer_range": 2.0,
    }  # fmt: skip
    torch.manual_seed(0)
    with pytest.raises(MissingError, match="Gemma2ForCausalLM: scales or caps its logits"):
        check_linear_head(Gemma2ForCausalLM(Gemma2Config(**sizes, final_logit_softcapping=1.0)))
    check_linear_head(Gemma2ForCausalLM(Gemma2Config(**sizes, final_logit_softcapping=None)))
    check_linear_head(GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2)))


def test_a_head_that_is_no_plain_layer_is_refused(model: Any):
    """Such as one that an adapter stands around."""
    model.set_output_embeddings(nn.Sequential(model.get_output_embeddings()))
    with pytest.raises(MissingError, match="its head is Sequential"):
        StudentModel(model)


@pytest.mark.parametrize(("n", "kept"), [(2, [0, 6]), (3, [0, 3, 6]), (4, [0, 2, 4, 6]), (7, list(range(7)))])
def test_kept_layers_are_evenly_spaced(n: int, kept: list[int]):
    """GPT-2 of 7 layers; the layers marked by their number, the rest as it was."""
    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=7, n_head=2))
    for i, layer in enumerate(model.transformer.h):
        layer.ln_1.bias.data.fill_(float(i))
    smaller = keep_layers(model, n)
    assert [int(layer.ln_1.bias[0]) for layer in smaller.transformer.h] == kept
    assert smaller.config.num_hidden_layers == n and model.config.num_hidden_layers == 7
    torch.testing.assert_close(smaller.lm_head.weight, model.lm_head.weight)
    assert smaller.lm_head.weight.data_ptr() != model.lm_head.weight.data_ptr()
    if n == 7:
        ids = torch.arange(6)[None]
        torch.testing.assert_close(smaller.eval()(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize("n", [1, 3])
def test_more_layers_than_there_are_is_refused(model: Any, n: int):
    with pytest.raises(ParamsError, match=f"student_layers: expected 2 to 2, .* \\(got {n}\\)"):
        keep_layers(model, n)
