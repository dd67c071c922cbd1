"""What is kept of a teacher's distribution at each token of a trace: one form a file, written once for all students.

topk     the likeliest k tokens and the mass of all others
sampled  m tokens drawn from the whole distribution, as random-sampling KD does
hybrid   the likeliest k, and m drawn from the others

`_entries` has what they share; `_local` and `_ledger` are where distributions come from: a transformers model that sees
whole ones, or the answers of a server in the ledger, which hold the likeliest tokens alone and so give `topk` only.
"""

from typing import Any, Protocol


class SignalMethod(Protocol):
    """The function that a method module is named after; the module's `layout` says what it keeps of a position."""

    def __call__(self, config: Any, log_probs: Any, trace_id: str, first_position: int) -> Any:
        """The `Signal` of (T, V) float64 log-probs of temperature 1, which stand from `first_position` of the trace.

        Both are Any here, as neither torch nor numpy is needed to name a method.
        """
        ...
