"""What a draft is worth, prompt by prompt and in all.

Acceptance is the mean of sum min(p, q) over tokens; its interval is over prompts, both drafts' on the same texts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_GAP = 1e-3  # logits; above it, a greedy token that differs is no matter of rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftScore:
    """How a draft fared on one prompt.

    Attributes:
        id: the prompt's.
        text: what the accept-reject loop wrote; of the target's law.
        n_tokens: of it.
        n_passes: of the target in the loop.
        n_judged: drafted tokens that the target judged.
        n_accepted: of them.
        expected: sum over them of sum min(p, q).
        variance: sum over them of a (1 - a), a being sum min(p, q).
        acceptance: sum over all places of the text of sum min(p, q).
        acceptance_before: likewise of the other draft, null where none is given.
        greedy_text: the target's own.
        n_greedy: its tokens.
        passes_draft: of the target in assisted generation of it.
        passes_ngram: likewise with n-grams as the draft.
        gap_draft: 0 where assisted generation gives the same tokens, else how far in logits the first other one is.
        gap_ngram: likewise.
    """

    id: str
    text: str
    n_tokens: int
    n_passes: int
    n_judged: int
    n_accepted: int
    expected: float
    variance: float
    acceptance: float
    acceptance_before: float | None
    greedy_text: str
    n_greedy: int
    passes_draft: int
    passes_ngram: int
    gap_draft: float
    gap_ngram: float

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "text": pl.String,
        "n_tokens": pl.Int32,
        "n_passes": pl.Int32,
        "n_judged": pl.Int32,
        "n_accepted": pl.Int32,
        "expected": pl.Float64,
        "variance": pl.Float64,
        "acceptance": pl.Float64,
        "acceptance_before": pl.Float64,
        "greedy_text": pl.String,
        "n_greedy": pl.Int32,
        "passes_draft": pl.Int32,
        "passes_ngram": pl.Int32,
        "gap_draft": pl.Float64,
        "gap_ngram": pl.Float64,
    }


def figures(scores: Sequence[DraftScore], *, n_drafted: int, n_resamples: int, seed: int) -> dict[str, Any]:
    """The metrics of all prompts; one score at the least.

    `acceptance` is of the draft on the loop's texts, and with another draft `before`, their `difference` and what it is
    of before (`relative`), each with its interval. `measured` is of the loop, beside what its own places expect. Tokens
    a pass are measured too, beside the closed form at that acceptance. `greedy` counts passes and equal texts.
    """
    import numpy as np

    from trainers.bootstrap import bootstrap
    from trainers.drafts import block_efficiency, standard_errors

    def total(name: str) -> float:
        return math.fsum(getattr(score, name) for score in scores)

    n = np.array([score.n_tokens for score in scores], dtype=np.float64)
    after = np.array([score.acceptance for score in scores])

    def interval(figure: "Any") -> dict[str, float]:
        found = bootstrap(figure, len(scores), n_resamples, seed=seed)
        return {name: round(value, 6) for name, value in found._asdict().items()}

    def mean(weights: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return (weights @ after) / (weights @ n)

    acceptance: dict[str, Any] = {"after": interval(mean)}
    if all(score.acceptance_before is not None for score in scores):
        before = np.array([score.acceptance_before for score in scores], dtype=np.float64)
        acceptance["before"] = interval(lambda w: (w @ before) / (w @ n))
        acceptance["difference"] = interval(lambda w: (w @ (after - before)) / (w @ n))
        if before.sum() > 0:
            acceptance["relative"] = interval(lambda w: (w @ (after - before)) / (w @ before))
    n_judged, n_greedy = int(total("n_judged")), int(total("n_greedy"))
    expected = total("expected") / n_judged
    away = standard_errors(total("n_accepted"), total("expected"), total("variance"))
    measured = {
        "acceptance": round(total("n_accepted") / n_judged, 6),
        "expected": round(expected, 6),
        "standard_errors": round(away, 4) if math.isfinite(away) else None,
        "n_judged": n_judged,
        "n_passes": int(total("n_passes")),
        "n_tokens": int(total("n_tokens")),
    }
    ways = {
        way: {
            "n_passes": int(total(f"passes_{way}")),
            "tokens_a_pass": round(n_greedy / total(f"passes_{way}"), 4),
            "n_equal": sum(getattr(score, f"gap_{way}") == 0 for score in scores),
            "n_equal_but_for_rounding": sum(getattr(score, f"gap_{way}") <= LARGEST_GAP for score in scores),
        }
        for way in ("draft", "ngram")
    }
    return {
        "n_prompts": len(scores),
        "acceptance": acceptance,
        "measured": measured,
        "tokens_a_pass": {
            "measured": round(total("n_tokens") / total("n_passes"), 4),
            "closed_form": round(block_efficiency(min(1.0, expected), n_drafted), 4),
        },
        "greedy": {"n_tokens": n_greedy, **ways},
    }
