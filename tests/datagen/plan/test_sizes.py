"""Oracles: transformers' own models, counted; and the cache that a model returns."""

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.plan.sizes import size_of, training_bytes
from tests.tiny_model import write_tiny_model

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama_tied": {"tie_word_embeddings": True},
    "llama_biased": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 16},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "smollm3": {},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_are_those_that_transformers_makes(name: str, tmp_path: Path):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    more: dict[str, Any] = {"tie_word_embeddings": False, **CONFIGS[name]}
    config = AutoConfig.for_model(
        name.partition("_")[0], vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, **more,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    size = size_of(str(tmp_path))
    assert size and size.n_weights == model.num_parameters()
    cache = model(torch.zeros(1, 1, dtype=torch.long), use_cache=True).past_key_values
    assert size.cache_values == sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert training_bytes(size) == 16 * size.n_weights  # weight, gradient and two moments, of 4 bytes


def test_fewer_layers(tmp_path: Path):
    folder = str(write_tiny_model(tmp_path))
    (whole, one), config = (size_of(folder), size_of(folder, 1)), json.loads((tmp_path / "config.json").read_text())
    assert whole and one and one.cache_values and whole.cache_values == one.cache_values * config["num_hidden_layers"]


@pytest.mark.parametrize(
    ("name", "n_weights"),
    [
        ("Qwen/Qwen3-32B", 32e9), ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.7e9), ("a/SmolLM2-360M", 360e6),
        ("mistralai/Mistral-Small", None), ("a/mix8-bits", None),
    ],
)  # fmt: skip
def test_a_name_may_say_it(name: str, n_weights: float | None):
    size = size_of(name)
    assert (size.n_weights if size else None) == n_weights
    assert size is None or size.cache_values is None


def test_the_packaged_model_is_what_its_card_says():
    """134,515,008 weights: the sum over the tensors of model.safetensors on the Hub."""
    size = size_of("smollm2-135m-instruct")
    assert size and size.n_weights == 134_515_008
