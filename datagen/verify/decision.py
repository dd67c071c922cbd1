"""From a verdict to a decision: which traces are kept, and the reason of those that are not.

The verify stage decides as it judges, and `datagen.select.by_threshold` decides again from the verdicts that it wrote.
Both ask here, so equal parameters give equal rows and reasons.

Source: rejection sampling by a threshold on a verifier's score, and the best of n, as in Cobbe et al. 2021, Training
Verifiers to Solve Math Word Problems, arXiv:2110.14168, section 4; the agreement of attempts is a rule of our own.
"""

from typing import Literal

from pydantic import Field

from datagen.contracts.errors import DataError
from datagen.contracts.params import Params


class Rule(Params):
    """What it takes to be kept.

    Attributes:
        threshold: the least score of a trace that passes.
        keep: best drops what best_of_n did not choose (`not_best`).
        min_agreement: where a prompt has a reference, so many of its attempts must pass, else those that do are dropped
            (`no_agreement`): one pass in many may be a guess. Answers to a prompt without a reference need not agree.
    """

    threshold: float = Field(1.0, ge=0, le=1)
    keep: Literal["all", "best"] = "all"
    min_agreement: int = Field(1, ge=1)


def why_failed(status: str, score: float, reason: str | None, detail: str | None) -> tuple[str, str]:
    """Reason and detail of a trace whose score does not reach the threshold, from its verdict."""
    return reason or status, detail or f"score {score:g}"


def why_set_aside(
    rule: Rule, id: str, *, has_reference: bool, n_passed: int, score: float | None, best: bool | None
) -> tuple[str, str] | None:
    """Reason and detail where a trace is dropped though it passed; None where it is kept.

    Args:
        rule: what it takes.
        id: of the trace.
        has_reference: whether its prompt has one.
        n_passed: how many attempts at its prompt passed, this one included.
        score: that best_of_n gave it.
        best: whether best_of_n chose it; None where no method chose.

    Raises:
        DataError: the best are to be kept, and no method chose them.
    """
    if has_reference and n_passed < rule.min_agreement:
        return "no_agreement", f"{n_passed} of its prompt's attempts passed, min_agreement is {rule.min_agreement}"
    if rule.keep == "best" and best is None:
        raise DataError(f"trace {id!r}: keep=best needs traces by best_of_n, and no method chose the best of these")
    if rule.keep == "best" and not best:
        return "not_best", f"another attempt at its prompt scored more, or as much and earlier; score {score:g}"
    return None
