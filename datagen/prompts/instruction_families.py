"""Prompts with verifiable instructions, made from fables, fairy tales, novels, speeches, comments and everyday tasks.

After Zhou et al. Instruction-Following Evaluation for Large Language Models. 2023. arXiv:2311.07911, section 2: a task
and an instruction that a program can check. The families, their wordings (wordings.json) and raw material are ours,
chosen so that a model of 135M parameters follows each sometimes, and not always.

The three splits share neither topic nor wording: each has its own wordings, and its slots are filled from its own
rows. `train` is for the teacher, `validation` for choosing settings, `test` for the figure that is reported.
"""

import json
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Constraint, Message, Prompt, content_id
from datagen.contracts.seeding import derive_seed

Split = Literal["train", "validation", "test"]
Slots = dict[str, str]


class Config(Params):
    """How many prompts of which split; they are spread evenly over the families, and more of them start alike."""

    method: Literal["instruction_families"]
    split: Split = "train"
    n_prompts: int = Field(default=660, ge=1)
    seed: int = 0


FAMILIES: dict[str, Callable[[Slots], dict[str, dict[str, Any]]]] = {
    "two_keywords": lambda s: {"keywords:existence": {"keywords": [s["noun"], s["other"]]}},
    "twice": lambda s: {"keywords:frequency": {"keyword": s["noun"], "frequency": 2, "relation": "at least"}},
    "forbidden_word": lambda s: {"keywords:forbidden_words": {"forbidden_words": [s["word"]]}},
    "brief": lambda s: {"length_constraints:number_words": {"num_words": int(s["n"]), "relation": "less than"}},
    "no_comma": lambda s: {"punctuation:no_comma": {}},
    "title": lambda s: {"detectable_format:title": {}},
    "bullets": lambda s: {"detectable_format:number_bullet_lists": {"num_bullets": 2}},
    "opening": lambda s: {"datastill:opening": {"phrase": s["phrase"]}},
    "copy": lambda s: {"datastill:exact_text": {"expected": s["sentence"]}},
    "question": lambda s: {"datastill:one_question": {}},
    "json": lambda s: {"datastill:json_object": {"expected": {"name": s["name"], "age": int(s["age"])}}},
}

RAW: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "noun": ("fairy_tales/nouns.jsonl",),
        "name": ("fairy_tales/names.jsonl",),
        "sentence": ("aesop/morals.jsonl", "fairy_tales/sentences.jsonl"),
        "comment": ("goemotions/train.jsonl",),
        "task": ("self_instruct/train.jsonl",),
    },
    "validation": {
        "noun": ("novels/nouns.jsonl",),
        "name": ("novels/names.jsonl",),
        "sentence": ("novels/sentences.jsonl",),
        "comment": ("goemotions/validation.jsonl",),
        "task": ("self_instruct/validation.jsonl",),
    },
    "test": {
        "noun": ("speeches/nouns.jsonl",),
        "name": ("speeches/names.jsonl",),
        "sentence": ("speeches/sentences.jsonl",),
        "comment": ("goemotions/test.jsonl",),
        "task": ("vicuna_bench/tasks.jsonl",),
    },
}
_MAX_DRAWS = 1000  # in a row without a new prompt: the raw material is used up


def reads(config: Config) -> tuple[str, ...]:
    """What is read of the folder."""
    return tuple(file for files in RAW[config.split].values() for file in files)


def instruction_families(config: Config, raw: Path | None) -> Iterator[Prompt]:
    """Prompts that differ from each other, family by family in turn; `source` names the raw rows in them.

    Raises:
        ParamsError: no `raw`, or more prompts than the raw material gives.
        DataError: a file of raw material is missing.
    """
    if raw is None:
        raise ParamsError("method instruction_families needs the folder of raw material: --raw data/raw")
    content = json.loads(Path(__file__).with_name("wordings.json").read_text(encoding="utf-8"))
    pools = {slot: [(value, "") for value in values[config.split]] for slot, values in content["slots"].items()}
    pools |= {slot: _read(raw, files, slot) for slot, files in RAW[config.split].items()}
    generator = random.Random(derive_seed(config.seed, config.split))
    seen: set[str] = set()
    families = list(FAMILIES)
    for i in range(config.n_prompts):
        family = families[i % len(families)]
        wordings = content["wordings"][family][config.split]
        for _ in range(_MAX_DRAWS):
            prompt = _fill(family, generator.choice(wordings), pools, generator)
            if prompt.id not in seen:
                break
        else:
            raise ParamsError(f"n_prompts: {config.n_prompts} are more than {raw} gives (family {family!r})")
        seen.add(prompt.id)
        yield prompt


def _read(raw: Path, files: tuple[str, ...], field: str) -> list[tuple[str, str]]:
    """(value, row id) of every row."""
    rows: list[tuple[str, str]] = []
    for name in files:
        try:
            lines = (raw / name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(f"{raw / name}: missing; instruction_families is made from it") from None
        rows += [(row[field], row["id"]) for row in map(json.loads, lines)]
    return rows


def _fill(family: str, wording: str, pools: dict[str, list[tuple[str, str]]], generator: random.Random) -> Prompt:
    drawn = {slot: generator.choice(values) for slot, values in pools.items()}
    drawn["other"] = generator.choice([row for row in pools["noun"] if row != drawn["noun"]])
    slots = {slot: value for slot, (value, _) in drawn.items()}
    slots["a_noun"] = f"{'an' if slots['noun'][0] in 'aeiou' else 'a'} {slots['noun']}"
    text = wording.format(**slots)
    constraints = [Constraint(id=kind, kwargs=json.dumps(kwargs)) for kind, kwargs in FAMILIES[family](slots).items()]
    names = {name.replace("a_noun", "noun") for _, name, _, _ in string.Formatter().parse(wording) if name}
    sources = [drawn[name][1] for name in sorted(names) if drawn[name][1]]
    messages: list[Message] = [{"role": "user", "content": text}]
    return Prompt(
        id=content_id(messages, family),
        messages=messages,
        family=family,
        constraints=constraints,
        source=" ".join(sources),
    )
