"""Drop rows that mean the same as an earlier one: the cosine of their embeddings reaches a threshold.

Abbas et al. 2023, SemDeDup: Data-efficient learning at web-scale through semantic deduplication, arXiv:2303.09540,
section 3. They cluster by k-means, compare within clusters, and keep of each group the row farthest from the centroid.
Here every row is compared with every earlier one that stays, by matrix products of blocks, so no pair is missed; the
earliest stays, and only a row that stays is a reason to drop another.

The threshold belongs to the encoder, and to the rows: a sentence encoder hardly sees that two questions differ in a
number, so look at what goes, by `datastill why`, before you lower it. near_duplicates is for rows that share words.

A text is one vector; of one that is longer than the encoder takes, the direction of the sum of its windows. A row
without a text stays.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from pydantic import Field

from datagen.contracts.cluster import in_chunks, map_chunks
from datagen.contracts.records import Rejection
from datagen.filter import Row
from datagen.filter._texts import TextParams, dropped, text_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

BLOCK = 1024  # texts embedded, and vectors resolved, at once


class Config(TextParams):
    """What means the same.

    Attributes:
        threshold: least cosine of two duplicates.
        embedder: `all-minilm-l6-v2`, or another name that `datagen.backends.embeddings` takes.
    """

    method: Literal["semantic_duplicates"]
    threshold: float = Field(default=0.95, gt=0, lt=1)
    embedder: str = "all-minilm-l6-v2"


def semantic_duplicates(
    config: Config, rows: Iterable[Row | Rejection], against: Path | None
) -> Iterator[Row | Rejection]:
    """Every row, or its rejection `semantic_duplicate`, which names the nearest row that stays and the cosine.

    The rows are read twice. Their vectors are in a temporary file ($TMPDIR), 4 bytes a number; in memory are 8 bytes a
    row and a block of cosines. Time grows with the square of the number of rows.

    Raises:
        MissingError: no such embedder.
        ParamsError: the answer is asked for, and the rows are Prompts.
    """
    import numpy as np

    with tempfile.TemporaryFile(prefix="datastill-filter-") as file:
        width = _embed_all(file, rows, config)
        vectors = np.memmap(file, np.float32, "r+").reshape(-1, width) if width else np.empty((0, 1), np.float32)
        log.info("semantic_duplicates: %d rows embedded by %s", len(vectors), config.embedder)
        of, cosines = find_similar(vectors, config.threshold)
        named = {int(one): "" for one in np.unique(of[of >= 0])}
        number = 0
        for row in rows:
            if isinstance(row, Rejection):
                yield row
                continue
            if number in named:
                named[number] = row.id
            if (kept := int(of[number])) < 0:
                yield row
            else:
                detail = (
                    f"means the same as {named[kept]!r}: cosine {cosines[number]:.3f} by {config.embedder}, "
                    f"threshold {config.threshold:g}"
                )
                yield dropped(row, "semantic_duplicate", detail)
            number += 1


def _embed_all(file: BinaryIO, rows: Iterable[Row | Rejection], config: Config) -> int:
    """Write a vector for each row, rejections left out, and return its length; 0 where there is no row."""
    from datagen.backends.embeddings import embed

    width = 0
    texts = (text_of(row, config.field) for row in rows if not isinstance(row, Rejection))
    for _, vectors in map_chunks(partial(embed, embedder=config.embedder), in_chunks(texts, BLOCK)):
        width = vectors.shape[1]
        file.write(vectors.numpy().tobytes())
    file.flush()
    return width


def find_similar(
    vectors: "NDArray[np.float32]", threshold: float, block: int = BLOCK
) -> tuple["NDArray[np.int32]", "NDArray[np.float32]"]:
    """For each row the nearest earlier one that stays, where their cosine reaches the threshold, else -1; the cosine.

    Args:
        vectors: (R, E), of length one or zero; it is written to, and holds nothing of use afterwards.
        threshold: above 0.
        block: how many are resolved at once; it changes nothing but the speed.
    """
    import numpy as np

    from datagen.backends.neighbours import nearest

    of, cosines = np.full(len(vectors), -1, np.int32), np.zeros(len(vectors), np.float32)
    stays = np.zeros(len(vectors), np.int32)  # the rows whose vectors are the first `n` of `vectors`
    n = 0
    for start in range(0, len(vectors), block):
        mine = np.array(vectors[start : start + block])
        found = nearest(mine, vectors[:n], least=threshold)
        best, best_of = found.similarities, stays[found.rows]
        alike = mine @ mine.T
        later, earlier = np.nonzero(np.tril(alike, -1) >= threshold)
        for i, j in zip(later.tolist(), earlier.tolist(), strict=True):  # i ascends, so all is known of j
            if best[j] < threshold and alike[i, j] > best[i]:
                best[i], best_of[i] = alike[i, j], start + j
        similar = np.flatnonzero(best >= threshold)
        of[start + similar], cosines[start + similar] = best_of[similar], best[similar]
        new = np.flatnonzero(best < threshold)
        stays[n : n + len(new)] = start + new
        vectors[n : n + len(new)] = mine[new]
        n += len(new)
    return of, cosines
