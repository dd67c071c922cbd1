"""Models moved to other tokenizers; oracles: rows by hand, logits of the old model, files read back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.tiny_tokenizers import TEXTS, trained
from trainers.byte_alignment import spellings
from trainers.tokenizer_transfer import byte_tokenizer, moved, sources, trained_tokenizer

WIDE = trained(330)


def model(*, tied: bool) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WIDE) + 6, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, eos_token_id=WIDE.eos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_a_byte_tokenizer_gives_bytes_and_is_read_back(tmp_path: Path):
    """UTF-8 of the text; special tokens, ends and template are the old ones'."""
    made = byte_tokenizer(WIDE)
    made.save_pretrained(tmp_path)
    for one in (made, AutoTokenizer.from_pretrained(tmp_path)):
        text = "naïve 🙂\n  x"
        assert one(text)["input_ids"] == list(text.encode())
        assert one.decode(one(text)["input_ids"]) == text
        assert (one.bos_token, one.eos_token, len(one)) == ("<s>", "</s>", 258)
        assert one("<s>a</s>")["input_ids"] == [one.bos_token_id, ord("a"), one.eos_token_id]
        assert one.chat_template == WIDE.chat_template


def test_a_trained_tokenizer_merges_what_texts_repeat():
    made = trained_tokenizer(TEXTS, 280, WIDE)
    assert len(made) == 280 + 2
    assert b"the" in spellings(made).values()
    assert made.decode(made(TEXTS[2])["input_ids"]) == TEXTS[2]
    assert spellings(made)[made.eos_token_id] == "</s>"


def test_sources_by_hand():
    """Equal bytes, longest parts first, a special token, an id of none, a byte that the old tokenizer lacks."""
    old = {0: b"a", 1: b"b", 2: b"ab", 3: "<s>"}
    new = {0: b"ab", 1: b"aba", 3: "<s>", 4: b"ac", 5: "<new>"}
    assert sources(old, new) == [[2], [2, 0], [], [3], [], []]


@pytest.mark.parametrize("tied", [True, False])
def test_a_byte_s_row_is_the_old_token_s(tied: bool):
    """So that on a text of bytes alone the old model's logits stand in other places."""
    old = model(tied=tied)
    new = byte_tokenizer(WIDE)
    copied = moved(old, WIDE, new)
    places = [WIDE.convert_tokens_to_ids(new.convert_ids_to_tokens(byte)) for byte in range(256)]
    text = torch.tensor([list("né".encode())])
    before = old(input_ids=torch.tensor(places)[text]).logits
    after = copied(input_ids=text).logits
    torch.testing.assert_close(after[..., :256], before[..., places], rtol=1e-5, atol=1e-5)
    assert after.shape[-1] == 258
    assert (copied.get_input_embeddings().weight is copied.get_output_embeddings().weight) == tied
    assert (copied.config.eos_token_id, copied.generation_config.eos_token_id) == (257, 257)


def test_a_subword_s_row_is_the_mean_of_its_bytes(tmp_path: Path):
    """From bytes to subwords; then saved and loaded by transformers."""
    torch.manual_seed(0)
    narrow = byte_tokenizer(WIDE)
    small = moved(model(tied=False), WIDE, narrow)
    copied = moved(small, narrow, WIDE)
    token = next(token for token, what in spellings(WIDE).items() if what == b"the")
    rows = small.get_output_embeddings().weight
    torch.testing.assert_close(copied.get_output_embeddings().weight[token], rows[list(b"the")].mean(dim=0))
    copied.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([WIDE("the theory")["input_ids"]])
    torch.testing.assert_close(loaded(input_ids=ids).logits, copied(input_ids=ids).logits)


def test_moving_there_and_back_keeps_what_both_have():
    """All single bytes and special tokens; the model given is left as it was."""
    old = model(tied=True)
    before = {name: weight.clone() for name, weight in old.state_dict().items()}
    narrow = byte_tokenizer(WIDE)
    back = moved(moved(old, WIDE, narrow), narrow, WIDE)
    kept = [token for token, what in spellings(WIDE).items() if isinstance(what, str) or len(what) == 1]
    torch.testing.assert_close(back.get_input_embeddings().weight[kept], before["model.embed_tokens.weight"][kept])
    assert all(torch.equal(weight, before[name]) for name, weight in old.state_dict().items())
