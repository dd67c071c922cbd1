"""Oracles: pieces cut by Python's regular expressions, and transformers' own tokenizer of the same folder."""

from pathlib import Path

import pytest

from datagen.backends.token_counts import Counted, TokenCounter
from datagen.contracts.errors import MissingError
from tests.tiny_model import write_tiny_model
from tests.word_tokenizer import pieces, write_word_tokenizer


def test_tokens_and_unknown_ones(tmp_path: Path):
    """`ox` and the exclamation mark were never seen."""
    counter = TokenCounter(str(write_word_tokenizer(tmp_path / "words", ["the fox ran."])))
    assert counter.count(["the fox.", "the ox!", ""]) == [
        Counted(n_tokens=len(pieces("the fox.")), n_unknown=0),
        Counted(n_tokens=len(pieces("the ox!")), n_unknown=2),
        Counted(n_tokens=0, n_unknown=0),
    ]


def test_counts_as_transformers_does(tmp_path: Path):
    from transformers import AutoTokenizer

    folder = write_tiny_model(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["A fox saw grapes.", "Wörter, 12 €\n\n", "x" * 5000]
    expected = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert [one.n_tokens for one in TokenCounter(str(folder)).count(texts)] == expected


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingError, match="has no tokenizer"):
        TokenCounter(str(tmp_path))
