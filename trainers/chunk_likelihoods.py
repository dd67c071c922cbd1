"""Log-probs of chunks of a text, which two tokenizers cut alike; the teacher's as a signal, the student's to match.

A chunk's log-prob is the sum of its tokens'. Where it ends with a word, "and here a word ends" belongs to it: the
log-prob that the next token starts with white space or is special. A chunk behind such an end starts from there, so
that log-prob is taken off. Then two models of one distribution of texts give equal log-probs whatever their tokenizers,
while without it a tokenizer that cuts a longer word elsewhere gives less. The paper's code (arXiv:2503.20083) adds the
former and keeps the latter.

Axes: N learned tokens, C chunks, V vocabulary, H width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainers.tokenizer_bias import Span

ROWS_AT_ONCE = 256  # of logits


@dataclass(frozen=True, slots=True)
class ChunkSignal:
    """A teacher's likelihoods of chunks of a student's tokens.

    Attributes:
        tokens: (N,) int64: the student's learned tokens, sequence after sequence as in `Batch.labels`.
        chunk: (N,) int64: the chunk that a token belongs to, from 0; -1 for none.
        log_probs: (C,) the teacher's.
        starts: (C,) int64: the row of N before whose token a word ended, if the chunk starts from there; -1 if not.
        ends: (C,) int64: the row of N before whose token the chunk's word ends, if it ends with one; -1 if not.
        starting_words: (K,) int64: the student's tokens that start with white space or are special.
    """

    tokens: Tensor
    chunk: Tensor
    log_probs: Tensor
    starts: Tensor
    ends: Tensor
    starting_words: Tensor

    def to(self, device: torch.device) -> "ChunkSignal":
        """The signal on `device`."""
        return ChunkSignal(*(getattr(self, name).to(device) for name in self.__slots__))

    def under(self, mask: Tensor) -> "ChunkSignal":
        """The chunks of which every row is under `mask`, (N,) bool."""
        kept = torch.ones_like(self.log_probs, dtype=torch.bool)
        kept[self.chunk[~mask & (self.chunk >= 0)]] = False
        for rows in (self.starts, self.ends):
            kept &= (rows < 0) | mask[rows.clamp(min=0)] if len(mask) else rows < 0
        if bool(kept.all()):
            return self
        renamed = torch.where(kept, kept.cumsum(0) - 1, -1)
        chunk = torch.where(self.chunk >= 0, renamed[self.chunk.clamp(min=0)], -1) if len(kept) else self.chunk
        return replace(
            self, chunk=chunk, log_probs=self.log_probs[kept], starts=self.starts[kept], ends=self.ends[kept]
        )


def chunk_signal(
    texts: Sequence[tuple[Sequence[int], Sequence[Span]]], log_probs: Tensor | None, starting_words: Sequence[int]
) -> ChunkSignal:
    """The signal of some texts.

    Args:
        texts: learned tokens of each, and which of them make its chunks.
        log_probs: (C,) of all chunks in order; zeros if None.
        starting_words: the tokens that start with white space or are special.
    """
    chunk = torch.full((sum(len(tokens) for tokens, _ in texts),), -1)
    starts, ends, row = list[int](), list[int](), 0
    for tokens, spans in texts:
        for span in spans:
            chunk[row + span.start : row + span.stop] = len(starts)
            starts.append(row + span.start if span.starts_from_word else -1)
            ends.append(row + span.stop if span.ends_word else -1)
        row += len(tokens)
    return ChunkSignal(
        tokens=torch.tensor([token for tokens, _ in texts for token in tokens], dtype=torch.int64),
        chunk=chunk,
        log_probs=torch.zeros(len(starts)) if log_probs is None else log_probs,
        starts=torch.tensor(starts, dtype=torch.int64),
        ends=torch.tensor(ends, dtype=torch.int64),
        starting_words=torch.tensor(starting_words, dtype=torch.int64),
    )


def chunk_log_probs(tokens: Tensor, words: Tensor, signal: ChunkSignal) -> Tensor:
    """(C,) log-probs of the signal's chunks.

    Args:
        tokens: (N,) log-probs of the learned tokens.
        words: (N,) log-probs that some token that starts a word stands in their place.
        signal: which of them make a chunk.
    """
    inside = signal.chunk >= 0
    sums = tokens.new_zeros(len(signal.log_probs)).index_add(0, signal.chunk[inside], tokens[inside])
    return sums + _at(words, signal.ends) - _at(words, signal.starts)


def _at(values: Tensor, rows: Tensor) -> Tensor:
    """Values of rows, 0 for row -1."""
    found = rows >= 0
    return values.new_zeros(len(rows)).masked_scatter(found, values[rows[found]])


def log_probs_of_hidden(
    hidden: Tensor, weight: Tensor, tokens: Tensor, starting_words: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probs of tokens, and of any token that starts a word in their place; logits of 256 rows at a time exist.

    They are computed again where the gradient needs them.

    Args:
        hidden: (N, H) states before the tokens.
        weight: (V, H) of the head.
        tokens: (N,) int64.
        starting_words: (K,) int64.
        bias: (V,) of the head.

    Returns:
        (N,) and (N,), float32 for half precision.
    """

    def some(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
        logits = functional.linear(hidden, weight, bias)
        logits = logits.float() if logits.element_size() < 4 else logits
        total = logits.logsumexp(dim=-1)
        chosen = logits.gather(-1, tokens[:, None]).squeeze(-1)
        return torch.stack([chosen - total, logits[:, starting_words].logsumexp(dim=-1) - total])

    parts = [
        checkpoint(some, hidden[i : i + ROWS_AT_ONCE], weight, tokens[i : i + ROWS_AT_ONCE], use_reentrant=False)
        if torch.is_grad_enabled()
        else some(hidden[i : i + ROWS_AT_ONCE], weight, tokens[i : i + ROWS_AT_ONCE])
        for i in range(0, max(len(tokens), 1), ROWS_AT_ONCE)
    ]
    both = torch.cat([part for part in parts if part is not None], dim=1)
    return both[0], both[1]
