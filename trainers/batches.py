"""Batches of token sequences: padding or packing, completion mask, logits.

Axes: B rows, T tokens. A row is one sequence, or of a packed batch several, each of which sees itself alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from datagen.backends.transformers_models import Example
from datagen.contracts.errors import MissingError
from trainers.loop import Layout
from trainers.packing import packed


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        tokens: (B, T) int64.
        attention_mask: (B, T) int64, 1 on tokens, 0 on padding.
        learned: (B, T) bool, True where the next token is learned.
        position_ids: of a packed batch (B, T) int64, from 0 in each sequence and 0 on padding.
    """

    tokens: Tensor
    attention_mask: Tensor
    learned: Tensor
    position_ids: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        position_ids = None if self.position_ids is None else self.position_ids.to(device)
        return Batch(self.tokens.to(device), self.attention_mask.to(device), self.learned.to(device), position_ids)

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


def arrange(examples: Sequence[Example], layout: Layout) -> tuple[list[Example], Batch]:
    """Examples in the order in which the batch holds them, as its `labels` follow it, and the batch."""
    if layout == "padded":
        return list(examples), collate(examples)
    return pack(examples)


def pack(examples: Sequence[Example]) -> tuple[list[Example], Batch]:
    """Sequences side by side in few rows, at least 95 % of whose slots hold tokens; padding is token 0.

    Returns:
        The examples row after row, and the batch.
    """
    rows = [[examples[i] for i in row] for row in packed([len(example) for example in examples])]
    shape = (len(rows), max(sum(map(len, row)) for row in rows))
    tokens, attention_mask, position_ids = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    learned = torch.zeros(shape, dtype=torch.bool)
    for at, row in enumerate(rows):
        start = 0
        for example in row:
            end = start + len(example)
            tokens[at, start:end] = torch.tensor(example.tokens)
            attention_mask[at, start:end] = 1
            position_ids[at, start:end] = torch.arange(len(example))
            learned[at, start + example.n_prompt_tokens - 1 : end - 1] = True
            start = end
    return [example for row in rows for example in row], Batch(tokens, attention_mask, learned, position_ids)


def model_inputs(batch: Batch) -> dict[str, Any]:
    """What transformers' models take of a batch.

    Of a packed one they get no mask: where positions start anew they let no token see one before, padding neither.
    """
    if batch.position_ids is None:
        return {"input_ids": batch.tokens, "attention_mask": batch.attention_mask, "use_cache": False}
    return {"input_ids": batch.tokens, "position_ids": batch.position_ids, "use_cache": False}


def check_packing(network: nn.Module, vocabulary: int) -> None:
    """Look whether a network keeps packed sequences apart, on two short ones.

    Args:
        network: one of transformers' language models.
        vocabulary: tokens that it knows.

    Raises:
        MissingError: it does not, as one whose state runs on from token to token.
    """
    device = next(network.parameters()).device
    sequences = [Example([(7 * i + 3 * at + 1) % vocabulary for i in range(5 + at)], 1) for at in range(2)]
    together, batch = pack(sequences)
    with torch.no_grad():
        logits = network(**model_inputs(batch.to(device))).logits[batch.attention_mask.bool().to(device)]
        alone = [network(**model_inputs(collate([one]).to(device))).logits[0] for one in together]
    wanted = torch.cat(alone)
    if not (logits - wanted).abs().max() <= 1e-3 * (wanted.abs().max() + 1e-6):
        raise MissingError(f"{type(network).__name__} mixes sequences that stand in one row; set layout=padded")


def completion_logits(network: nn.Module, batch: Batch) -> Tensor:
    """(batch.learned.sum(), V): the logits before each learned token, those of no other position computed.

    The start that all sequences share (a template's system prompt) goes through the network once. Its keys and values
    serve every sequence, and its gradient is the sum over them, as if each had computed it, where `may_share`.
    """
    if batch.position_ids is not None:
        return network(**model_inputs(batch), logits_to_keep=batch.learned).logits
    n_shared = n_shared_tokens(batch) if may_share(network) else 0
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


def may_share(network: Any) -> bool:
    """Whether a start that sequences share may be read once.

    Not with several processes, as sharded networks need as many passes in each; nor by a network of states in place of
    keys and values, as Mamba is.
    """
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several and not getattr(network, "_is_stateful", False)


def n_shared_tokens(batch: Batch) -> int:
    """How many tokens all of several sequences start with, before the first position whose logits are needed."""
    if len(batch.tokens) == 1:
        return 0
    shared = (batch.tokens == batch.tokens[:1]).all(dim=0) & ~batch.learned.any(dim=0)
    return int(shared.long().cumprod(dim=0).sum())
