"""Scoring: the distributions that a transformers model gives at the tokens of finished sequences (teacher forcing).

Sequences are padded on the right and read in segments through the cache, so that logits of a bounded number of
positions are in memory at once, whatever a sequence's length. No mask is needed: what is read causally never sees the
padding behind it.

Axes: B sequences, T tokens, N positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from datagen.backends.transformers_models import Example

LOGITS_BYTES = 2**27
DISTRIBUTIONS_BYTES = 2**25  # whoever takes them copies them a few times


@torch.inference_mode()
def completion_log_probs(
    network: Any,
    examples: Sequence[Example],
    *,
    logits_bytes: int = LOGITS_BYTES,
    distributions_bytes: int = DISTRIBUTIONS_BYTES,
) -> Iterator[tuple[int, int, Tensor]]:
    """The network's distributions before each completion token.

    Args:
        network: a causal transformers model whose forward takes `logits_to_keep`.
        examples: at least one prompt token and one completion token each.
        logits_bytes: of one segment, in float32; a segment is one token of each example at least.
        distributions_bytes: of what is yielded at once, in float64; one position at least.

    Yields:
        Which example, the first completion token whose distribution it is, and (N, V) log-probs, float64; an example's
        pieces come in order and cover its completion.
    """
    n_tokens = max(map(len, examples)) - 1  # after the last token nothing is asked
    ids = torch.zeros(len(examples), n_tokens, dtype=torch.int64)
    asked = torch.zeros(len(examples), n_tokens, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example) - 1] = torch.tensor(example.tokens[:-1])
        asked[row, example.n_prompt_tokens - 1 : len(example) - 1] = True
    vocabulary = network.get_output_embeddings().weight.shape[0]
    step = max(1, logits_bytes // (4 * vocabulary * len(examples)))
    piece = max(1, distributions_bytes // (8 * vocabulary))
    ids, device_asked = ids.to(network.device), asked.to(network.device)
    cache = DynamicCache(config=network.config)
    for start in range(0, n_tokens, step):
        segment = slice(start, start + step)
        logits = network(
            input_ids=ids[:, segment],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=device_asked[:, segment],
        ).logits
        first = 0
        for row, example in enumerate(examples):
            n_positions = int(asked[row, segment].sum())
            before = int(asked[row, :start].sum())
            for offset in range(0, n_positions, piece):
                part = logits[first + offset : first + min(offset + piece, n_positions)]
                yield row, before + offset, part.double().log_softmax(dim=-1)
            first += n_positions
            assert before + n_positions <= example.n_completion_tokens
