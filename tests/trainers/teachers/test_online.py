"""Oracles: transformers' logits of each row alone; the student itself as its teacher."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from datagen.contracts.errors import DataError, MissingError, ParamsError
from tests.tiny_model import write_tiny_model
from trainers.batches import collate, pack
from trainers.lm_rows import LearnedRow
from trainers.signals import chunk
from trainers.teachers.online import Config, OnlineTeacher, online, teacher_device

CPU = torch.device("cpu")


def test_its_logits_are_the_model_s(
    tiny: Path, tokenizer: Any, rows: list[LearnedRow], logits_alone: Callable[..., Tensor], tmp_path: Path
):
    teacher = online(Config(teacher=str(tiny), teacher_dtype="float64"), tokenizer, CPU)
    assert teacher.prepare(rows, tmp_path) == {}
    signal = teacher.signal(rows, collate([row.example for row in rows]))
    found = chunk(signal, 0, len(signal.hidden))
    torch.testing.assert_close(found, logits_alone(rows), rtol=0, atol=1e-12)
    assert teacher.context == 512
    assert not any(one.requires_grad for one in (signal.hidden, signal.weight))


def test_at_student_equal_to_teacher_nothing_moves(
    tiny: Path, tokenizer: Any, rows: list[LearnedRow], logits_alone: Callable[..., Tensor],
    loss_and_gradient: Callable[..., tuple[Tensor, Tensor]],
):  # fmt: skip
    """Loss and gradient below 1e-12 in float64, although the batch is padded and reads shared starts once."""
    teacher = online(Config(teacher=str(tiny), teacher_dtype="float64"), tokenizer, CPU)
    batch = collate([row.example for row in rows])
    loss, gradient = loss_and_gradient(logits_alone(rows), teacher.signal(rows, batch), batch.labels)
    assert abs(loss) < 1e-12 and gradient.abs().max() < 1e-12


def test_another_tokenizer_is_refused(tiny: Path, tmp_path: Path, tokenizer: Any):
    """One token more, and two exchanged; the message says which objective takes it."""
    other = write_tiny_model(tmp_path / "other")
    theirs: Any = AutoTokenizer.from_pretrained(other)
    theirs.add_tokens(["<new>"])
    theirs.save_pretrained(other)
    with pytest.raises(
        DataError, match=r"another tokenizer than the student \(260 and 259 tokens, 259 of them"
    ) as told:
        online(Config(teacher=str(other)), tokenizer, CPU)
    assert "objective=likelihood_matching" in str(told.value)


def test_a_vocabulary_padded_to_another_size_is_taken(
    tiny: Path, tmp_path: Path, tokenizer: Any, rows: list[LearnedRow], logits_alone: Callable[..., Tensor],
    loss_and_gradient: Callable[..., tuple[Tensor, Tensor]],
):  # fmt: skip
    """The same weights under 11 more rows of the head, whose logits are large: cut, and the mass made 1 again."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model.resize_token_embeddings(270, mean_resizing=False)
    with torch.no_grad():
        model.lm_head.weight[259:] = 50 * model.lm_head.weight[:11]
    model.save_pretrained(tmp_path / "padded")
    tokenizer.save_pretrained(tmp_path / "padded")
    teacher = online(Config(teacher=str(tmp_path / "padded"), teacher_dtype="float64"), tokenizer, CPU)
    batch = collate([row.example for row in rows])
    signal = teacher.signal(rows, batch)
    assert len(signal.weight) == 270
    loss, gradient = loss_and_gradient(logits_alone(rows), signal, batch.labels)
    assert abs(loss) < 1e-12 and gradient.abs().max() < 1e-12


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_TEACHER_DEVICE", "gpu9")
    with pytest.raises(ParamsError, match=r"\$DATASTILL_TEACHER_DEVICE=gpu9"):
        teacher_device(CPU)
    monkeypatch.setenv("DATASTILL_TEACHER_DEVICE", "cpu")
    assert teacher_device(torch.device("meta")) == CPU


def test_a_teacher_whose_state_runs_on_reads_no_packed_rows(rows: list[LearnedRow]):
    """A network of states rather than of attention; padded rows it reads."""
    config = MambaConfig(vocab_size=300, hidden_size=8, state_size=4, num_hidden_layers=1, expand=1)
    teacher = OnlineTeacher(MambaForCausalLM(config).eval(), {})
    examples = [row.example for row in rows]
    teacher.signal(rows, collate(examples))
    with pytest.raises(MissingError, match="MambaForCausalLM mixes sequences that stand in one row; set layout=padded"):
        teacher.signal(rows, pack(examples)[1])
