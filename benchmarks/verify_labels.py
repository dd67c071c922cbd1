r"""Answers that others have judged, for `benchmarks.verify --labels FILE...`.

A file's rows are JSON, one a line. Each is one of
    {"reference": TEXT, "completion": TEXT, "label": BOOL}      a worked solution; with "answer" in place of
                                                                "completion", an answer alone
    openai/grade-school-math's example_model_solutions.jsonl    four models' solutions, `is_correct` by its authors
    GAIR-NLP/ReasonEval's dataset/mr-math_invalid_errors.json   solutions of MATH, judged by people
    open-compass/CompassVerifier's rows                         gold_answer, llm_response, gold_judgment (A is correct)
A file that ends with .py is read, never run, for tests that are parametrised by lists of (gold, prediction, 0 or 1), as
huggingface/Math-Verify's are: its authors' judgment of what should be equal.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.verify.answers import parse_number


@dataclass(frozen=True, slots=True)
class Judged:
    """A completion, its reference, and whether somebody took it for right; `bare` where it is the answer alone."""

    reference: str
    completion: str
    label: bool
    source: str
    bare: bool = False


def read_labels(file: Path) -> list[Judged]:
    """The rows of a file.

    Raises:
        ValueError: a row is of no known format; the message says where.
    """
    if file.suffix == ".py":
        return list(_tests(file))
    rows: list[Judged] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            found = list(_judged(json.loads(line), file.name))
            if not found:
                raise ValueError(f"{file}:{number}: no row of a known format; see {__name__}")
            rows += found
    return rows


def _judged(row: dict[str, Any], source: str) -> Iterator[Judged]:
    match row:
        case {"reference": str(reference), "completion": str(completion), "label": bool(label)}:
            yield Judged(reference, completion, label, source)
        case {"reference": str(reference), "answer": str(answer), "label": bool(label)}:
            yield Judged(reference, answer, label, source, bare=True)
        case {"ground_truth": str(solution), "question": str(), **models}:
            reference = solution.rsplit("A: ", 1)[-1]
            for found in models.values():
                yield Judged(reference, found["solution"], found["is_correct"], source)
        case {
            "ground_truth_answer": str(reference),
            "model_output": str(text),
            "model_output_answer_correctness": judged,
        }:
            yield Judged(reference, text, judged == "correct", source)
        case {"gold_answer": str(reference), "llm_response": str(text), "gold_judgment": judged}:
            yield Judged(reference, text, judged == "A", source)
        case _:
            return


def _tests(file: Path) -> Iterator[Judged]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("parametrize") or len(node.args) < 2:
            continue
        names = re.findall(r"\w+", ast.unparse(node.args[0]))
        if names[:3] not in (["gold", "pred", "expected"], ["gold", "pred", "result"]) or not isinstance(
            node.args[1], ast.List
        ):
            continue
        for row in node.args[1].elts:
            values = (
                [one.value for one in row.elts if isinstance(one, ast.Constant)] if isinstance(row, ast.Tuple) else []
            )
            match values:
                case [str(gold), str(answer), bool(label) | int(label), *_]:
                    yield Judged(gold, answer, bool(label), file.name, bare=True)
                case _:
                    continue


def math_verify_says(reference: str, answer: str) -> bool:
    """Plain Math-Verify, as its README has it, without its timeouts."""
    from math_verify import parse, verify

    gold, target = (parse(text, parsing_timeout=None) for text in (reference, answer))  # pyright: ignore[reportArgumentType]
    return verify(gold, target, timeout_seconds=None)


def kind_of(reference: str) -> str:
    """What sort of answer a reference is."""
    text = reference.strip().strip("$").strip()
    number = parse_number(text)
    if number:
        return "integer" if number.value.denominator == 1 and "frac" not in text else "fraction, decimal"
    if re.fullmatch(r"(\\text\s*\{)?\s*\(?[A-E]\)?\s*\}?", text):
        return "choice"
    if re.search(r"\\begin|matrix", text):
        return "matrix"
    if re.search(r"\\(cup|in)(?![a-z])|[<>]|\\(le|ge)q?(?![a-z])|=", text):
        return "equation, inequality, set"
    if "," in text or text.startswith(("(", "[", r"\{", r"\left")):
        return "list, point, interval"
    return "text" if re.search(r"(?<![\\A-Za-z])[A-Za-z]{4,}", re.sub(r"\\[A-Za-z]+", "", text)) else "expression"
