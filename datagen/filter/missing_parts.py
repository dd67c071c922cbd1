"""Drop traces that lack their reasoning or their answer, or were cut off before they came to an end.

DeepDistill, arXiv:2504.17565, and Tian et al. 2025, Not All Correct Answers Are Equal, arXiv:2505.14464, section 2,
keep traces in which both reasoning and answer are present. The tags are those of DeepSeek-R1 (arXiv:2501.12948,
table 1); where a trace has no `reasoning` of its own, what they enclose in its text is its reasoning, by the rule of
`datagen.traces._reasoning`. A tool call is an answer.

The first fault of a row is its reason, the causes before what follows from them: `cut_off` (the teacher stopped at its
limit of tokens), `unclosed_reasoning` (a tag opens reasoning that none closes), `no_answer`, `no_reasoning`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from datagen.contracts.records import Rejection, Trace
from datagen.filter import Row
from datagen.filter._texts import answered, dropped
from datagen.traces._reasoning import ReasoningTags, split_text

Action = Literal["keep", "reject"]


class Config(ReasoningTags):
    """What becomes of a row with each fault.

    `without_reasoning=keep` is for teachers that show none.
    """

    method: Literal["missing_parts"]
    cut_off: Action = "reject"
    unclosed_reasoning: Action = "reject"
    without_answer: Action = "reject"
    without_reasoning: Action = "reject"


def missing_parts(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, as it was, or its rejection.

    Raises:
        ParamsError: the rows are no traces.
    """
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        faults = _faults(answered(row, "missing_parts"), config)
        fault = next(((reason, detail) for action, reason, detail in faults if action == "reject"), None)
        yield dropped(row, *fault) if fault else row


def _faults(trace: Trace, config: Config) -> Iterator[tuple[Action, str, str]]:
    """(what becomes of it, reason, detail) of each fault of the trace, in order."""
    reasoning, answer = (trace.reasoning or "").strip(), trace.completion
    opens = False
    if config.reasoning_tags:
        start, end = config.reasoning_tags
        if not reasoning:
            reasoning, answer = split_text(answer, start, end)
        opens = trace.completion.rfind(start) > trace.completion.rfind(end)
    if trace.finish_reason == "length":
        n_tokens = "" if trace.n_completion_tokens is None else f" after {trace.n_completion_tokens} tokens"
        yield config.cut_off, "cut_off", f"finish_reason is length{n_tokens}"
    if opens:
        yield config.unclosed_reasoning, "unclosed_reasoning", f"{config.reasoning_tags[0]} is opened and not closed"
    if not answer.strip() and not trace.tool_calls:
        yield config.without_answer, "no_answer", f"{len(reasoning)} characters of reasoning and no answer"
    if not reasoning:
        yield config.without_reasoning, "no_reasoning", f"an answer of {len(answer)} characters without reasoning"
