"""Repair references: where most answers contradict one and a second source agrees with them, it is replaced.

DeepDistill (arXiv:2504.17565). Teachers vote with the datasets under --teachers, one folder each, that traces or verify
wrote; an answer that was cut at its length limit is no vote. The second source is a dataset of Prompts with references,
or of Traces by a model that is not among the teachers; without one no reference is replaced. Every prompt keeps its id
and goes on; a repaired one says so in `info`, and `repairs.parquet` says of each what was found. Then run traces and
verify again on the output: the ledger has every answer.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import Field

from datagen.comparison.majority import CASES, decide, pairs
from datagen.comparison.teachers import answers, find_teachers, models
from datagen.contracts.cluster import n_workers
from datagen.contracts.dataset import DatasetWriter, content_hash, is_dataset, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt, Rejection, Repair, content_id
from datagen.contracts.stage import Run, Stage, main
from datagen.verify.answers import equal, find_answer, find_reference
from datagen.verify.pool import Check, in_order
from datagen.verify.votes import find_majority

MAX_ANSWER_CHARS = 500  # what is longer is no final answer, and no vote
Votes = dict[str, Counter[str]]
"""Prompt's id to answer, as it was written, to number of votes."""


class _Asked(NamedTuple):
    """A row, and the comparisons that were asked for just before it."""

    row: Prompt | Rejection
    pairs: list[tuple[str, str]]


_Item = bool | None | _Asked


class Config(Params):
    """How many answers must be read and what share must agree; `timeout_s` bounds one comparison by Math-Verify."""

    min_votes: int = Field(default=3, ge=1)
    min_share: float = Field(default=0.5, ge=0.5, le=1)
    timeout_s: float = Field(default=10.0, gt=0)


@dataclass(frozen=True, kw_only=True)
class _Second:
    """The second source; the same messages are the same prompt whatever its id, so they are looked up first."""

    name: str
    by_id: Votes
    by_text: Votes

    def votes(self, prompt: Prompt) -> Counter[str]:
        return self.by_text.get(content_id(prompt.messages)) or self.by_id.get(prompt.id) or Counter()


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    return validate(section, Config, InputParams)


def run(run: Run) -> dict[str, Any]:
    """Write the Prompts, with a side table of what was found for each."""
    config = run.params[Config]
    rows = Rows(run.inputs["prompts"], Prompt, run.name, run.params[InputParams])
    teachers = find_teachers(run.inputs["teachers"])
    votes = {name: _votes(row for row, _ in answers(path)) for name, path in teachers.items()}
    second = _read_second(run, teachers) if "second" in run.inputs else _Second(name="", by_id={}, by_text={})
    manifest = {
        "stage": run.name,
        "method": run.name,
        "params": run.params.values(),
        **made_of(
            {name: run.inputs[name] for name in ("prompts", "second") if name in run.inputs}
            | {f"teachers/{name}": path for name, path in teachers.items()}
        ),
        "second_source": second.name,
    }
    cases = Counter(dict.fromkeys(CASES, 0))
    with (
        DatasetWriter(run.out, Prompt, manifest, {"repairs": Repair}) as writer,
        run.progress(len(rows), "prompts") as bar,
    ):
        for prompt, found in _judge(rows, votes, second, config):
            writer.read()
            writer.put(_repaired(prompt, found) if found and isinstance(prompt, Prompt) else prompt)
            if found:
                writer.add("repairs", found)
                cases[found.case] += 1
            bar.advance(1, note=f"{cases['repaired']} repaired")
    return {"rows": writer.rows, "rejected": dict(writer.reasons), "cases": dict(cases)}


def _judge(
    rows: Iterable[Prompt | Rejection], votes: Mapping[str, Votes], second: _Second, config: Config
) -> Iterator[tuple[Prompt | Rejection, Repair | None]]:
    """Every row with what was found for it; the verifier's workers compare ahead of it."""

    def items() -> Iterator[_Item | Check[Any]]:  # Any: a Check of one kind of item is none of the union
        """Of each row its comparisons, then the row."""
        for row in rows:
            asked: list[tuple[str, str]] = []
            if isinstance(row, Prompt):
                asked = pairs(_reference(row), _of_all(row, votes), second.votes(row))
            yield from (equal(one, other, config.timeout_s) for one, other in asked)
            yield _Asked(row, asked)

    results: list[bool | None] = []
    for item in in_order(items(), n_workers(), ("math_verify",)):
        if isinstance(item, _Asked):
            same = dict(zip(item.pairs, results, strict=True))
            yield item.row, _find(item.row, votes, second, same, config) if isinstance(item.row, Prompt) else None
            results = []
        else:
            results.append(item)


