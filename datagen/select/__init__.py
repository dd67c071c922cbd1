"""What is trained on, of what was judged: one method a file, each a query over the scores that verify kept.

at_random      rows drawn at random, as many as by_difficulty keeps: what it is compared with
by_difficulty  answers to prompts that some attempts pass and others do not
by_threshold   the decision of verify anew, by another threshold or another rule
"""

from collections.abc import Iterator
from typing import Any, Protocol

import polars as pl


class SelectMethod(Protocol):
    """The function that a method module is named after; its Config has `threshold`, the least score that passes."""

    def __call__(self, config: Any, attempts: pl.LazyFrame, *, stopped: bool) -> Iterator[tuple[str, str] | None]:
        """What becomes of each attempt that passes, in order: None where it is kept, else the reason's code and why.

        An attempt that does not pass is dropped whatever the method, under the reason of its verdict.

        Args:
            config: the method's Config.
            attempts: every trace that was judged, with the columns of `datagen.select.attempts.SCHEMA`.
            stopped: whether the attempts at a prompt ended on success, so that their number depends on their outcome.
        """
        ...
