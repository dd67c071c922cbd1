"""Texts by domain, and whether what is drawn by, measured on and weighed is the same domains.

Source: none.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from datagen.contracts.errors import DataError
from trainers.lm_rows import LearnedRow

_LEAST = 2  # sequences of a domain that is drawn from: one alone would be learned over and over
_TOLERANCE = 1e-6  # of the sum of weights


def by_domain(rows: Sequence[LearnedRow], path: str) -> dict[str, list[LearnedRow]]:
    """Rows by domain, the domains in alphabetical order.

    Raises:
        DataError: a row has none.
    """
    found: dict[str, list[LearnedRow]] = {}
    for row in rows:
        if not row.domain:
            raise DataError(
                f"{path}: row {row.id!r} has no domain; give each row of text a `domain`, as `datastill domains` does, "
                "or leave out what draws by it"
            )
        found.setdefault(row.domain, []).append(row)
    return dict(sorted(found.items()))


def check_drawn(rows: Mapping[str, Sequence[LearnedRow]], path: str) -> None:
    """Fail where there is nothing to mix.

    Raises:
        DataError: there is one domain, or one of them has a sequence alone.
    """
    if len(rows) < 2:
        raise DataError(f"{path}: all rows are of the domain {next(iter(rows))!r}; a mix needs two or more")
    for name, mine in rows.items():
        if len(mine) < _LEAST:
            raise DataError(
                f"{path}: the domain {name!r} has one sequence, of {len(mine[0])} tokens; give it more texts, or leave "
                "it out"
            )


def check_held_out(
    held_out: Mapping[str, Sequence[LearnedRow]], rows: Mapping[str, Sequence[LearnedRow]], path: str
) -> None:
    """Fail where held-out rows are not of the domains that are learned, or are learned.

    Raises:
        DataError: with the first such domain or row.
    """
    if missing := sorted(set(rows) - set(held_out)):
        raise DataError(f"{path}: no row of the domain {missing[0]!r}, which is learned; hold some of its texts out")
    if others := sorted(set(held_out) - set(rows)):
        raise DataError(f"{path}: the domain {others[0]!r} is not among those that are learned, {', '.join(rows)}")
    learned = {row.trace.completion for mine in rows.values() for row in mine}
    for name, mine in held_out.items():
        if both := next((row for row in mine if row.trace.completion in learned), None):
            raise DataError(
                f"{path}: row {both.id!r} of the domain {name!r} is learned too; hold texts out that are not, as "
                "`datastill domains` does"
            )


def read_weights(path: Path, names: Sequence[str]) -> dict[str, float]:
    """The weights in a file such as `datastill domain_weights` writes: `{"weights": {domain: share}}`.

    Raises:
        DataError: no such file, or not of these domains, or no shares.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        given = cast("dict[str, Any]", content["weights"])
        weights = {name: float(given[name]) for name in given}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path}: no weights ({str(error).splitlines()[0]}); expected {{"weights": {{domain: share}}}} as '
            "`datastill domain_weights` writes it"
        ) from None
    if set(weights) != set(names):
        odd = sorted(set(weights) ^ set(names))[0]
        where = "has a weight, and no row is of it" if odd in weights else "has rows, and no weight"
        raise DataError(f"{path}: the domain {odd!r} {where}; weigh those that are learned, 0 to leave one out")
    total = math.fsum(weights.values())
    if not all(0 <= one <= 1 for one in weights.values()) or not abs(total - 1) <= _TOLERANCE:
        raise DataError(f"{path}: weights must be in [0, 1] and sum to 1 (they sum to {total:g})")
    return {name: weights[name] / total for name in names}
