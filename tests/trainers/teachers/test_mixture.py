"""Oracles: the one teacher; probabilities added up here; each row's own teacher alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import validate
from trainers.batches import collate
from trainers.lm_rows import LearnedRow
from trainers.signals import HiddenStates, chunk
from trainers.teachers.mixture import Config, column, mixture
from trainers.teachers.online import Config as OnlineConfig
from trainers.teachers.online import online

CPU = torch.device("cpu")


@pytest.fixture
def other(tiny: Path, tokenizer: Any, tmp_path: Path) -> Path:
    """Another model of the same tokenizer."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.3)
    model.save_pretrained(tmp_path / "second")
    tokenizer.save_pretrained(tmp_path / "second")
    return tmp_path / "second"


def log_probs(folder: Path, tokenizer: Any, rows: list[LearnedRow]) -> torch.Tensor:
    teacher = online(OnlineConfig(teacher=str(folder), teacher_dtype="float64"), tokenizer, CPU)
    signal: HiddenStates = teacher.signal(rows, collate([row.example for row in rows]))
    found = chunk(signal, 0, len(signal.hidden))
    assert isinstance(found, torch.Tensor)
    return found.log_softmax(dim=-1)


def mixed(tokenizer: Any, rows: list[LearnedRow], tmp_path: Path, **config: Any) -> torch.Tensor:
    for part in config["teachers"]:
        part["teacher_dtype"] = "float64"
    teacher = mixture(Config.model_validate(config), tokenizer, CPU)
    assert teacher.prepare(rows, tmp_path) == {}
    n_tokens = sum(row.example.n_completion_tokens for row in rows)
    found = chunk(teacher.signal(rows, collate([row.example for row in rows])), 0, n_tokens)
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("kind", ["online", "hidden"])
def test_a_mixture_of_one_is_that_one(tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path, kind: str):
    """Whatever its weight."""
    found = mixed(tokenizer, rows, tmp_path, teachers=[{"teacher": str(tiny), "weight": 3.0, "teacher_kind": kind}])
    torch.testing.assert_close(found, log_probs(tiny, tokenizer, rows), rtol=0, atol=1e-12)


def test_probabilities_are_mixed_by_weight(
    tiny: Path, other: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path
):
    """1 and 3 are a quarter and three quarters."""
    found = mixed(
        tokenizer, rows, tmp_path,
        teachers=[{"teacher": str(tiny), "weight": 1.0}, {"teacher": str(other), "weight": 3.0}],
    )  # fmt: skip
    both = [log_probs(folder, tokenizer, rows).exp() for folder in (tiny, other)]
    torch.testing.assert_close(found.exp(), 0.25 * both[0] + 0.75 * both[1], rtol=0, atol=1e-12)


def test_a_routed_row_is_its_own_teacher_s(
    tiny: Path, other: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path
):
    """Every third row is the second teacher's; a batch of one teacher's rows alone is read by it alone."""
    for i, row in enumerate(rows):
        prompt = replace(row.trace.prompt, family="b" if i % 3 == 0 else "a")
        rows[i] = replace(row, trace=replace(row.trace, prompt=prompt))
    teachers = [{"teacher": str(tiny), "route": "a"}, {"teacher": str(other), "route": "b"}]
    found = mixed(tokenizer, rows, tmp_path, teachers=teachers, route_by="family")
    of = {"a": tiny, "b": other}
    wanted = torch.cat([log_probs(of[row.trace.prompt.family], tokenizer, [row]) for row in rows])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    alone = [row for row in rows if row.trace.prompt.family == "b"]
    found = mixed(tokenizer, alone, tmp_path, teachers=teachers, route_by="family")
    torch.testing.assert_close(found, log_probs(other, tokenizer, alone), rtol=0, atol=1e-12)


def test_rows_of_no_teacher_are_named(tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path):
    config = Config.model_validate({"teachers": [{"teacher": str(tiny), "route": "a"}], "route_by": "family"})
    found = mixture(config, tokenizer, CPU).prepare(rows[:1], tmp_path)
    assert found == {"row-0": ("no_teacher", "family is '', and the teachers are of a")}


def test_columns_of_the_user_s_own(rows: list[LearnedRow]):
    trace = rows[0].trace
    row = replace(rows[0], trace=replace(trace, prompt=replace(trace.prompt, info='{"domain": 7}')))
    assert column(row, "domain") == "7" and column(row, "prompt_id") == trace.prompt.id
    with pytest.raises(DataError, match="row 'row-0' has no column 'topic', which route_by names"):
        column(row, "topic")


@pytest.mark.parametrize(
    ("teachers", "route_by", "says"),
    [
        ([], None, "teachers: Tuple should have at least 1 item"),
        ([{"teacher": "x"}], None, "each of the teachers needs its weight"),
        ([{"teacher": "x", "weight": 1, "route": "a"}], None, "no route unless route_by names a column"),
        ([{"teacher": "x", "weight": 0}], None, "weight: Input should be greater than 0"),
        ([{"teacher": "x", "route": "a"}, {"teacher": "y", "route": "a"}], "family", "a route of its own"),
        ([{"teacher": "x", "route": "a", "weight": 1}], "family", "and no weight"),
        ([{"teacher": "x", "weight": 1, "teacher_kind": "cached"}], None, "Input should be 'online' or 'hidden'"),
    ],
)
def test_what_is_no_mixture(teachers: Any, route_by: Any, says: str):
    with pytest.raises(ParamsError, match=says):
        validate({"teachers": teachers, "route_by": route_by}, Config)
