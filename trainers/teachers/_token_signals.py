"""The signals of traces, read from a dataset of TokenSignals and checked against the tokens that a student learns.

Axes: N learned tokens, sequence after sequence as in `Batch.labels`; E entries a token, padded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.backends.transformers_models import Example, tokenizer_hash
from datagen.contracts.errors import DataError
from datagen.contracts.signal_columns import Floats, Ints, SignalRow, hash_tokens
from datagen.contracts.tensors import TokenSignals
from trainers.signals import SparseLogProbs


class StoredSignals:
    """Gives signals of the examples that `encode` made of traces."""

    def __init__(self, path: Path, tokenizer: Any) -> None:
        """Open a dataset of TokenSignals.

        Raises:
            DataError: no such dataset, or of another tokenizer than the student's.
        """
        self._signals = TokenSignals(path, tokenizer_hash(tokenizer))
        self.manifest = self._signals.manifest

    def __contains__(self, id: object) -> bool:
        """Whether a trace has a signal."""
        return id in self._signals

    def example(self, id: str) -> Example:
        """The tokens of an imported row, which no trace holds.

        Raises:
            DataError: there is no such row, or its prompt is its trace's.
        """
        row = self._signals[id]
        if row.prompt_tokens is None:
            raise DataError(f"{self._signals.path}: the prompt of {id!r} is in its trace; encode that")
        return Example([*row.prompt_tokens, *row.tokens.tolist()], row.n_prompt_tokens)

    def signal(self, ids: Sequence[str], examples: Sequence[Example]) -> SparseLogProbs:
        """The signals of a batch: the traces' ids, and the examples made of them.

        Raises:
            DataError: a trace has no signal, or one for other tokens than the example's.
        """
        rows = [self._checked(id, example) for id, example in zip(ids, examples, strict=True)]
        entries = [_entries(row) for row in rows]
        width = max((tokens.shape[1] for tokens, _ in entries), default=0)
        n_tokens = sum(len(row.tokens) for row in rows)
        tokens = np.zeros((n_tokens, width), np.int64)
        log_weights = np.full((n_tokens, width), -np.inf)
        start = 0
        for found, weights in entries:
            tokens[start : start + len(found), : found.shape[1]] = found
            log_weights[start : start + len(found), : found.shape[1]] = weights
            start += len(found)
        tails = [row.signal.log_tail if not row.signal.n_draws else np.full(len(row.tokens), -np.inf) for row in rows]
        return SparseLogProbs(
            torch.from_numpy(tokens),
            torch.from_numpy(log_weights),
            torch.from_numpy(np.concatenate(tails)),
            draws=self._signals.layout.n_draws > 0,
            vocabulary=self._signals.layout.vocabulary,
        )

    def obstacle(self, id: str, example: Example) -> tuple[str, str] | None:
        """Why a trace has no signal that its student could use, as (reason, detail)."""
        if id not in self._signals:
            return "no_signal", f"{self._signals.path} holds none of this trace; its rejections.parquet may say why"
        try:
            self._checked(id, example)
        except DataError as error:
            return "other_tokens", str(error)
        return None

    def _checked(self, id: str, example: Example) -> SignalRow:
        row = self._signals[id]
        n_prompt = example.n_prompt_tokens
        if row.n_prompt_tokens != n_prompt or row.prompt_hash != hash_tokens(example.tokens[:n_prompt]):
            raise DataError(f"{self._signals.path}: trace {id!r} was scored behind another prompt; write signals again")
        if row.tokens.tolist() != example.tokens[n_prompt:]:
            raise DataError(f"{self._signals.path}: trace {id!r} was scored with another answer; write signals again")
        return row


def _entries(row: SignalRow) -> tuple[Ints, Floats]:
    """(T, E) ids and log weights of one row: the exact entries, then the drawn ones, then padding."""
    signal = row.signal
    k, n_positions = signal.ids.shape[1], len(signal)
    ids = np.zeros((n_positions, k + int(signal.n_drawn.max(initial=0))), np.int64)
    log_weights = np.full(ids.shape, -np.inf)
    ids[:, :k], log_weights[:, :k] = signal.ids, signal.log_probs
    places = np.arange(len(signal.drawn_ids)) - np.repeat(np.cumsum(signal.n_drawn) - signal.n_drawn, signal.n_drawn)
    positions = np.repeat(np.arange(n_positions), signal.n_drawn)
    ids[positions, k + places] = signal.drawn_ids
    log_weights[positions, k + places] = signal.drawn_log_weights
    return ids, log_weights
