"""Oracle: transformers' logits of each row alone, whatever the batch that reads the states."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datagen.backends.transformers_models import Example
from datagen.contracts.errors import DataError, ParamsError
from trainers.batches import collate
from trainers.lm_rows import LearnedRow
from trainers.signals import chunk
from trainers.teachers.hidden import Config, hidden

CPU = torch.device("cpu")


def test_stored_states_are_the_online_teacher_s(
    tiny: Path, tokenizer: Any, rows: list[LearnedRow], logits_alone: Callable[..., Tensor], tmp_path: Path
):
    """In another order than they were computed in; the backbone is gone, and no file is left."""
    teacher = hidden(Config(teacher=str(tiny), teacher_dtype="float64"), tokenizer, CPU)
    assert teacher.prepare(rows, tmp_path / "states") == {}
    assert list((tmp_path / "states").iterdir()) == []
    shuffled = rows[::-2]
    signal = teacher.signal(shuffled, collate([row.example for row in shuffled]))
    torch.testing.assert_close(chunk(signal, 0, len(signal.hidden)), logits_alone(shuffled), rtol=0, atol=1e-12)
    assert not hasattr(teacher, "_model")


def test_rows_that_were_not_there_are_refused(tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path):
    """A new one, and one whose tokens changed."""
    teacher = hidden(Config(teacher=str(tiny)), tokenizer, CPU)
    teacher.prepare(rows[:2], tmp_path)
    changed = replace(rows[0], example=Example([*rows[0].example.tokens, 9], rows[0].example.n_prompt_tokens))
    for row in (rows[2], changed):
        with pytest.raises(DataError, match=f"row '{row.id}' has no hidden states"):
            teacher.signal([row], collate([row.example]))


def test_states_beyond_the_bound_are_refused(tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path):
    """N tokens of 32 numbers of 4 bytes."""
    n_bytes = sum(row.example.n_completion_tokens for row in rows) * 32 * 4
    teacher = hidden(Config(teacher=str(tiny), max_states_gb=(n_bytes - 1) / 1e9), tokenizer, CPU)
    with pytest.raises(ParamsError, match="max_states_gb: the states of"):
        teacher.prepare(rows, tmp_path)
