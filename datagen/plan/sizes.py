"""How large language models are, by their config.json alone: weights, the KV cache of a token, the optimiser's state.

Of Llama's family of architectures the number of weights follows from the config: embeddings and head, of a layer the
four projections of attention, three of the MLP, two norms; biases and norms of queries and keys where the config or the
architecture says so. Of another architecture, or where no config is here, the name may say it (`Qwen3-32B`), in round
numbers. The Hub is not asked.

Source: transformers' modelling files of llama, qwen2, qwen3, mistral and smollm3.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datagen.backends.models import EMBEDDED, find_model
from datagen.contracts.home import home

BYTES = {"float32": 4, "bfloat16": 2}
ADAMW_BYTES = 8  # a weight's two moments, float32
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
_IN_NAME = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)
_PUBLISHED = {EMBEDDED: {  # of HuggingFaceTB/SmolLM2-135M-Instruct's config.json: what the package's GGUF file says too
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a model.

    Attributes:
        n_weights: tied ones once.
        cache_values: numbers that the KV cache holds of a token; None where there is no config.
        source: where this is from.
    """

    n_weights: int
    cache_values: int | None
    source: str


def size_of(name: str, n_layers: int | None = None) -> Size | None:
    """The size of a model by name or folder; None where neither a config nor the name says it.

    With `n_layers` of a model that has so many of its layers; where only the name says the size, of all of them.
    """
    if found := find_config(name):
        config, source = found
        config = dict(config) | ({"num_hidden_layers": n_layers} if n_layers else {})
        if config.get("model_type") in KNOWN:
            return Size(n_weights=_n_weights(config), cache_values=_cache_values(config), source=source)
    said = _IN_NAME.findall(name.rpartition("/")[2])
    if not said:
        return None
    number, unit = said[-1]
    n_weights = round(float(number) * (1e9 if unit.lower() == "b" else 1e6))
    return Size(n_weights=n_weights, cache_values=None, source="its name")


def find_config(name: str) -> tuple[Mapping[str, Any], str] | None:
    """A model's config, and where it is from: a folder, the packaged model, or the Hub's cache on this machine."""
    if name == EMBEDDED:
        return _PUBLISHED[EMBEDDED], "its published config"
    file = Path(name) / "config.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8")), str(file)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and find_spec("huggingface_hub"):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return json.loads(Path(cached).read_text(encoding="utf-8")), "the Hub's cache"
    return None


def is_here(name: str) -> bool:
    """Whether a model lies on this machine; no network is asked."""
    if name == EMBEDDED:
        return find_model(name) is not None or any((home() / "models").glob(f"{EMBEDDED}-*/config.json"))
    return find_config(name) is not None


def training_bytes(size: Size, *, trained_share: float = 1.0) -> int:
    """Weights, gradients and AdamW's moments in float32; activations come besides.

    Args:
        size: of the student.
        trained_share: of its weights.
    """
    return round(size.n_weights * (BYTES["float32"] + trained_share * (BYTES["float32"] + ADAMW_BYTES)))


def _head_size(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _cache_values(config: Mapping[str, Any]) -> int:
    n_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    return 2 * config["num_hidden_layers"] * n_heads * _head_size(config)


def _n_weights(config: Mapping[str, Any]) -> int:
    hidden, head = config["hidden_size"], _head_size(config)
    queries = config["num_attention_heads"] * head
    keys = (config.get("num_key_value_heads") or config["num_attention_heads"]) * head
    attention = hidden * (2 * queries + 2 * keys)
    if config["model_type"] == "qwen2":
        attention += queries + 2 * keys  # biases
    elif config.get("attention_bias"):
        attention += queries + 2 * keys + hidden
    if config["model_type"] == "qwen3":
        attention += 2 * head  # norms of queries and of keys
    mlp = 3 * hidden * config["intermediate_size"]
    if config.get("mlp_bias"):
        mlp += 2 * config["intermediate_size"] + hidden
    layer = attention + mlp + 2 * hidden
    embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return embeddings + config["num_hidden_layers"] * layer + hidden
