"""Oracles: arrays written by hand, zlib itself, half a step of the code."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.signal_columns import (
    STEP,
    Layout,
    Signal,
    SignalRow,
    deflate,
    from_columns,
    hash_tokens,
    inflate,
    join,
    to_columns,
)


def signal(log_probs: list[list[float]], drawn: list[dict[int, int]], n_draws: int, ratio: float = 0.0) -> Signal:
    """Exact ids 9, 8, ...; `drawn` maps id to count at each position."""
    ids = [id for one in drawn for id in one]
    k = len(log_probs[0])
    return Signal(
        ids=np.tile(np.arange(9, 9 - k, -1), (len(log_probs), 1)),
        log_probs=np.array(log_probs).reshape(len(log_probs), k),
        log_tail=np.full(len(log_probs), np.log(0.25)) if k else np.zeros(len(log_probs)),
        n_draws=n_draws,
        n_drawn=np.array([len(one) for one in drawn]),
        drawn_ids=np.array(ids, np.int64),
        drawn_counts=np.array([n for one in drawn for n in one.values()], np.int64),
        drawn_log_ratios=np.full(len(ids), ratio),
    )


def row(signal: Signal, tokens: list[int]) -> SignalRow:
    return SignalRow(id="t", n_prompt_tokens=3, prompt_hash=1, tokens=np.array(tokens), signal=signal)


def test_columns_by_hand():
    """Codes are multiples of 2**-10, of ratios 2**-11; log-probs and drawn ids are differences, counts less 1."""
    made = signal([[-1.0, -2.0], [-0.5, -np.inf]], [{3: 2, 7: 1}, {0: 3}], n_draws=3, ratio=0.25)
    columns = to_columns(row(made, [5, 6]), Layout(vocabulary=10, k=2, n_draws=3, tempered=True))
    assert {name: (str(values.dtype), values.tolist()) for name, values in columns.items()} == {
        "tokens": ("uint16", [5, 6]),
        "ids": ("uint16", [9, 8, 9, 8]),
        "log_probs": ("uint16", [1024, 1024, 512, 65535 - 512]),
        "log_tail": ("uint16", [1420, 1420]),  # 1024 ln 4 = 1419.6
        "n_drawn": ("uint16", [2, 1]),
        "drawn_ids": ("uint16", [3, 4, 0]),
        "drawn_counts": ("uint16", [1, 0, 2]),
        "drawn_log_ratios": ("int16", [512, 512, 512]),
    }


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-60, 0) | st.just(-np.inf), min_size=3, max_size=3),
            st.dictionaries(st.integers(0, 99_999), st.integers(1, 300), max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_read_is_what_was_written(positions: list[tuple[list[float], dict[int, int]]]):
    """Ids and counts are equal, log-probs within half a step, whatever the order of positions and the gaps."""
    log_probs = [sorted(one, reverse=True) for one, _ in positions]
    drawn = [dict(sorted(one.items())) for _, one in positions]
    layout = Layout(vocabulary=100_000, k=3, n_draws=300)
    made = signal(log_probs, drawn, n_draws=300)
    stored = to_columns(row(made, list(range(len(positions)))), layout)
    packed = {name: inflate(deflate(values), layout.columns[name]) for name, values in stored.items()}
    tokens, read = from_columns(packed, layout)
    assert tokens.tolist() == list(range(len(positions)))
    for name in ("ids", "n_drawn", "drawn_ids", "drawn_counts", "drawn_log_ratios"):
        assert getattr(read, name).tolist() == getattr(made, name).tolist()
    np.testing.assert_allclose(np.exp(read.log_probs), np.exp(made.log_probs), atol=5e-4, rtol=0)
    finite = np.isfinite(made.log_probs)
    assert (np.isneginf(read.log_probs) == ~finite).all()
    assert np.abs(read.log_probs[finite] - made.log_probs[finite]).max(initial=0.0) <= STEP / 2


def test_planes_are_raw_deflate_of_single_bytes():
    """Oracle: zlib on the low and on the high bytes."""
    low, high = deflate(np.array([1, 258, 515], "<u2"))
    assert zlib.decompress(low, -15) == bytes([1, 2, 3]) and zlib.decompress(high, -15) == bytes([0, 1, 2])


def test_weights_of_draws():
    """A tail of 1/4, three draws, one twice, twice as likely as its proposal had it: 1/4 * 2/3 * 2."""
    made = signal([[-1.0]], [{2: 2, 5: 1}], n_draws=3, ratio=np.log(2))
    assert np.exp(made.drawn_log_weights) == pytest.approx([1 / 3, 1 / 6], abs=1e-12)


def test_positions_can_be_cut_and_joined():
    made = signal([[-1.0], [-2.0], [-3.0]], [{2: 2, 5: 1}, {}, {4: 3}], n_draws=3)
    parts = [made[0:1], made[1:2], made[2:3]]
    assert [part.drawn_ids.tolist() for part in parts] == [[2, 5], [], [4]]
    again = join(parts)
    assert again.drawn_ids.tolist() == made.drawn_ids.tolist() and again.log_probs.tolist() == made.log_probs.tolist()


@pytest.mark.parametrize(
    ("layout", "n_bytes"),
    [
        (Layout(vocabulary=49_152, k=32), 2 + 32 * 4 + 2),
        (Layout(vocabulary=49_152, k=16, n_draws=16), 2 + 16 * 4 + 2 + 1 + 16 * 3),
        (Layout(vocabulary=49_152, n_draws=12), 2 + 1 + 12 * 3),
        (Layout(vocabulary=150_000, n_draws=12, tempered=True), 3 + 1 + 12 * 6),
    ],
)
def test_the_most_a_token_takes(layout: Layout, n_bytes: int):
    """By hand: the token, ids of two or three bytes, log-probs of two, counts of one."""
    assert layout.max_bytes_a_token == n_bytes


def test_a_hash_of_tokens_is_of_their_little_endian_bytes():
    """Oracle: sha256sum of 01000000 02000000."""
    assert hash_tokens([1, 2]).to_bytes(8, "little").hex() == "34fb5c825de7ca4a"
