"""What a teacher gives to every token of a trace, in memory and as the columns that `tensors` keeps on disk.

Axes: T positions, one a completion token; K exact entries a position; D drawn entries of all positions, flat.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Packed = NDArray[Any]
"""An array of a column's own type on disk."""

STEP = 2.0**-10  # nats between two codes of a log-prob: half of it, 4.9e-4, is the largest error
RATIO_STEP = 2.0**-11  # nats between two codes of a ratio, from -16 to 16: a weight may be above 1, so finer
NO_MASS = 2**16 - 1  # the code of log 0; log-probs below -64 nats are stored as -64


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What every position of a dataset holds: `k` exact entries and `n_draws` draws.

    `tempered` says that a proposal other than the teacher's distribution was drawn from, so each draw has its ratio.
    """

    vocabulary: int
    k: int = 0
    n_draws: int = 0
    tempered: bool = False

    @property
    def columns(self) -> dict[str, str]:
        """Column to type on disk, little-endian."""
        token = "uint16" if self.vocabulary <= 2**16 else "uint32"
        found = {"tokens": token}
        if self.k:
            found |= {"ids": token, "log_probs": "uint16", "log_tail": "uint16"}
        if self.n_draws:
            found |= {"n_drawn": "uint16", "drawn_ids": token, "drawn_counts": "uint16"}
        return found | ({"drawn_log_ratios": "int16"} if self.tempered else {})

    @property
    def max_bytes_a_token(self) -> int:
        """Bytes that a position can take: every draw another id, and nothing but an id's highest byte deflated."""
        token = 2 if self.vocabulary <= 2**16 else 3
        exact = self.k * (token + 2) + 2 if self.k else 0
        count = 1 if self.n_draws <= 2**8 else 2
        drawn = count + self.n_draws * (token + count + 2 * self.tempered) if self.n_draws else 0
        return token + exact + drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A teacher's distributions at the positions of one trace. Log-probs are natural and of temperature 1.

    Attributes:
        ids: (T, K) the likeliest tokens, likeliest first.
        log_probs: (T, K) theirs.
        log_tail: (T,) log mass of all other tokens; 0 where K is 0.
        n_draws: how many tokens were drawn from that tail at each position, with replacement.
        n_drawn: (T,) how many of them differ.
        drawn_ids: (D,) those, ascending at each position.
        drawn_counts: (D,) how often each was drawn.
        drawn_log_ratios: (D,) log of teacher over proposal; 0 where the teacher's own distribution was drawn from.
    """

    ids: Ints
    log_probs: Floats
    log_tail: Floats
    n_draws: int
    n_drawn: Ints
    drawn_ids: Ints
    drawn_counts: Ints
    drawn_log_ratios: Floats

    def __len__(self) -> int:
        """Number of positions."""
        return len(self.log_tail)

    @property
    def drawn_log_weights(self) -> Floats:
        """(D,) log of tail mass * count / n_draws * ratio: unbiased for the drawn token's probability."""
        shares = np.log(self.drawn_counts / max(self.n_draws, 1))
        return np.repeat(self.log_tail, self.n_drawn) + shares + self.drawn_log_ratios

    def __getitem__(self, positions: slice) -> "Signal":
        """Some of the positions."""
        ends = np.concatenate([[0], np.cumsum(self.n_drawn)])
        start, stop, _ = positions.indices(len(self))
        drawn = slice(int(ends[start]), int(ends[stop]))
        return Signal(
            ids=self.ids[positions],
            log_probs=self.log_probs[positions],
            log_tail=self.log_tail[positions],
            n_draws=self.n_draws,
            n_drawn=self.n_drawn[positions],
            drawn_ids=self.drawn_ids[drawn],
            drawn_counts=self.drawn_counts[drawn],
            drawn_log_ratios=self.drawn_log_ratios[drawn],
        )


