"""Oracles: the tokenizer one row at a time, the network one row at a time without padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from datagen.backends.sequence_classifiers import max_positions
from datagen.contracts.records import Example
from tests.tiny_encoder import write_tiny_encoder
from trainers.classifier import build, labels_of, start_at_shares
from trainers.text_pairs import TextPair, collate, encode, probabilities, stack_targets


@pytest.fixture(scope="module", params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"), kind=request.param)


def example(text: str, context: str | None = None, character: str | None = None) -> Example:
    return Example(id=text, text=text, context=context, character=character)


def test_rows_are_encoded_as_the_tokenizer_does_it_alone(folder: Path):
    """Text alone, context and text, context and character and text, character and text, in one call."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = [example("the sun"), example("a sea", "the wind"), example("a", "the", "glad"), example("was", None, "grim")]
    read = encode(rows, [[float(i)] for i in range(4)], tokenizer, 32)
    for i, (pair, texts) in enumerate(
        zip(read, [("the sun",), ("the wind", "a sea"), ("the glad", "a"), ("grim", "was")], strict=True)
    ):
        alone = tokenizer(*texts)
        assert pair == TextPair(alone["input_ids"], alone.get("token_type_ids"), [float(i)])
    if "token_type_ids" in tokenizer.model_input_names:
        assert isinstance(read[1], TextPair) and read[1].token_types == [0, 0, 0, 0, 1, 1, 1]


def test_the_end_of_a_context_is_cut_and_never_the_text(folder: Path):
    """Nine tokens: three special ones, the text's four, two of the context; a text that leaves it none does not fit."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = [
        example("a sea had wind", "the sun was odd"), example("a a a a a", "the sun"), example("a a a a a a", "the"),
        example("a " * 7), example("a " * 8),
    ]  # fmt: skip
    cut, just, without, fits, beyond = encode(rows, [[]] * 5, tokenizer, 9)
    assert isinstance(cut, TextPair) and cut.is_cut
    assert tokenizer.decode(cut.tokens) == "[CLS] the sun [SEP] a sea had wind [SEP]"
    assert isinstance(just, TextPair) and just.is_cut and len(just) == 9
    assert isinstance(fits, TextPair) and not fits.is_cut and len(fits) == 9
    assert (without, beyond) == (10, 10)


def test_probabilities_are_those_of_each_row_alone(folder: Path):
    """Whatever rows share a batch, and in the rows' own order."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model, head = build("tiny", folder, ["x", "y"], 1)
    assert head == "new"
    rows = [example("the " * (1 + i % 7), "sun" if i % 3 else None) for i in range(20)]
    pairs = [pair for pair in encode(rows, [[]] * 20, tokenizer, 32) if isinstance(pair, TextPair)]
    found = probabilities(model, pairs, tokenizer.pad_token_id, 40)
    for row, ours in zip(rows, found, strict=True):
        texts = [row.text] if row.context is None else [row.context, row.text]
        with torch.inference_mode():
            alone = model(**tokenizer(*texts, return_tensors="pt")).logits.sigmoid()[0]
        torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)


def test_padding_is_on_the_right_and_not_attended_to():
    rows = [TextPair([2, 5, 3], [0, 0, 1], [1.0, 0.5]), TextPair([2, 3], [0, 0], [0.0, 0.0])]
    batch = collate(rows, 7, torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[2, 5, 3], [2, 3, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert stack_targets(rows, torch.device("cpu")).tolist() == [[1.0, 0.5], [0.0, 0.0]]


def test_a_new_head_is_drawn_by_the_seed_and_the_body_is_the_folder_s(folder: Path):
    """Oracle: transformers' own loader of the body."""
    from transformers import AutoModel

    body = AutoModel.from_pretrained(folder).state_dict()
    (one, _), (same, _), (other, _) = (build("tiny", folder, ["x", "y"], seed) for seed in (1, 1, 2))
    for name, weight in one.base_model.state_dict().items():
        assert torch.equal(weight, body[name])
    states = [model.state_dict() for model in (one, same, other)]
    head = next(name for name in states[0] if name.startswith("classifier") and name.endswith("weight"))
    assert torch.equal(states[0][head], states[1][head]) and not torch.equal(states[0][head], states[2][head])
    assert one.config.problem_type == "multi_label_classification"


def test_a_head_is_kept_where_the_labels_are_the_same_whatever_their_order(folder: Path, tmp_path: Path):
    model, _ = build("tiny", folder, ["x", "y"], 1)
    model.save_pretrained(tmp_path)
    kept, head = build("tiny", tmp_path, ["y", "x"], 2)
    assert head == "kept" and labels_of(kept.config) == ["x", "y"]
    stored = AutoModelForSequenceClassification.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(weight, stored[name]) for name, weight in kept.state_dict().items())
    assert build("tiny", tmp_path, ["x", "z"], 2)[1] == "new"


def test_positions_end_where_the_embeddings_do(folder: Path):
    """64 of a BERT; of a RoBERTa 63, as its first is the padding's; one token more fails there."""
    model, _ = build("tiny", folder, ["x"], 1)
    n = max_positions(model)
    assert n == (64 if model.config.model_type == "bert" else 63)
    model(input_ids=torch.full((1, n), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, n + 1), 5))


def test_a_new_head_starts_at_the_classes_shares(folder: Path):
    """With the last layer's weights at zero the probabilities are the shares, ends of [0, 1] kept off by 1e-4."""
    model, _ = build("tiny", folder, ["x", "y", "z"], 1)
    start_at_shares(model, torch.tensor([0.25, 0.0, 1.0]))
    last = [module for module in model.classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.nn.init.zeros_(last.weight)
    (found,) = probabilities(model, [TextPair([2, 5, 3], None, [])], 0, 10)
    assert found.tolist() == pytest.approx([0.25, 1e-4, 1 - 1e-4], rel=1e-4)
