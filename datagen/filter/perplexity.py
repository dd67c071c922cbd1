"""Drop answers that one scoring model finds too surprising, or not surprising enough.

DeepDistill, arXiv:2504.17565, drops answers whose perplexity under one scoring model is above a threshold, 20, and Tian
et al. 2025, Not All Correct Answers Are Equal, arXiv:2505.14464, section 2, above a threshold of their teacher.
How an answer is scored stands in `datagen.backends.scorer`: after its prompt, reasoning and answer as one text.

Reasons: `high_perplexity`, `low_perplexity`, and `not_scored` for what cannot be: it is longer than `max_tokens`,
empty, without a prompt, or the chat template refuses it.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from datagen.backends import scorer
from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Rejection, Trace
from datagen.filter import Row
from datagen.filter._texts import answered, dropped

log = logging.getLogger(__name__)

BLOCK = 64  # answers scored at once
Perplexity = Annotated[float, Field(ge=1)]


class Config(scorer.Config):
    """Bounds on perplexity, both included, beside the scoring model's own parameters.

    Attributes:
        max_perplexity: of a teacher that `max_by_teacher` does not name, and of rows without a teacher.
        max_by_teacher: by the names in the rows' `teacher`.
        min_perplexity: below it are texts that the model knows by heart or that repeat themselves; 1 is no bound.
        not_scored: what becomes of a row that cannot be scored.
    """

    method: Literal["perplexity"]
    max_perplexity: Perplexity = 20.0
    max_by_teacher: dict[str, Perplexity] = Field(default_factory=dict[str, Perplexity])
    min_perplexity: Perplexity = 1.0
    not_scored: Literal["keep", "reject"] = "reject"


def perplexity(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection, which says its perplexity and the bound; read twice, before the model is loaded too.

    Raises:
        ParamsError: the rows are no traces, none is of a teacher that is named, or the bounds leave nothing.
        MissingError: the model, an extra, or the device is not there.
    """
    _check(config, rows)
    scoring = scorer.Scorer(config)
    model = str(scoring.identity["model"])
    log.info("perplexity: under %s, revision %s", model, scoring.identity["revision"])
    kept: Counter[str] = Counter()
    left = iter(rows)
    while block := list(islice(left, BLOCK)):
        scores = iter(scoring.score([row for row in block if isinstance(row, Trace)]))
        for row in block:
            if not isinstance(row, Trace):
                yield row
                continue
            fault = _find_fault(row, score := next(scores), config, model)
            if fault and fault[0] == "not_scored" and config.not_scored == "keep":
                kept[score.not_scored or "no number"] += 1
                fault = None
            yield dropped(row, *fault) if fault else row
    if kept:
        log.warning("perplexity: kept without a score: %s", ", ".join(f"{why} {n}" for why, n in sorted(kept.items())))


def _check(config: Config, rows: Iterable[Row | Rejection]) -> None:
    least = min([config.max_perplexity, *config.max_by_teacher.values()])
    if config.min_perplexity > least:
        raise ParamsError(f"min_perplexity: must not be above a max of {least:g} (got {config.min_perplexity:g})")
    teachers = {answered(row, "perplexity").teacher for row in rows if not isinstance(row, Rejection)}
    if unknown := sorted(config.max_by_teacher.keys() - teachers):
        held = ", ".join(repr(one) for one in sorted(teachers)) or "none"
        raise ParamsError(f"max_by_teacher: no row is of teacher {unknown[0]!r}; the rows' teachers are {held}")


def _find_fault(trace: Trace, score: scorer.Score, config: Config, model: str) -> tuple[str, str] | None:
    """Reason and detail."""
    if score.nll is None:
        return "not_scored", f"{score.not_scored}: {len(score.tokens)} tokens of answer, max_tokens={config.max_tokens}"
    mean = score.nll / len(score.tokens)
    if not math.isfinite(mean):
        return "not_scored", f"the likelihood under {model} is no number"
    most = config.max_by_teacher.get(trace.teacher, config.max_perplexity)
    value = math.exp(min(mean, 700.0))  # what is more is no float
    said = f"perplexity {value:.3f} of {len(score.tokens)} tokens under {model}"
    if value > most:
        of = f" for {trace.teacher!r}" if trace.teacher in config.max_by_teacher else ""
        return "high_perplexity", f"{said}, the most is {most:g}{of}"
    if value < config.min_perplexity:
        return "low_perplexity", f"{said}, the least is {config.min_perplexity:g}"
    return None
