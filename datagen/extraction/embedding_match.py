"""Texts that mean the same: the nearest row of another set by the cosine of their embeddings, exactly.

Extracting alignment data in open models. 2025. arXiv:2510.18554: question and answer are embedded as one text, and of
each the nearest row of the training set is looked for by matrix products. Their match is a cosine of at least 0.95, by
an embedder of their own; a threshold belongs to its embedder, see datagen/extraction/calibration.py.

A text longer than the embedder's window is read in windows that overlap, and its vector is the direction of their sum.

Vectors are kept, so that a second run embeds nothing, and a killed one goes on where it was:
    HOME/embeddings/KEY/HASH.npy    of up to 1,024 texts, of which HASH is made
KEY is a hash of the embedder's name, its revision and the length of its vectors: another revision has another folder,
so that vectors of two are never compared.

Axes: R texts, N others, E vector.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.backends.embeddings import EMBEDDED, embed, find_revision, resolve_encoder
from datagen.backends.neighbours import Neighbours, nearest, nearest_both
from datagen.contracts.errors import DataError
from datagen.contracts.home import home

BLOCK = 1024  # texts embedded, and kept in a file, at once

log = logging.getLogger(__name__)


def nearest_by_embedding(
    texts: Sequence[str], others: Sequence[str], *, embedder: str = EMBEDDED
) -> tuple[Neighbours, Neighbours]:
    """Of each of `texts` the cosine with the nearest of `others`, and of each of `others` with the nearest of `texts`.

    Cosines are in [-1, 1]; of equal ones the first text is named.

    Raises:
        MissingError: no such embedder.
        DataError: it gives a vector that is not finite.
    """
    found = nearest_both(vectors_of(texts, embedder), vectors_of(others, embedder))
    return _bounded(found[0]), _bounded(found[1])


def nearest_cosines(texts: Sequence[str], others: Sequence[str], *, embedder: str = EMBEDDED) -> NDArray[np.float32]:
    """(R,) of each of `texts` the cosine with the nearest of `others`; -inf where there is none."""
    return _bounded(nearest(vectors_of(texts, embedder), vectors_of(others, embedder))).similarities


def pair_cosines(texts: Sequence[str], others: Sequence[str], *, embedder: str = EMBEDDED) -> NDArray[np.float32]:
    """(R,) of each text the cosine with the one at its place in `others`."""
    products = (vectors_of(texts, embedder) * vectors_of(others, embedder)).sum(axis=1)
    return np.clip(products, -1, 1)


def vectors_of(texts: Sequence[str], embedder: str = EMBEDDED) -> NDArray[np.float32]:
    """(R, E) of length one, embedded now or kept; equal texts have equal vectors, an empty one has zeros.

    Raises:
        MissingError: no such embedder.
        DataError: it gives a vector that is not finite, or a kept file is not of its dimension.
    """
    width = _dimension(embedder)
    facts = {"embedder": embedder, "revision": find_revision(embedder), "dimension": width}
    folder = home() / "embeddings" / _hash(json.dumps(facts, sort_keys=True))
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    blocks = [list(place)[i : i + BLOCK] for i in range(0, len(place), BLOCK)]
    vectors = np.empty((len(place), width), np.float32)
    n_embedded = 0
    for i, block in enumerate(blocks):
        file = folder / f"{_hash(*block)}.npy"
        if not file.exists():
            _keep(file, _finite(embed(block, embedder).numpy(), block, embedder))
            n_embedded += len(block)
        kept = np.load(file, allow_pickle=False)
        if kept.shape != (len(block), width):
            raise DataError(
                f"{file}: holds vectors of shape {kept.shape}, {embedder} gives {(len(block), width)}; remove the file"
            )
        vectors[i * BLOCK : i * BLOCK + len(block)] = kept
    log.info("%s: %d texts embedded, %d kept from before", embedder, n_embedded, len(place) - n_embedded)
    return vectors[[place[text] for text in texts]]


def _dimension(embedder: str) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(resolve_encoder(embedder).folder).hidden_size)


def _finite(vectors: NDArray[np.float32], texts: Sequence[str], embedder: str) -> NDArray[np.float32]:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(
            f"embedder {embedder!r}: {len(bad)} of {len(vectors)} vectors hold a number that is not finite, first that "
            f"of the text {texts[bad[0]][:80]!r}; name another embedder"
        )
    return vectors


def _keep(file: Path, vectors: NDArray[np.float32]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    writing = file.with_name(f".{file.stem}.{os.getpid()}.npy")
    np.save(writing, vectors)
    os.replace(writing, file)


def _bounded(found: Neighbours) -> Neighbours:
    """Of equal vectors the product is 1 but for the seventh digit."""
    similarities = np.where(np.isneginf(found.similarities), found.similarities, np.clip(found.similarities, -1, 1))
    return Neighbours(similarities, found.rows)


def _hash(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()[:32]