def _find(
    prompt: Prompt,
    votes: Mapping[str, Votes],
    second: _Second,
    compared: Mapping[tuple[str, str], bool | None],
    config: Config,
) -> Repair:
    def same(one: str, other: str) -> bool | None:
        return compared[one, other] if (one, other) in compared else compared[other, one]

    every, seconds = _of_all(prompt, votes), second.votes(prompt)
    case = decide(_reference(prompt), every, seconds, same, min_votes=config.min_votes, min_share=config.min_share)
    majority, other = find_majority(every, same), find_majority(seconds, same)
    by_teacher = {name: dict(of[prompt.id]) for name, of in votes.items() if prompt.id in of}
    return Repair(
        id=prompt.id,
        case=case,
        old_reference=prompt.reference,
        new_reference=majority.answer if majority and case == "repaired" else None,
        majority=majority.answer if majority else None,
        n_majority=majority.n if majority else 0,
        n_votes=every.total(),
        votes=json.dumps(by_teacher, ensure_ascii=False, sort_keys=True),
        second=other.answer if other else None,
        second_source=second.name or None,
    )


def _repaired(prompt: Prompt, found: Repair) -> Prompt:
    """The prompt with its new reference, and in `info` what the old one was and who said otherwise."""
    if found.new_reference is None:
        return prompt
    said = {
        "old_reference": found.old_reference,
        "new_reference": found.new_reference,
        "n_majority": found.n_majority,
        "n_votes": found.n_votes,
        "votes": json.loads(found.votes),
        "second": found.second,
        "second_source": found.second_source,
    }
    info = _info(prompt.info) | {"reference_repair": said}
    return replace(prompt, reference=found.new_reference, info=json.dumps(info, ensure_ascii=False, sort_keys=True))


def _info(info: str | None) -> dict[str, Any]:
    """What the row holds besides, as an object; what is none becomes `info` in one."""
    if info is None:
        return {}
    try:
        held = json.loads(info)
    except ValueError:
        held = info
    return cast(dict[str, Any], held) if isinstance(held, dict) else {"info": held}


def _votes(rows: Iterable[Mapping[str, Any]]) -> Votes:
    """The final answers of whole traces, by prompt."""
    votes: Votes = {}
    for row in rows:
        answer = find_answer(row["completion"]) if row["finish_reason"] != "length" else None
        if answer and len(answer.text) <= MAX_ANSWER_CHARS:
            votes.setdefault(row["prompt_id"], Counter())[answer.text] += 1
    return votes


def _of_all(prompt: Prompt, votes: Mapping[str, Votes]) -> Counter[str]:
    return sum((of[prompt.id] for of in votes.values() if prompt.id in of), Counter[str]())


def _reference(prompt: Prompt) -> str | None:
    return None if prompt.reference is None else find_reference(prompt.reference)


def _read_second(run: Run, teachers: Mapping[str, Path]) -> _Second:
    """The second source.

    Raises:
        DataError: it is not independent: the prompts themselves, or a model that votes as a teacher.
    """
    path = run.inputs["second"]
    if is_dataset(path) and read_manifest(path).get("record") == "Trace":
        return _read_model(path, teachers)
    if path.exists() and content_hash(path) == content_hash(run.inputs["prompts"]):
        raise DataError(f"{path}: these are the prompts' own references; name a source that is independent of them")
    by_id, by_text = Votes(), Votes()
    for row in Rows(path, Prompt, run.name, run.params[InputParams]):
        if isinstance(row, Prompt) and (reference := _reference(row)) is not None:
            by_id.setdefault(row.id, Counter())[reference] += 1
            by_text.setdefault(content_id(row.messages), Counter())[reference] += 1
    return _Second(name=path.name, by_id=by_id, by_text=by_text)


def _read_model(path: Path, teachers: Mapping[str, Path]) -> _Second:
    names = models(path)
    for teacher, folder in teachers.items():
        if shared := sorted(names & models(folder)):
            raise DataError(f"{path}: {', '.join(shared)} votes as teacher {teacher} too; name an independent source")
    return _Second(
        name=", ".join(sorted(names)) or path.name, by_id=_votes(row for row, _ in answers(path)), by_text={}
    )


STAGE = Stage(
    name="repair_references",
    parse=parse,
    inputs={
        "prompts": "dataset of Prompts, .jsonl or .parquet file",
        "teachers": "folder of datasets that traces or verify wrote, one a teacher, named after it",
    },
    optional_inputs={
        "second": "independent source: dataset of Prompts, .jsonl, .parquet, or another model's dataset of Traces"
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
