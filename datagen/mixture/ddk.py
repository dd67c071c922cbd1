"""DDK: domains where the student trails its teacher are drawn more often.

Liu et al. DDK: Distilling Domain Knowledge for Efficient Large Language Models. 2024. arXiv:2407.16154: the domain
discrepancy factor r[i] begins in proportion to exp(l_S[i] / l_T[i]), l the perplexities of student and teacher on
held-out rows, and every K steps r[i] <- alpha psi[i] / sum(psi) + (1 - alpha) / N, psi[i] = r[i] exp(l_S[i] / l_T[i]).

The paper's own text could not be read here, only notes of others, and no code of it is released: that l is a
perplexity, exp of the mean loss, that psi takes the smoothed r of the update before, and alpha = 0.5, are so by those
notes. Losses are given in nats per token, so l_S / l_T = exp(student - teacher). `smoothing` is 1 - alpha, the share of
the uniform distribution. Steps are in log space: a student of any perplexity gives finite weights.

No weight is above 1 - smoothing + smoothing / N: with ratios that stay 1 and 2, two domains settle at .325 and .675.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.mixture import Mix, Seen
from datagen.mixture._seen import losses_of, to_mix, token_counts, weights_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

NEEDS = frozenset({"student_losses", "reference_losses"})
MAX_EXPONENT = 700.0  # exp of it is still a float64; above it the largest ratio outweighs all others anyway


class Config(Params):
    """DDK's update.

    Attributes:
        mixture_smoothing: share of the uniform distribution in every new mix, 1 - alpha of the paper; 0 is its ablation
            without smoothing, where a weight may fall to 0 and stay there.
    """

    mixture: Literal["ddk"] = "ddk"
    mixture_smoothing: float = Field(default=0.5, ge=0, le=1)


def ddk(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """`initial` before the first step, `update` after; `reference_losses` are the teacher's.

    Raises:
        DataError: a loss is missing or not finite.
    """
    token_counts(seen)
    student, teacher = losses_of(seen, "student_losses"), losses_of(seen, "reference_losses")
    if mix is None:
        return to_mix(initial(student, teacher))
    return to_mix(update(weights_of(mix, seen), student, teacher, smoothing=config.mixture_smoothing))


def initial(student_losses: "ArrayLike", teacher_losses: "ArrayLike") -> "np.ndarray":
    """r0: the softmax of the ratios of perplexities, without smoothing.

    Args:
        student_losses: (N,), mean held-out loss of each domain in nats per token.
        teacher_losses: (N,), likewise.

    Returns:
        (N,) float64, each in [0, 1], that sum to 1.

    Raises:
        ValueError: shapes disagree, or a value is not finite.
    """
    import numpy as np

    n = np.size(student_losses)
    return update(np.full(n, 1 / max(n, 1)), student_losses, teacher_losses, smoothing=0.0)


def update(
    weights: "ArrayLike", student_losses: "ArrayLike", teacher_losses: "ArrayLike", *, smoothing: float = 0.5
) -> "np.ndarray":
    """One update of the weights: (1 - smoothing) psi / sum(psi) + smoothing / N, psi = weights exp(l_S / l_T).

    Args:
        weights: (N,), not negative, at least one above 0; only their proportions count.
        student_losses: (N,), mean held-out loss of each domain in nats per token.
        teacher_losses: (N,), likewise.
        smoothing: in [0, 1], 1 - alpha of the paper.

    Returns:
        (N,) float64, that sum to 1, each at least smoothing / N.

    Raises:
        ValueError: shapes disagree, or a value is out of its range or not finite.
    """
    import numpy as np

    weights, student, teacher = (np.asarray(x, dtype=np.float64) for x in (weights, student_losses, teacher_losses))
    if weights.ndim != 1 or not weights.size or not weights.shape == student.shape == teacher.shape:
        raise ValueError(
            f"weights {weights.shape}, student losses {student.shape} and teacher losses {teacher.shape}: need one "
            "value of each for every domain"
        )
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be in [0, 1] (got {smoothing})")
    if not np.isfinite([weights, student, teacher]).all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            f"weights must be finite, not negative and not all 0, losses finite (got weights {weights.tolist()}, "
            f"student {student.tolist()}, teacher {teacher.tolist()})"
        )
    gaps = student - teacher  # log of l_S / l_T
    largest = gaps[weights > 0].max()
    # l_S / l_T less its largest value, exp(g) - exp(G) = exp(G) (exp(g - G) - 1): 0 for the largest, though exp(G)
    # overflow. Where the weight is 0 the ratio does not matter, and must not overflow either.
    exponents = np.exp(min(largest, MAX_EXPONENT)) * np.expm1(np.minimum(gaps - largest, 0))
    with np.errstate(divide="ignore"):
        log_psi = np.log(weights) + exponents
    psi = np.exp(log_psi - log_psi.max())
    return (1 - smoothing) * psi / psi.sum() + smoothing / len(weights)
