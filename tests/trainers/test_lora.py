"""Oracles: the product of the paper by hand, transformers' own loader, gradients without checkpointing."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import MissingError, ParamsError
from trainers.loop import Config as LoopConfig
from trainers.loop import train
from trainers.lora import Config, check_adapter, merge, prepare
from trainers.objectives import SumCount

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10], [20, 21, 22, 23, 24, 25]])


def of(**values: Any) -> Config:
    return Config.model_validate(values)


@pytest.fixture
def model(tiny: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64)


@pytest.fixture
def peft(needs: Callable[..., None]) -> None:
    needs(module="peft", remedy="pip install 'datastill[lora]'")


def next_tokens(network: torch.nn.Module, rows: Any, device: torch.device) -> SumCount:
    logits: Any = network(input_ids=TOKENS, use_cache=False)
    logits = logits.logits[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, TOKENS[:, 1:].flatten(), reduction="sum")
    return SumCount(loss, torch.tensor(TOKENS[:, 1:].numel()))


@pytest.mark.usefixtures("peft")
def test_products_are_trained_alone_and_merged(model: Any, tmp_path: Path):
    """W + alpha / rank B A, of what was trained; all that has none is as it was; transformers loads it as its own."""
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        at_first = model(input_ids=TOKENS).logits
    prepare(model, of(adapter="lora", lora_rank=2, lora_alpha=6.0, lora_modules=("q_proj", "down_proj")), seed=1)
    with torch.no_grad():
        untouched = model(input_ids=TOKENS).logits
        torch.testing.assert_close(untouched, at_first)
    config = LoopConfig.model_validate({"n_threads": 1, "steps": 3, "batch_size": 1, "learning_rate": 0.01})
    records = train(model, [[0]], next_tokens, config, Checkpoints(tmp_path / "checkpoints"))
    assert records[-1]["loss"] < records[0]["loss"]
    products = {
        name.removesuffix(".lora_A.default.weight"): 3.0 * (model.state_dict()[name.replace("lora_A", "lora_B")] @ a)
        for name, a in model.state_dict().items()
        if "lora_A" in name
    }
    assert len(products) == 4 and all(product.abs().max() > 1e-3 for product in products.values())
    with torch.no_grad():
        trained = model(input_ids=TOKENS).logits
    merge(model)
    for name, weight in before.items():
        torch.testing.assert_close(model.state_dict()[name], weight + products.get(name.removesuffix(".weight"), 0))
    model.save_pretrained(tmp_path / "student")
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "student", dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=TOKENS).logits, trained)


@pytest.mark.usefixtures("peft")
def test_the_same_seed_gives_the_same_products_and_no_noise_is_used_up(model: Any):
    torch.manual_seed(5)
    first, second = model, copy.deepcopy(model)
    for one in (first, second):
        prepare(one, of(adapter="lora"), seed=7)
    with_products = {name.split(".")[-4] for name in first.state_dict() if "lora_A" in name}
    assert with_products == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_activation_checkpointing_changes_no_gradient(model: Any, adapter: Any, needs: Callable[..., None]):
    """Oracle: the same network without it; what autograd keeps shrinks."""
    if adapter == "lora":
        needs(module="peft", remedy="pip install 'datastill[lora]'")
    gradients: list[list[torch.Tensor]] = []
    kept_bytes: list[int] = []
    for checkpointing in (False, True):
        network = copy.deepcopy(model).train()
        prepare(network, of(adapter=adapter, activation_checkpointing=checkpointing), seed=3)
        kept = [0]

        def pack(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept[0] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = next_tokens(network, [], torch.device("cpu")).sum
        loss.backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
        kept_bytes.append(kept[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)
    assert kept_bytes[1] < kept_bytes[0] / 2


def test_what_is_missing_is_named(model: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)  # as if it were not installed
    with pytest.raises(MissingError, match=r"adapter lora needs the package peft: `pip install 'datastill\[lora\]'`"):
        check_adapter(of(adapter="lora"))
    check_adapter(of())


@pytest.mark.usefixtures("peft")
def test_parts_that_a_model_has_not_are_named(model: Any):
    with pytest.raises(ParamsError, match="lora_modules: LlamaForCausalLM has no query"):
        prepare(model, of(adapter="lora", lora_modules=("query",)), seed=0)


def test_options_of_lora_without_lora_are_refused():
    with pytest.raises(ValueError, match="lora_rank is of adapter=lora alone; set it too, or leave lora_rank out"):
        of(lora_rank=4)
