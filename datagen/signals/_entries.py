"""Exact and drawn entries of distributions.

Axes: T positions, V vocabulary, K exact entries, M draws a position, D distinct drawn entries of all positions.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from datagen.contracts.signal_columns import Floats, Ints, Signal

SEPARATOR = "\x1f"  # keeps ("a", 1) apart from ("a1",)


def exact_entries(log_probs: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest tokens of each position, and what they leave over.

    Args:
        log_probs: (T, V) float64.
        k: at most V.

    Returns:
        ids (T, K) and their log-probs (T, K), likeliest first; the others' log-probs (T, V), -inf in the place of ids.
    """
    values, ids = log_probs.topk(k, dim=-1)
    return ids, values, log_probs.scatter(-1, ids, -torch.inf)


def uniforms(seed: int, trace_id: str, first_position: int, n_positions: int, n_draws: int) -> Floats:
    """(n_positions, n_draws) numbers in [0, 1), each position's from SHAKE-128 of (seed, trace, position) alone."""
    rows = [
        hashlib.shake_128(SEPARATOR.join((str(seed), trace_id, str(position))).encode()).digest(8 * n_draws)
        for position in range(first_position, first_position + n_positions)
    ]
    bits = np.frombuffer(b"".join(rows), "<u8").reshape(n_positions, n_draws)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(log_mass: Tensor, points: Floats) -> tuple[Ints, Ints, Ints]:
    """Tokens drawn with replacement in proportion to exp(log_mass), by inverting the cumulative sum at the points.

    Args:
        log_mass: (T, V) float64, of any sum; a position where all is -inf gets none.
        points: (T, M) in [0, 1).

    Returns:
        How many distinct tokens each position got (T,), which, ascending (D,), and how often each (D,).
    """
    heaviest = log_mass.amax(dim=-1, keepdim=True)
    cumulative = (log_mass - heaviest.nan_to_num(neginf=0.0)).exp().cumsum(dim=-1)
    total = cumulative[:, -1:]
    found = torch.searchsorted(cumulative, torch.from_numpy(points).to(total) * total, right=True)
    ids = np.sort(found.cpu().numpy(), axis=1)[total[:, 0].cpu().numpy() > 0]
    is_first = np.diff(ids, axis=1, prepend=-1) > 0
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, ids.size))
    n_drawn = np.zeros(len(points), np.int64)
    n_drawn[total[:, 0].cpu().numpy() > 0] = is_first.sum(axis=1)
    return n_drawn, ids.ravel()[starts].astype(np.int64), counts.astype(np.int64)


def to_signal(
    log_tail: Tensor,
    exact: tuple[Tensor, Tensor] | None = None,
    n_draws: int = 0,
    drawn: tuple[Ints, Ints, Ints] | None = None,
    log_ratios: Floats | None = None,
) -> Signal:
    """A Signal of what the functions above gave; what is left out has no entries."""
    n_positions = len(log_tail)
    none = np.zeros(0, np.int64)
    n_drawn, drawn_ids, drawn_counts = drawn or (np.zeros(n_positions, np.int64), none, none)
    ids, log_probs = exact or (torch.zeros(n_positions, 0, dtype=torch.int64), torch.zeros(n_positions, 0).double())
    return Signal(
        ids=ids.cpu().numpy(),
        log_probs=log_probs.cpu().numpy(),
        log_tail=log_tail.cpu().numpy(),
        n_draws=n_draws,
        n_drawn=n_drawn,
        drawn_ids=drawn_ids,
        drawn_counts=drawn_counts,
        drawn_log_ratios=np.zeros(len(drawn_ids)) if log_ratios is None else log_ratios,
    )
