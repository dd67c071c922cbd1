"""DistillKit's published format: top-k log-probs as exact values, a polynomial for the rest, and quantised residuals.

arcee-ai/DistillKit (Apache-2.0), its `distillkit/compression` at commit a61c2e7: rows of `input_ids`,
`compressed_logprobs` and `bytepacked_indices`, and a compression_config.yaml. The bytes of a position are, in order,
`exact_k` values, the coefficients of `polynomial_terms`, and for each residual bin a scale and its packed elements;
integers are packed bit by bit, highest bit first. What stands at position t is about token t + 1.

Axes: T positions, K entries.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import tokenizer_hash
from datagen.contracts.params import Params
from datagen.contracts.signal_columns import Floats, Ints, Signal

Dtype = Literal["float16", "bfloat16", "float32", "float64"]
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_SPECIAL = {"sqrt": np.sqrt, "exp": np.exp}
Bytes = NDArray[np.uint8]


class Bin(Params):
    """Elements that share a scale."""

    scale_dtype: Dtype
    element_bits: int = Field(ge=1, le=32)
    num_elements: int = Field(ge=1)


class Compression(Params):
    """compression_config.yaml, under DistillKit's names."""

    d: int = Field(ge=2)
    k: int = Field(ge=1)
    exact_k: int = Field(ge=0)
    exact_dtype: Dtype = "float32"
    polynomial_terms: list[int | Literal["sqrt", "exp"]] | None = None
    term_dtype: Dtype = "float32"
    residual_bins: list[Bin]
    delta_encoding: bool = True
    error_diffusion: bool = False  # says how the writer rounded; nothing to undo
    normalize_t: bool = False

    @property
    def index_bits(self) -> int:
        """Bits of an id."""
        return (self.d - 1).bit_length()

    @property
    def logprob_bytes(self) -> int:
        """Bytes of a position's log-probs."""
        bins = sum(_BYTES[one.scale_dtype] + -(-one.num_elements * one.element_bits // 8) for one in self.residual_bins)
        terms = len(self.polynomial_terms or ()) * _BYTES[self.term_dtype]
        return self.exact_k * _BYTES[self.exact_dtype] + terms + bins


def hash_of_tokenizer(model: str) -> str:
    """The `tokenizer_hash` of the model of that name; DistillKit's files do not say whose ids they hold."""
    from transformers import AutoTokenizer

    return tokenizer_hash(AutoTokenizer.from_pretrained(resolve_model(model).folder))


def unpack(packed: Bytes, bits: int, n: int) -> Ints:
    """(T, n) integers of `bits` bits, highest first, from (T, ceil(n * bits / 8)) bytes."""
    found = np.unpackbits(packed, axis=1)[:, : n * bits].reshape(len(packed), n, bits).astype(np.int64)
    return found @ (1 << np.arange(bits - 1, -1, -1))


def decompress(packed: Bytes, config: Compression) -> Floats:
    """(T, K) log-probs of (T, logprob_bytes) bytes, in float64; a polynomial need not fall, nor stay below 0."""
    rest = packed
    exact, rest = _floats(rest, config.exact_k, config.exact_dtype)
    n_approximate = config.k - config.exact_k
    approximate = np.zeros((len(packed), n_approximate))
    if terms := config.polynomial_terms:
        coefficients, rest = _floats(rest, len(terms), config.term_dtype)
        n = n_approximate
        at = np.linspace(0.0, 1.0, n) if config.normalize_t else np.arange(n, dtype=np.float64)
        basis = np.stack([at**term if isinstance(term, int) else _SPECIAL[term](at) for term in terms])
        approximate += coefficients @ basis
    start = 0
    for one in config.residual_bins:
        scale, rest = _floats(rest, 1, one.scale_dtype)
        n_bytes = -(-one.num_elements * one.element_bits // 8)
        levels = unpack(rest[:, :n_bytes], one.element_bits, one.num_elements)
        rest = rest[:, n_bytes:]
        signed = 2 * levels - 1 if one.element_bits == 1 else levels - 2 ** (one.element_bits - 1)
        approximate[:, start : start + one.num_elements] += signed * scale
        start += one.num_elements
    log_probs = np.concatenate([exact, approximate], axis=1)
    return np.cumsum(log_probs, axis=1) if config.delta_encoding else log_probs


def read_row(row: Mapping[str, Any], config: Compression) -> Signal:
    """The signal of a row's positions; the tail is what the entries leave of 1, in float64, and may be nothing.

    Raises:
        ValueError: the bytes are not those of the config, an id is beyond its `d`, or a log-prob is no number.
    """
    log_bytes = _rows(row["compressed_logprobs"], config.logprob_bytes, "compressed_logprobs")
    id_bytes = _rows(row["bytepacked_indices"], -(-config.k * config.index_bits // 8), "bytepacked_indices")
    if len(log_bytes) != len(id_bytes):
        raise ValueError(f"{len(log_bytes)} compressed_logprobs and {len(id_bytes)} bytepacked_indices")
    ids = unpack(id_bytes, config.index_bits, config.k)
    if ids.max(initial=0) >= config.d:
        raise ValueError(f"id {ids.max()} where compression_config.yaml says d = {config.d}")
    log_probs = np.minimum(decompress(log_bytes, config), 0.0)
    if np.isnan(log_probs).any():
        raise ValueError(f"no log-prob at position {np.isnan(log_probs).any(axis=1).argmax()}, but NaN")
    order = np.argsort(-log_probs, axis=1, kind="stable")
    log_probs = np.take_along_axis(log_probs, order, axis=1)
    mass = np.minimum(np.logaddexp.reduce(log_probs, axis=1), 0.0)
    with np.errstate(divide="ignore"):
        log_tail = np.log(-np.expm1(mass))
    none = np.zeros(0, np.int64)
    return Signal(
        ids=np.take_along_axis(ids, order, axis=1),
        log_probs=log_probs,
        log_tail=log_tail,
        n_draws=0,
        n_drawn=np.zeros(len(ids), np.int64),
        drawn_ids=none,
        drawn_counts=none,
        drawn_log_ratios=np.zeros(0),
    )


def _rows(values: Sequence[Sequence[int]], width: int, name: str) -> Bytes:
    if any(len(one) != width for one in values):
        wrong = next(len(one) for one in values if len(one) != width)
        raise ValueError(f"{name} of {wrong} bytes where compression_config.yaml says {width}")
    return np.array(values, np.uint8).reshape(len(values), width)


def _floats(packed: Bytes, n: int, dtype: Dtype) -> tuple[Floats, Bytes]:
    """(T, n) values from the front of the bytes, and the bytes behind them."""
    n_bytes = n * _BYTES[dtype]
    front = np.ascontiguousarray(packed[:, :n_bytes])
    if dtype == "bfloat16":  # the upper half of a float32
        values = (front.view("<u2").astype("<u4") << 16).view("<f4")
    else:
        values = front.view(np.dtype(dtype).newbyteorder("<"))
    return values.reshape(len(packed), n).astype(np.float64), packed[:, n_bytes:]
