"""A teacher of another tokenizer; oracles: a softmax over its whole text, a student that is the teacher itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.backends.transformers_models import encode
from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.records import Prompt, Trace
from tests.tiny_tokenizers import trained
from trainers.batches import collate
from trainers.language_models import StudentModel
from trainers.lm_rows import LearnedRow
from trainers.objectives.likelihood_matching import likelihood_matching_of_hidden
from trainers.teachers.other_tokenizer import Config, other_tokenizer
from trainers.tokenizer_transfer import moved

CPU = torch.device("cpu")


def row(id: str, completion: str, tokenizer: Any) -> LearnedRow:
    prompt = Prompt(id=id, messages=[{"role": "user", "content": "say it"}])
    trace = Trace(id=id, prompt=prompt, completion=completion)
    return LearnedRow(id, encode(trace, tokenizer, frozenset({tokenizer.eos_token_id})), trace)


def test_likelihoods_are_those_of_the_whole_text(tiny: Path, tmp_path: Path):
    """The tiny model of bytes teaches subwords: by its logits over prompt and answer, the answer and its first word."""
    student = trained(330)
    rows = [row("a", "the thing", student), row("b", "a theory", student)]
    teacher = other_tokenizer(Config(teacher=str(tiny), tokenizer_bias=0.0), student, CPU)
    assert teacher.prepare(rows, tmp_path) == {}
    signal = teacher.signal(rows, collate([one.example for one in rows]))
    own: Any = AutoTokenizer.from_pretrained(tiny)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    blank = [own.convert_tokens_to_ids(symbol) for symbol in ("Ġ", "ĉ", "Ċ", "ċ", "Č", "č")]
    starting = [*blank, own.bos_token_id, own.eos_token_id, own.pad_token_id]
    totals = list[float]()
    for one, n_first in zip(rows, (len("the"), len("a")), strict=True):
        text = encode(one.trace, own, frozenset({own.eos_token_id}))
        with torch.no_grad():
            log_probs = model(input_ids=torch.tensor([text.tokens])).logits[0].log_softmax(-1)
        start = text.n_prompt_tokens
        each = [log_probs[i - 1, text.tokens[i]].item() for i in range(start, len(text))]
        totals.append(sum(each))
        word = sum(each[:n_first]) + log_probs[start + n_first - 1, starting].logsumexp(-1).item()
        if one.id == "a":
            assert signal.ends[0].item() >= 0
            assert signal.log_probs[0].item() == pytest.approx(word, abs=1e-4)
    assert signal.log_probs.sum().item() == pytest.approx(sum(totals), abs=1e-3)  # the chain rule


def test_a_student_that_is_the_teacher_learns_nothing(tiny: Path, tmp_path: Path):
    """The same model and tokenizer in float64: a chunk a token, and a gradient below 1e-12."""
    own: Any = AutoTokenizer.from_pretrained(tiny)
    rows = [row("a", "the thing", own), row("b", "no", own)]
    teacher = other_tokenizer(Config(teacher=str(tiny), teacher_dtype="float64"), own, CPU)
    teacher.prepare(rows, tmp_path)
    batch = collate([one.example for one in rows])
    signal = teacher.signal(rows, batch)
    assert signal.chunk.tolist() == list(range(int(batch.learned.sum())))
    assert (signal.starts < 0).all() and (signal.ends < 0).all()

    network = StudentModel(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64))
    loss = network(batch, lambda hidden, weight, bias: likelihood_matching_of_hidden(hidden, weight, signal, bias=bias))
    loss.sum.backward()
    gradients = [weight.grad.abs().max().item() for weight in network.parameters() if weight.grad is not None]
    assert gradients and max(gradients) < 1e-12
    assert loss.n.item() == len(signal.tokens)


def test_a_teacher_of_subwords_teaches_bytes(tiny: Path, tmp_path: Path):
    """The reverse: an answer's chunks make up the teacher's own log-prob of it, and say which bytes they are."""
    own: Any = AutoTokenizer.from_pretrained(tiny)
    wide = trained(330)
    subwords = moved(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), own, wide)
    subwords.save_pretrained(tmp_path)
    wide.save_pretrained(tmp_path)
    rows = [row("a", "there is a thin thread", own)]
    teacher = other_tokenizer(Config(teacher=str(tmp_path)), own, CPU)
    assert teacher.prepare(rows, tmp_path) == {}
    signal = teacher.signal(rows, collate([rows[0].example]))
    text = encode(rows[0].trace, wide, frozenset({wide.eos_token_id}))
    with torch.no_grad():
        log_probs = subwords(input_ids=torch.tensor([text.tokens])).logits[0].log_softmax(-1)
    each = [log_probs[i - 1, text.tokens[i]].item() for i in range(text.n_prompt_tokens, len(text))]
    assert signal.log_probs.sum().item() == pytest.approx(sum(each), abs=1e-3)
    first = own.decode(signal.tokens[signal.chunk == 0])
    assert "there is a thin thread".startswith(first) and 1 < len(signal.log_probs) <= len(each)


def test_rows_that_cannot_be_compared_are_told(tiny: Path, tmp_path: Path):
    """Another text of the same id, one beyond the teacher's 512 positions; the template's own complaint."""
    student = trained(330)
    good, long = row("good", "yes", student), row("long", "very " * 120, student)
    other = LearnedRow("other", good.example, row("other", "no", student).trace)
    empty = LearnedRow("empty", good.example, Trace(id="empty", prompt=Prompt(id="p", messages=[]), completion="yes"))
    teacher = other_tokenizer(Config(teacher=str(tiny)), student, CPU)
    refused = teacher.prepare([good, long, other, empty], tmp_path)
    assert {id: reason for id, (reason, _) in refused.items()}.items() >= {
        ("long", "too_long"),
        ("other", "other_text"),
    }
    assert "differ from byte 0 on: b'no" in refused["other"][1]
    with pytest.raises(DataError, match="row 'new' was not aligned"):
        teacher.signal([LearnedRow("new", good.example, good.trace)], collate([good.example]))


def test_a_teacher_without_a_template_is_refused(tiny: Path, tmp_path: Path):
    own: Any = AutoTokenizer.from_pretrained(tiny)
    own.chat_template = None
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    with pytest.raises(MissingError, match="has no chat template"):
        other_tokenizer(Config(teacher=str(tmp_path)), own, CPU)
