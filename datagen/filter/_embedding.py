"""Texts as vectors of length one: an encoder a process, so that any process can embed a chunk of texts.

Axes: R texts, W windows of texts, E vector.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from datagen.backends.embeddings import Encoder

_encoder = lru_cache(maxsize=1)(Encoder)


def embed_windows(texts: Sequence[str], embedder: str) -> tuple[Tensor, Tensor]:
    """(W, E) float32, a vector for each window of the texts in order, and (W,) the text of each.

    Raises:
        MissingError: no such embedder.
    """
    return _encoder(embedder).encode(texts)


def embed(texts: Sequence[str], embedder: str) -> Tensor:
    """(R, E) float32: of a text in several windows the direction of their sum; of an empty text zeros.

    Raises:
        MissingError: no such embedder.
    """
    not_empty = [i for i, text in enumerate(texts) if text.strip()]
    vectors, of_text = embed_windows([texts[i] for i in not_empty] or ["-"], embedder)  # "-" says how long vectors are
    summed = torch.zeros(len(texts), vectors.shape[1])
    if not_empty:
        summed.index_add_(0, torch.tensor(not_empty)[of_text], vectors)
    return torch.nn.functional.normalize(summed, dim=1)
