"""Seeds that depend on what is drawn, never on when: equal (seed, record) give equal numbers in any order."""

import hashlib

SEED_BITS = 63  # fits SQLite's and PyTorch's signed 64-bit integers, and what servers accept as `seed`


def derive_seed(seed: int, *parts: str | int) -> int:
    """A seed in [0, 2**63) for one record or step: the first 63 bits of SHA-256 over `seed` and `parts`.

    The parts are joined with a separator that keeps ("a", "bc") apart from ("ab", "c").
    """
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - SEED_BITS)
