"""A language model of transformers whose next token depends on the last one alone, by a table of logits.

Embeddings are unit vectors and both blocks of its one layer write nothing, so the state is the token itself, times the
square root of the vocabulary by the norm; the head holds the table.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM


def bigram_model(table: Tensor) -> Any:
    """A model of the logits `table` (V, V), row by last token, in float64; V is even."""
    size = len(table)
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=512, rms_norm_eps=0.0, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.copy_(table.T / size**0.5)
    return model
