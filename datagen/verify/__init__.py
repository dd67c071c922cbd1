"""What is right: one verifier a file, each gives every trace a score in [0, 1] and says why there is none.

by_row                   each row by what it carries: tests, constraints, a reference
code_execution           code by its asserts or by what it writes, in a sandbox
instruction_constraints  verifiable instructions, as in IFEval and IFBench, strict or loose
judge                    a language model with a rubric, asked twice with the order swapped
math_answer              the final answer against the reference, by exact arithmetic and Math-Verify
reward_model             a reward model or another sequence classifier of transformers
self_consistency         the answer that most attempts at a prompt give
short_answer             the answer against the reference: exact match, F1, or the cosine of embeddings

A method's module may say more than its function does: `Figures(config)`, counted over a run, for the metrics;
`identity(config)`, which model it judges by, for the manifest; `PASS_IS_AGREEMENT`, where a pass does not say that an
answer is right; `ROW_BY_ROW`, where a row's verdict is its own, so that a cluster may judge it; `configs` and `opened`,
where it asks a backend: the stage checks the section against `configs` too, and judges with what `opened` yields.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # workers of the pool import this package and no records
    from datagen.contracts.records import Trace, Verdict


class VerifyMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, traces: "Iterable[Trace]") -> "Iterator[Verdict]":
        """One verdict a trace, in order, reading ahead by a bounded number of traces."""
        ...