def join(signals: Sequence[Signal]) -> Signal:
    """The positions of several signals of one layout, one after another."""
    arrays = ("ids", "log_probs", "log_tail", "n_drawn", "drawn_ids", "drawn_counts", "drawn_log_ratios")
    joined = {name: np.concatenate([getattr(signal, name) for signal in signals]) for name in arrays}
    return Signal(n_draws=signals[0].n_draws, **joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """A trace's tokens and its teacher's signal at each of those that are learned.

    Attributes:
        id: of the trace.
        n_prompt_tokens: tokens before the first position.
        prompt_hash: `hash_tokens` of them.
        tokens: (T,) the completion's.
        signal: T positions.
        prompt_tokens: the prompt itself, where no dataset of traces holds it.
    """

    id: str
    n_prompt_tokens: int
    prompt_hash: int
    tokens: Ints
    signal: Signal
    prompt_tokens: list[int] | None = None


def hash_tokens(tokens: Sequence[int]) -> int:
    """The first 64 bits of SHA-256 over the ids as little-endian 32-bit integers."""
    return int.from_bytes(hashlib.sha256(np.asarray(tokens, "<u4").tobytes()).digest()[:8], "little")


def to_columns(row: SignalRow, layout: Layout) -> dict[str, Packed]:
    """A row's arrays as they are stored, before they are deflated."""
    signal = row.signal
    first = np.zeros(len(signal.drawn_ids), bool)
    first[(np.cumsum(signal.n_drawn) - signal.n_drawn)[signal.n_drawn > 0]] = True
    gaps = np.where(first, signal.drawn_ids, np.diff(signal.drawn_ids, prepend=0))
    ratios = np.clip(np.round(signal.drawn_log_ratios / RATIO_STEP), -(2**15), 2**15 - 1)
    stored: dict[str, Any] = {
        "tokens": row.tokens,
        "ids": signal.ids.ravel(),
        "log_probs": np.diff(_to_codes(signal.log_probs), axis=1, prepend=0).ravel(),
        "log_tail": _to_codes(signal.log_tail),
        "n_drawn": signal.n_drawn,
        "drawn_ids": gaps,
        "drawn_counts": signal.drawn_counts - 1,
        "drawn_log_ratios": ratios,
    }
    return {name: stored[name].astype(np.dtype(kind).newbyteorder("<")) for name, kind in layout.columns.items()}


def from_columns(columns: Mapping[str, Packed], layout: Layout) -> tuple[Ints, Signal]:
    """Tokens and signal of the arrays that `to_columns` gave, of any number of rows joined."""
    wide = {name: values.astype(np.int64) for name, values in columns.items()}
    tokens = wide["tokens"]
    none = np.zeros(0, np.int64)
    n_drawn = wide.get("n_drawn", np.zeros(len(tokens), np.int64))
    running = np.cumsum(wide.get("drawn_ids", none))
    before = np.concatenate([[0], running])[np.cumsum(n_drawn) - n_drawn]
    signal = Signal(
        ids=wide.get("ids", none).reshape(len(tokens), layout.k),
        log_probs=_from_codes(np.cumsum(wide.get("log_probs", none).reshape(len(tokens), layout.k), axis=1)),
        log_tail=_from_codes(wide["log_tail"]) if layout.k else np.zeros(len(tokens)),
        n_draws=layout.n_draws,
        n_drawn=n_drawn,
        drawn_ids=running - np.repeat(before, n_drawn),
        drawn_counts=wide.get("drawn_counts", none) + 1,
        drawn_log_ratios=RATIO_STEP * wide.get("drawn_log_ratios", np.zeros(len(running), np.int64)).astype(np.float64),
    )
    return tokens, signal


def deflate(values: Packed) -> list[bytes]:
    """Each byte of the values by itself, lowest first, raw deflate: high bytes vary little, low bytes hardly shrink."""
    planes = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize).T
    packed: list[bytes] = []
    for plane in planes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
        packed.append(packer.compress(plane.tobytes()) + packer.flush())
    return packed


def inflate(planes: Sequence[bytes], kind: str) -> Packed:
    """The values of type `kind` that `deflate` packed."""
    raw = [np.frombuffer(zlib.decompress(plane, -zlib.MAX_WBITS), np.uint8) for plane in planes]
    return np.ascontiguousarray(np.stack(raw, axis=1)).view(np.dtype(kind).newbyteorder("<")).ravel()


def _to_codes(log_probs: Floats) -> Ints:
    codes = np.minimum(np.round(-np.maximum(log_probs, -1e6) / STEP), NO_MASS - 1).astype(np.int64)
    return np.where(np.isneginf(log_probs), NO_MASS, np.maximum(codes, 0))


def _from_codes(codes: Ints) -> Floats:
    return np.where(codes == NO_MASS, -np.inf, -codes * STEP)
