"""The sentence encoder; oracles: transformers one text at a time, sentences by hand."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from datagen.backends.embeddings import EMBEDDED, Encoder, resolve_encoder
from datagen.contracts.errors import MissingError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(EMBEDDED)


def test_a_vector_is_the_mean_of_the_last_states_whatever_stands_beside_it(encoder: Encoder):
    texts = ["A short one.", "A much longer text, which is about the sea, the wind and the sailors of the north.", "x"]
    vectors, of_text = encoder.encode(texts)
    assert of_text.tolist() == [0, 1, 2]
    folder = resolve_encoder(EMBEDDED).folder
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            mean = network(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(dim=1)[0]
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=0)


def test_a_rewording_is_nearer_than_another_question(encoder: Encoder):
    texts = ["How many apples are left in the box?", "What number of apples remain in the box?", "Who wrote Faust?"]
    vectors, _ = encoder.encode(texts)
    reworded, other = (vectors[0] @ vectors[1:].T).tolist()
    assert reworded > 0.85 and other < 0.3


def test_a_long_text_is_read_in_windows(encoder: Encoder):
    """600 words are more than two windows of 256 tokens; a short one has the same vector alone."""
    vectors, of_text = encoder.encode([" ".join(["sea"] * 600), "Who wrote Faust?"])
    assert of_text.tolist() == [0, 0, 0, 1] and vectors.shape == (4, 384)
    torch.testing.assert_close(vectors[3:], encoder.encode(["Who wrote Faust?"])[0], atol=1e-5, rtol=0)


def test_what_is_no_encoder_is_said(tmp_path: Path):
    with pytest.raises(MissingError, match="'nothing' is neither a folder nor a model of the Hub"):
        Encoder("nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingError, match=r"no 1_Pooling/config\.json; name a folder that"):
        Encoder(str(tmp_path))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(MissingError, match="names neither the mean nor the first token"):
        Encoder(str(tmp_path))
