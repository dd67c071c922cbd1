import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.records import Prompt, Trace
from datagen.prompts.instruction_families import FAMILIES, RAW, Config, Split, instruction_families
from datagen.verify.instruction_constraints import Config as VerifyConfig
from datagen.verify.instruction_constraints import instruction_constraints

RAW_FOLDER = Path(__file__).parents[3] / "data" / "raw"
SIZES: dict[Split, int] = {"train": 660, "validation": 440, "test": 440}


def make(split: Split, n_prompts: int, seed: int = 0) -> list[Prompt]:
    config = Config(method="instruction_families", split=split, n_prompts=n_prompts, seed=seed)
    return list(instruction_families(config, RAW_FOLDER))


def words_in_a_row(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def good_answer(prompt: Prompt) -> str:
    """What a careful person writes, from the constraint alone."""
    (constraint,) = prompt.constraints
    kwargs = json.loads(constraint["kwargs"])
    match constraint["id"]:
        case "keywords:existence":
            return f"It is about {' and '.join(kwargs['keywords'])}."
        case "keywords:frequency":
            return " ".join([kwargs["keyword"]] * kwargs["frequency"])
        case "datastill:exact_text":
            return kwargs["expected"]
        case "datastill:opening":
            return f"{kwargs['phrase']}, it was there."
        case "datastill:json_object":
            return json.dumps(kwargs["expected"])
        case "datastill:one_question":
            return "What is it?"
        case "detectable_format:title":
            return "<<The Best of All>>"
        case "detectable_format:number_bullet_lists":
            return "* one\n* two"
        case _:
            return "Yes."


def bad_answer(prompt: Prompt) -> str:
    """Long, with commas, with the forbidden word, without what is asked for."""
    (constraint,) = prompt.constraints
    forbidden = " ".join(json.loads(constraint["kwargs"]).get("forbidden_words", []))
    return f"Well, I am afraid, to be honest, that I would rather not answer at all today. {forbidden}"


@pytest.mark.parametrize("split", SIZES)
def test_counts(split: Split):
    """By the issue: at least 600 and 400 prompts, at least eight families, of one size; all differ."""
    prompts = make(split, SIZES[split])
    counts = Counter(prompt.family for prompt in prompts)
    assert len(counts) >= 8
    assert set(counts.values()) == {SIZES[split] // len(FAMILIES)}
    assert len({prompt.id for prompt in prompts}) == len({prompt.text for prompt in prompts}) == SIZES[split]


@pytest.mark.parametrize("splits", list(itertools.combinations(SIZES, 2)), ids="-".join)
def test_splits_share_neither_wording_nor_material(splits: tuple[Split, Split]):
    """No four words in a row of a prompt stand in a prompt of another split; no raw row, noun, name or phrase does."""
    first, second = (make(split, SIZES[split]) for split in splits)
    seen = set().union(*(words_in_a_row(prompt.text, 4) for prompt in first))
    shared = {words for prompt in second for words in words_in_a_row(prompt.text, 4) if words in seen}
    assert not shared
    sources = [{row for prompt in prompts for row in prompt.source.split()} for prompts in (first, second)]
    assert not sources[0] & sources[1]
    for slot in ("noun", "name", "sentence", "comment", "task"):
        values = {
            split: {
                json.loads(line)[slot].lower()
                for file in files[slot]
                for line in (RAW_FOLDER / file).read_text(encoding="utf-8").splitlines()
            }
            for split, files in RAW.items()
        }
        assert not values[splits[0]] & values[splits[1]], slot


def test_constraints_stand_in_the_prompt():
    """Every word, phrase, sentence and number that a constraint names is told to the teacher."""
    for prompt in [prompt for split in SIZES for prompt in make(split, 220)]:
        for constraint in prompt.constraints:
            kwargs = json.loads(constraint["kwargs"])
            told = kwargs.get("keywords", []) + kwargs.get("forbidden_words", []) + list(kwargs.get("expected", {}))
            told += [kwargs[name] for name in ("keyword", "phrase") if name in kwargs]
            told += [str(kwargs["num_words"])] if "num_words" in kwargs else []
            if isinstance(kwargs.get("expected"), str):
                told = [kwargs["expected"]]
            assert all(word in prompt.text for word in told), (prompt.text, kwargs)


def test_a_good_answer_passes_and_a_bad_one_fails():
    """Both written by hand, one a constraint type, without the checker."""
    prompts = [prompt for split in SIZES for prompt in make(split, 220)]
    good = [Trace(id=prompt.id, prompt=prompt, completion=good_answer(prompt)) for prompt in prompts]
    bad = [Trace(id=prompt.id, prompt=prompt, completion=bad_answer(prompt)) for prompt in prompts]
    assert {verdict.status for verdict in instruction_constraints(VerifyConfig(), good)} == {"pass"}
    assert {verdict.status for verdict in instruction_constraints(VerifyConfig(), bad)} == {"fail"}


def test_same_seed_same_prompts_and_more_start_alike():
    """Equal calls give equal rows, another seed gives others."""
    assert make("train", 60) == make("train", 60) == make("train", 120)[:60]
    assert make("train", 60) != make("train", 60, seed=1)


def test_every_source_is_a_raw_row():
    """The ids that prompts name are ids in the files."""
    ids = {
        json.loads(line)["id"]
        for file in RAW_FOLDER.rglob("*.jsonl")
        if file.parent.name != "gsm8k"
        for line in file.open()
    }
    prompts = [prompt for split in SIZES for prompt in make(split, 220)]
    assert all(prompt.source and set(prompt.source.split()) <= ids for prompt in prompts)


def test_what_is_missing_is_said(tmp_path: Path):
    """One line that names the folder, the file, or the parameter."""
    config = Config(method="instruction_families", n_prompts=1)
    with pytest.raises(ParamsError, match="--raw data/raw"):
        list(instruction_families(config, None))
    with pytest.raises(DataError, match=r"nouns\.jsonl: missing"):
        list(instruction_families(config, tmp_path))
    with pytest.raises(ParamsError, match="n_prompts: 100000 are more"):
        make("test", 100_000)
