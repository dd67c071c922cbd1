"""Tables of texts that a person judged by an instruction's description, and what the verifier says of one."""

import json
from collections.abc import Mapping
from typing import Any

from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify.instruction_constraints import Config, instruction_constraints

Examples = Mapping[str, list[tuple[dict[str, Any], list[str], list[str]]]]
"""By type: its arguments, texts that meet it, texts that do not."""


def cases(examples: Examples) -> list[tuple[str, dict[str, Any], str, bool]]:
    """(type, arguments, text, whether it is met) of every text."""
    return [
        (kind, kwargs, completion, met)
        for kind, given in examples.items()
        for kwargs, good, bad in given
        for met, completions in ((True, good), (False, bad))
        for completion in completions
    ]


def judge(kind: str, kwargs: dict[str, Any], completion: str) -> Verdict:
    """The verdict on a whole answer to a prompt with this one instruction."""
    prompt = Prompt(id="p", messages=[], constraints=[{"id": kind, "kwargs": json.dumps(kwargs)}])
    trace = Trace(id="t", prompt=prompt, completion=completion, finish_reason="stop")
    (found,) = instruction_constraints(Config(), [trace])
    return found
