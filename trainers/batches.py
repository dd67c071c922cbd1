"""Batches of token sequences: padding, completion mask, logits.

Axes: B sequences, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from datagen.backends.transformers_models import Example


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        tokens: (B, T) int64.
        attention_mask: (B, T) int64, 1 on tokens, 0 on padding.
        learned: (B, T) bool, True where the next token is learned.
    """

    tokens: Tensor
    attention_mask: Tensor
    learned: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        return Batch(self.tokens.to(device), self.attention_mask.to(device), self.learned.to(device))

    @property
    def labels(self) -> Tensor:
        """(learned.sum(),) int64: the learned tokens, sequence after sequence."""
        return self.tokens[:, 1:][self.learned[:, :-1]]


def collate(examples: Sequence[Example]) -> Batch:
    """Pad on the right to the longest; padding is token 0 and never attended to."""
    shape = (len(examples), max(map(len, examples)))
    tokens = torch.zeros(shape, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    learned = torch.zeros(shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example)] = torch.tensor(example.tokens)
        attention_mask[row, : len(example)] = 1
        learned[row, example.n_prompt_tokens - 1 : len(example) - 1] = True
    return Batch(tokens, attention_mask, learned)


def completion_logits(network: nn.Module, batch: Batch) -> Tensor:
    """(batch.learned.sum(), V): the logits before each learned token, those of no other position computed.

    The start that all sequences share (a template's system prompt) goes through the network once. Its keys and values
    serve every sequence, and its gradient is the sum over them, as if each had computed it. Several processes go
    without: sharded networks need as many passes in each.
    """
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    n_shared = 0 if several else n_shared_tokens(batch)
    cache = None
    if n_shared:
        cache = DynamicCache()
        network(input_ids=batch.tokens[:1, :n_shared], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(batch.tokens))
    output = network(
        input_ids=batch.tokens[:, n_shared:],
        attention_mask=batch.attention_mask,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=batch.learned[:, n_shared:],
    )
    return output.logits


def n_shared_tokens(batch: Batch) -> int:
    """How many tokens all of several sequences start with, before the first position whose logits are needed."""
    if len(batch.tokens) == 1:
        return 0
    shared = (batch.tokens == batch.tokens[:1]).all(dim=0) & ~batch.learned.any(dim=0)
    return int(shared.long().cumprod(dim=0).sum())
