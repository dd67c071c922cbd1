"""Texts for an encoder: tokens of a context and an utterance, batches, logits.

The utterance is the second segment and what a reader must know to judge it the first: context, then who speaks, as
Emo Pillars' students take them (arXiv:2504.16856). A text without context is one segment.

Axes: B rows, T tokens, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datagen.backends.sequence_classifiers import segments
from datagen.contracts.records import Example
from trainers.loop import micro_batches

_BLOCK = 1024  # rows that the tokenizer reads at once


@dataclass(frozen=True, slots=True)
class TextPair:
    """An encoded row; its length is its cost.

    Attributes:
        tokens: of both segments, with the special tokens.
        token_types: which segment each is of; None where the model has no use for them.
        targets: how much each class holds, in [0, 1]; empty where nobody asks.
        is_cut: whether the context's end was left out.
    """

    tokens: list[int]
    token_types: list[int] | None
    targets: list[float]
    is_cut: bool = False

    def __len__(self) -> int:
        """Tokens, special ones included."""
        return len(self.tokens)


def encode(
    rows: Sequence[Example], targets: Sequence[list[float]], tokenizer: Any, max_tokens: int
) -> list[TextPair | int]:
    """Each row encoded in at most `max_tokens`; where its text alone needs more, the number that it needs.

    The context's end is cut, never the text.
    """
    encoded: list[TextPair | int] = []
    for start in range(0, len(rows), _BLOCK):
        block, held = rows[start : start + _BLOCK], targets[start : start + _BLOCK]
        read = _tokenize([segments(row) for row in block], tokenizer)
        for row, holds, (tokens, types) in zip(block, held, read, strict=True):
            if len(tokens) <= max_tokens:
                encoded.append(TextPair(tokens, types, holds))
                continue
            first, second = segments(row)
            n_needed = len(tokens)
            if second is not None:
                n_needed = len(tokenizer(second, add_special_tokens=False, verbose=False)["input_ids"]) + 1
                n_needed += tokenizer.num_special_tokens_to_add(pair=True)  # and 1 of the context
            if n_needed > max_tokens:
                encoded.append(n_needed)
                continue
            cut = tokenizer(first, second, truncation="only_first", max_length=max_tokens)
            encoded.append(TextPair(cut["input_ids"], cut.get("token_type_ids"), holds, is_cut=True))
    return encoded


def _tokenize(pairs: Sequence[tuple[str, str | None]], tokenizer: Any) -> list[tuple[list[int], list[int] | None]]:
    """Tokens and token types of each pair."""
    read: list[tuple[list[int], list[int] | None]] = [([], None)] * len(pairs)
    for has_context in (True, False):
        chosen = [i for i, (_, second) in enumerate(pairs) if (second is not None) == has_context]
        if not chosen:
            continue
        texts = [[pairs[i][0] for i in chosen]]
        if has_context:
            texts.append([pairs[i][1] or "" for i in chosen])
        found = tokenizer(*texts, verbose=False)
        types = found.get("token_type_ids") or [None] * len(chosen)
        for i, tokens, of_tokens in zip(chosen, found["input_ids"], types, strict=True):
            read[i] = (tokens, of_tokens)
    return read


def collate(rows: Sequence[TextPair], pad_token: int, device: torch.device) -> dict[str, Tensor]:
    """What the network takes: (B, T) int64 each, padded on the right to the longest."""
    shape = (len(rows), max(map(len, rows)))
    batch = {"input_ids": torch.full(shape, pad_token), "attention_mask": torch.zeros(shape, dtype=torch.int64)}
    if rows[0].token_types is not None:
        batch["token_type_ids"] = torch.zeros(shape, dtype=torch.int64)
    for at, row in enumerate(rows):
        batch["input_ids"][at, : len(row)] = torch.tensor(row.tokens)
        batch["attention_mask"][at, : len(row)] = 1
        if row.token_types is not None:
            batch["token_type_ids"][at, : len(row)] = torch.tensor(row.token_types)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def stack_targets(rows: Sequence[TextPair], device: torch.device) -> Tensor:
    """(B, C) float32."""
    return torch.tensor([row.targets for row in rows], dtype=torch.float32, device=device)


@torch.inference_mode()
def probabilities(network: nn.Module, rows: Sequence[TextPair], pad_token: int, max_tokens: int) -> Tensor:
    """(len(rows), C) float32 on the CPU: the sigmoid of each class's logit, in evaluation mode, without autocast.

    `max_tokens` bounds how many go through the network at once, padding included.
    """
    device = next(network.parameters()).device
    network.eval()
    found: list[Tensor] = []
    order: list[int] = []
    numbered = [_Numbered(i, row) for i, row in enumerate(rows)]
    (batches,) = micro_batches(numbered, max_tokens, 1)
    for batch in batches:
        order += [one.at for one in batch]
        logits: Tensor = network(**collate([one.row for one in batch], pad_token, device)).logits
        found.append(logits.float().sigmoid().cpu())
    result = torch.cat(found)
    result[order] = result.clone()
    return result


@dataclass(frozen=True, slots=True)
class _Numbered:
    at: int
    row: TextPair

    def __len__(self) -> int:
        return len(self.row)
