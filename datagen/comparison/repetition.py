"""How much a text repeats itself, over the ids of its tokens.

The filter of Tian et al. (Not All Correct Answers Are Equal, arXiv:2505.14464, section 2; DeepDistill,
arXiv:2504.17565) drops a trace in which an n-gram of 20 tokens stands more than 20 times. No text of fewer than 40
tokens can, so beside it stands rep-n of Welleck et al. (Neural Text Generation with Unlikelihood Training,
arXiv:1908.04319, section 6.1), which is a share and says something of short texts too.
"""

from collections import Counter
from collections.abc import Sequence


def is_looping(tokens: Sequence[int], *, n: int, max_count: int) -> bool:
    """Whether one n-gram stands more than `max_count` times; its places may overlap."""
    if len(tokens) - n + 1 <= max_count:
        return False
    return max(Counter(_n_grams(tokens, n)).values()) > max_count


def repeated_share(tokens: Sequence[int], *, n: int = 4) -> float | None:
    """Share of n-grams that stood there before, in [0, 1): 1 - distinct / all. None for fewer than n tokens."""
    n_all = len(tokens) - n + 1
    return 1 - len(set(_n_grams(tokens, n))) / n_all if n_all > 0 else None


def _n_grams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
