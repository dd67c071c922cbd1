"""Speculative decoding: a draft proposes some tokens, the target judges them in one pass and keeps its own law.

Leviathan, Kalman, Matias. Fast Inference from Transformers via Speculative Decoding. 2022. arXiv:2211.17192,
algorithm 1, section 3 and appendix A.1; the same rule in Chen et al. Accelerating Large Language Model Decoding with
Speculative Sampling. 2023. arXiv:2302.01318. Where the papers are silent: a draft stops at a token that ends the text,
as nothing after it would be kept, and the text ends there.

p is the target's distribution of the next token, q the draft's, both at the temperature of the decoding; at temperature
0 all of either lies on the token of the highest logit, so that the loop gives the target's greedy text.
"""

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

NextTokens = Callable[[Sequence[int], int], Tensor]
"""A language model: of tokens and n, (n, V) float64 probabilities of what follows each of their last n prefixes.

The last of the prefixes is all of the tokens, and the one before lacks the last token.
"""


@dataclass(frozen=True, slots=True)
class Speculation:
    """What the loop wrote, and how its drafts fared.

    Attributes:
        tokens: after the prompt, up to the end that they hold or to the end of the last block.
        n_passes: of the target: one judges a block of drafted tokens and adds a token.
        accepted: of each token that was judged, whether it was kept; those after a refused one are not judged.
        expected: sum min(p, q) at the same places: the probability of each to be kept, given all before it.
    """

    tokens: list[int]
    n_passes: int
    accepted: list[bool]
    expected: list[float]

    @property
    def variance(self) -> float:
        """Of the number of tokens kept: sum of a (1 - a) over the judged."""
        return math.fsum(a * (1 - a) for a in self.expected)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """(..., V) float64: softmax of logits / temperature; at 0 the highest, the first of equal ones, has all.

    Raises:
        ValueError: the temperature is negative.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be 0 or above (got {temperature})")
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).double()
    return torch.softmax(logits.double() / temperature, dim=-1)


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """Sum min(p, q) = 1 - TV(p, q), the probability that a token drawn from q is kept: Leviathan et al., theorem 3.5.

    Args:
        p: (..., V) probabilities of the target.
        q: (..., V') of the draft; a vocabulary that is padded further has no mass in common there.

    Returns:
        (...) in [0, 1].
    """
    n = min(p.shape[-1], q.shape[-1])
    return torch.minimum(p[..., :n], q[..., :n]).sum(dim=-1)


def block_efficiency(acceptance: float, n_drafted: int) -> float:
    """Tokens for a pass of the target if each drafted one is kept with the same probability, whatever came before.

    (1 - a^(g+1)) / (1 - a), Leviathan et al., equation 1; g + 1 at a = 1. Acceptance differs from place to place, so
    what a loop measures is another number.

    Raises:
        ValueError: `acceptance` is no probability, or nothing is drafted.
    """
    if not 0 <= acceptance <= 1 or n_drafted < 1:
        raise ValueError(f"acceptance {acceptance} must lie in [0, 1], n_drafted {n_drafted} at 1 or above")
    return math.fsum(acceptance**i for i in range(n_drafted + 1))


def standard_errors(n_accepted: float, expected: float, variance: float) -> float:
    """By how many standard errors the number of tokens kept exceeds what sum min(p, q) at the same places expects.

    Given all before it a token is kept with that probability a, so the differences are a martingale's, and the variance
    of their sum is the sum of a (1 - a). Where next to nothing is left to chance (a variance below 0.001), 0 if the
    numbers agree but for rounding, else infinite.

    Args:
        n_accepted: of the judged tokens.
        expected: sum over them of a.
        variance: sum over them of a (1 - a).
    """
    surplus = n_accepted - expected
    if variance < 1e-3:
        return 0.0 if abs(surplus) < 0.5 else math.copysign(math.inf, surplus)
    return surplus / math.sqrt(variance)


def speculate(
    target: NextTokens,
    draft: NextTokens,
    prompt: Sequence[int],
    *,
    n_drafted: int,
    n_tokens: int,
    generator: torch.Generator,
    ends: Set[int] = frozenset(),
) -> Speculation:
    """Write at least `n_tokens` tokens, or up to one of `ends`, in blocks of up to `n_drafted` + 1.

    The tokens' law is the target's own, cut or not (Leviathan et al., appendix A.1).

    Args:
        target: p.
        draft: q; its vocabulary may be padded to another width, and its ids must mean the same tokens.
        prompt: tokens before; one or more.
        n_drafted: gamma, 1 or more.
        n_tokens: the loop starts no block after so many.
        generator: of all draws, on the CPU.
        ends: tokens that end the text.

    Raises:
        ValueError: no prompt, or nothing is drafted.
    """
    if not prompt or n_drafted < 1:
        raise ValueError(f"{len(prompt)} tokens of a prompt, n_drafted {n_drafted}: both must be 1 or above")
    tokens, n_passes = list(prompt), 0
    accepted: list[bool] = []
    expected: list[float] = []
    while len(tokens) - len(prompt) < n_tokens and (n_passes == 0 or tokens[-1] not in ends):
        proposed: list[int] = []
        q: list[Tensor] = []
        while len(proposed) < n_drafted and not (proposed and proposed[-1] in ends):
            q.append(draft([*tokens, *proposed], 1)[-1])
            proposed.append(_draw(q[-1], generator))
        p = target([*tokens, *proposed], len(proposed) + 1)
        n_passes += 1
        for p_here, q_here, token in zip(p, q, proposed, strict=False):  # p has one more
            expected.append(min(1.0, float(acceptance(p_here, q_here))))
            ratio = float(p_here[token] / q_here[token]) if token < len(p_here) else 0.0
            accepted.append(float(torch.rand((), generator=generator, dtype=torch.float64)) < ratio)
            if not accepted[-1]:
                tokens.append(_draw(_left(p_here, q_here), generator))
                break
            tokens.append(token)
            if token in ends:
                break
        else:
            tokens.append(_draw(p[-1], generator))
    return Speculation(tokens[len(prompt) :], n_passes, accepted, expected)


def _left(p: Tensor, q: Tensor) -> Tensor:
    """(p - q)+, normalised: what a refused token is drawn anew from; p where rounding left nothing of it."""
    n = min(len(p), len(q))
    left = p.clone()
    left[:n] = (p[:n] - q[:n]).clamp(min=0)
    total = left.sum()
    return left / total if total > 0 else p


def _draw(distribution: Tensor, generator: torch.Generator) -> int:
    return int(torch.multinomial(distribution, 1, generator=generator))
