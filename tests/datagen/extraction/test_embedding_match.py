"""Nearest texts by embedding; oracles: every pair's cosine in float64, numbers put into a kept file by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from datagen.backends import embeddings
from datagen.contracts.errors import DataError
from datagen.extraction import embedding_match
from datagen.extraction.embedding_match import nearest_by_embedding, nearest_cosines, pair_cosines, vectors_of

WORDS = ["sea", "wind", "north", "sailor", "ship", "sun", "traveller", "cloak"]
TEXTS = ["sea wind", "north wind sun", "sailor ship sea", "cloak", "", "traveller cloak sun", "sea wind"]
OTHERS = ["wind sea", "ship", "sun sun", "sea wind"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    embeddings._encoder.cache_clear()


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., str]:
    """Writes a small random encoder of a width; returns its folder."""

    def write(width: int = 16, spoil: float | None = None) -> str:
        folder = tmp_path / "encoder"
        (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
        vocabulary = folder / "vocab.txt"
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "-", *WORDS]))
        BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
        torch.manual_seed(0)
        shape: Any = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        network = BertModel(BertConfig(vocab_size=14, max_position_embeddings=48, initializer_range=1.0, **shape))
        if spoil is not None:
            network.embeddings.word_embeddings.weight.data[6 + WORDS.index("cloak")] = spoil
        network.save_pretrained(folder)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
        return str(folder)

    return write


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home" / "embeddings").rglob("*.npy"))


def test_neighbours_both_ways_are_those_of_every_pair(tiny: Callable[..., str]):
    """An equal text has a cosine of 1, an empty one of 0 with all; of equal texts the first is named."""
    embedder = tiny()
    one, other = (vectors_of(texts, embedder).astype(np.float64) for texts in (TEXTS, OTHERS))
    cosines = one @ other.T
    of_texts, of_others = nearest_by_embedding(TEXTS, OTHERS, embedder=embedder)
    np.testing.assert_allclose(of_texts.similarities, cosines.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(of_others.similarities, cosines.max(axis=0), atol=1e-6)
    assert of_texts.rows[[0, 6]].tolist() == [3, 3] and of_others.rows[3] == 0
    assert of_texts.similarities[0] == pytest.approx(1, abs=1e-6) and of_texts.similarities[4] == 0
    assert of_texts.similarities.max() <= 1
    assert np.array_equal(nearest_cosines(TEXTS, OTHERS, embedder=embedder), of_texts.similarities)
    np.testing.assert_allclose(pair_cosines(OTHERS, TEXTS[:4], embedder=embedder), np.diag(cosines[:4].T), atol=1e-6)


def test_vectors_are_kept_by_what_they_are_of(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Numbers put into a kept file come back, so nothing is embedded again; new texts get a file of their own."""
    monkeypatch.setattr(embedding_match, "BLOCK", 4)
    embedder = tiny()
    vectors_of(TEXTS, embedder)
    files = kept(tmp_path)
    assert len(files) == 2  # of six different texts
    for file in files:
        np.save(file, np.full_like(np.load(file), 0.25))
    assert (vectors_of(TEXTS, embedder) == 0.25).all()
    assert vectors_of([*TEXTS, "ship north"], embedder)[:4].tolist() == [[0.25] * 16] * 4
    np.save(files[0], np.zeros((2, 16), np.float32))
    with pytest.raises(DataError, match=r"\.npy: holds vectors of shape \(2, 16\), .* gives \(\d, 16\); remove"):
        vectors_of(TEXTS, embedder)


def test_another_dimension_is_another_embedder(tiny: Callable[..., str], tmp_path: Path):
    """Of a folder that changed between two runs, nothing of the first is used in the second."""
    embedder = tiny(16)
    assert vectors_of(TEXTS, embedder).shape == (7, 16)
    embeddings._encoder.cache_clear()
    tiny(24)
    assert vectors_of(TEXTS, embedder).shape == (7, 24)
    assert len({file.parent for file in kept(tmp_path)}) == 2
    found, _ = nearest_by_embedding(TEXTS, OTHERS, embedder=embedder)
    assert found.similarities[0] == pytest.approx(1, abs=1e-6)


def test_a_vector_that_is_not_finite_is_refused_and_not_kept(tiny: Callable[..., str], tmp_path: Path):
    with pytest.raises(DataError, match=r"2 of 6 vectors hold a number that is not finite, first that of .*'cloak'"):
        vectors_of(TEXTS, tiny(spoil=float("nan")))
    assert not kept(tmp_path)


def test_a_text_beyond_the_window_counts_with_all_its_windows(tiny: Callable[..., str]):
    """Of 100 words, 46 fit a window of 48 tokens; the last word alone changes the vector."""
    embedder = tiny()
    one, other = vectors_of(["sea " * 99 + "sea", "sea " * 99 + "sun"], embedder)
    assert float(one @ other) < 0.9999 and np.linalg.norm(other) == pytest.approx(1, abs=1e-6)
