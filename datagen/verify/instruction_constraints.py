"""Verifiable instructions: does the completion do what each constraint of its prompt says?

IFEval: Zhou et al. 2023. arXiv:2311.07911, its 25 types. IFBench: Pyatkin et al. 2025. arXiv:2507.02833, its 58 test
constraints and, as IFTrain, its 29 training constraints. Names and arguments are those of the benchmarks' files; what
each type means, and where the authors' programs and their descriptions part, stands in `_ifeval`, `_ifbench`,
`_ifbench_formats` and `_iftrain`. Types of our own are named `datastill:`.

Strict reads the completion as it stands, less white space at its ends; loose (IFEval, section 2.2) takes a constraint
for met where one of eight variants meets it: with and without its first line, its last line and the asterisks of
Markdown. An empty text meets nothing. An answer that was cut at its length limit follows nothing: what is missing could
break any instruction.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, Literal

from datagen.contracts.params import Params
from datagen.contracts.records import Constraint, Status, Trace, Verdict
from datagen.verify import _ifbench, _ifbench_formats, _ifeval, _iftrain
from datagen.verify._texts import sentences

NAME = "instruction_constraints"
ROW_BY_ROW = True


class Config(Params):
    """`strictness` loose also takes an instruction for followed by the completion without its frame."""

    method: Literal["instruction_constraints"] = NAME
    strictness: Literal["strict", "loose"] = "strict"


def instruction_constraints(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """One verdict a trace: `pass` where all constraints are met; the score is the share met, of a cut answer 0.

    A constraint whose type is not in CHECKS, or takes other arguments, makes the row an `error`.
    """
    variants = _loose_variants if config.strictness == "loose" else _strict_variant
    return (_judge(trace, variants) for trace in traces)


class Figures:
    """Accuracy of a whole run: the share of prompts, and of instructions, that were followed, by benchmark.

    A row of IFEval's types alone counts under IFEval; types of the other two may stand beside IFEval's. What could not
    be judged was not followed.
    """

    def __init__(self, config: Config) -> None:
        self._counts: dict[str, list[int]] = {}

    def count(self, trace: Trace, verdict: Verdict) -> None:
        """Add one trace with its verdict by this method."""
        types = {constraint["id"] for constraint in trace.prompt.constraints}
        for benchmark, known in BENCHMARKS.items():
            if types and types <= known.keys():
                followed = round(verdict.score * len(trace.prompt.constraints))
                added = (1, verdict.status == "pass", len(trace.prompt.constraints), followed)
                so_far = self._counts.get(benchmark, [0, 0, 0, 0])
                self._counts[benchmark] = [a + b for a, b in zip(so_far, added, strict=True)]
                return

    def metrics(self) -> dict[str, Any]:
        """`instruction_following` by benchmark, nothing where no row is a benchmark's."""
        figures = {
            benchmark: {
                "prompts": n_prompts,
                "prompt_accuracy": round(n_passed / n_prompts, 4),
                "instructions": n_instructions,
                "instruction_accuracy": round(n_followed / n_instructions, 4),
            }
            for benchmark, (n_prompts, n_passed, n_instructions, n_followed) in self._counts.items()
        }
        return {"instruction_following": dict(sorted(figures.items()))} if figures else {}


def _judge(trace: Trace, variants: Callable[[str], list[str]]) -> Verdict:
    constraints = trace.prompt.constraints
    if not constraints:
        return _verdict(trace, "error", "no_constraints", "the prompt carries no constraints")
    if unknown := [constraint["id"] for constraint in constraints if constraint["id"] not in CHECKS]:
        detail = f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(CHECKS))}"
        return _verdict(trace, "error", "unknown_instruction", detail)
    texts = variants(trace.completion.strip())
    try:
        failed = [constraint for constraint in constraints if not _is_met(constraint, texts)]
    except ValueError as error:
        return _verdict(trace, "error", "bad_arguments", str(error))
    if trace.finish_reason == "length":
        return _verdict(trace, "fail", "cut_off", "the answer was cut at its length limit")
    if failed:
        detail = "not met: " + "; ".join(f"{constraint['id']} {constraint['kwargs']}" for constraint in failed)
        return _verdict(trace, "fail", failed[0]["id"], detail, score=1 - len(failed) / len(constraints))
    return _verdict(trace, "pass", score=1.0)


def _verdict(
    trace: Trace, status: Status, reason: str | None = None, detail: str | None = None, score: float = 0.0
) -> Verdict:
    return Verdict(id=trace.id, method=NAME, status=status, score=score, reason=reason, detail=detail)


def _strict_variant(text: str) -> list[str]:
    return [text]


def _loose_variants(text: str) -> list[str]:
    """The eight of IFEval, section 2.2, as many as differ; the text itself comes first."""
    cut_lines = text.split("\n")
    rests = ["\n".join(cut_lines[start:end]).strip() for start, end in product((0, 1), (None, -1))]
    return list(dict.fromkeys(rests + [rest.replace("*", "").strip() for rest in rests]))


def _is_met(constraint: Constraint, texts: list[str]) -> bool:
    """Whether one of the texts meets the constraint; null arguments count as absent, as in the benchmarks' files."""
    try:
        kwargs = {name: value for name, value in json.loads(constraint["kwargs"]).items() if value is not None}
        return any(CHECKS[constraint["id"]](text, **kwargs) and text != "" for text in texts)
    except (ArithmeticError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{constraint['id']} cannot be checked with {constraint['kwargs']}: {error}") from None


def exact_text(text: str, *, expected: str) -> bool:
    """This text and nothing else."""
    return text == expected


def opening(text: str, *, phrase: str) -> bool:
    """The text starts with the phrase; case and quotation marks around it don't matter."""
    return bool(re.match(rf"[\"'\u201c]?{re.escape(phrase)}\b", text, re.IGNORECASE))


def one_question(text: str) -> bool:
    """One sentence, and that a question."""
    return text.endswith("?") and len(sentences(text)) == 1


def json_object(text: str, *, expected: dict[str, Any]) -> bool:
    """A JSON object that equals this one."""
    return _ifeval.read_json(text) == expected


OWN: dict[str, Callable[..., bool]] = {
    "datastill:exact_text": exact_text,
    "datastill:opening": opening,
    "datastill:one_question": one_question,
    "datastill:json_object": json_object,
}
BENCHMARKS: dict[str, dict[str, Callable[..., bool]]] = {  # what a row of each may hold; the first that fits has it
    "ifeval": _ifeval.CHECKS,
    "ifbench": _ifeval.CHECKS | _ifbench.CHECKS | _ifbench_formats.CHECKS,
    "iftrain": _ifeval.CHECKS | _iftrain.CHECKS,
}
CHECKS: dict[str, Callable[..., bool]] = BENCHMARKS["ifbench"] | BENCHMARKS["iftrain"] | OWN
