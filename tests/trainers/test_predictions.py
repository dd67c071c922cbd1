"""Oracle: transformers' own logits of each row alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.backends.transformers_models import end_tokens
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from trainers.lm_rows import Bounds, select
from trainers.predictions import predict


def test_predictions_are_those_of_each_row_alone(tiny: Path, traces: Path):
    """In any order: batches come by length."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    rows, _ = select(
        Rows(traces, Trace, "test", InputParams()), Bounds(512, 512, 9), tokenizer, end_tokens(model, tokenizer),
        stage="test",
    )  # fmt: skip
    wanted: list[tuple[float, float, bool]] = []
    with torch.no_grad():
        for row in rows:
            tokens = torch.tensor(row.example.tokens)
            probs = model(input_ids=tokens[None]).logits[0].softmax(dim=-1)
            for at in range(row.example.n_prompt_tokens, len(tokens)):
                before, token = probs[at - 1], tokens[at]
                wanted.append((before[token].log().item(), before.max().item(), bool(before.argmax() == token)))
    found = predict(model, rows, 64)
    assert sorted(zip(*(one.tolist() for one in found), strict=True)) == [
        (pytest.approx(log_prob, abs=1e-5), pytest.approx(confidence, abs=1e-5), right)
        for log_prob, confidence, right in sorted(wanted)
    ]
