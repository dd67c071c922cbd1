"""A random encoder of a few thousand weights, with a tokenizer of words, and rows that it can learn."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = ("glad", "grim", "odd", "sun", "rain", "said", "the", "a", "and", "was", "they", "had", "sea", "wind", "to")
HOLD = {"glad": "joy", "grim": "grief", "odd": "surprise"}  # a word's presence is its label


def write_tiny_encoder(folder: Path, *, kind: str = "bert") -> Path:
    """A transformers folder of a BERT, or of a RoBERTa or DistilBERT, which have no token types."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertModel,
        DistilBertConfig,
        DistilBertModel,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaModel,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS, *(str(i) for i in range(10))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    second = "$B:1 [SEP]:1" if kind == "bert" else "$B:0 [SEP]:0"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=f"[CLS]:0 $A:0 [SEP]:0 {second}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=names, model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    usual: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    network = {
        "bert": lambda: BertModel(BertConfig(**size, **usual)),
        "roberta": lambda: RobertaModel(RobertaConfig(**size, **usual, type_vocab_size=1)),
        "distilbert": lambda: DistilBertModel(DistilBertConfig(**size, dim=32, n_layers=2, n_heads=4, hidden_dim=48)),
    }[kind]()
    network.save_pretrained(folder)
    return folder


def labelled_rows(n: int, seed: int = 0) -> list[dict[str, object]]:
    """Texts of four to nine words; a row has the label of each word of HOLD that it has, some have none."""
    generator = random.Random(seed)
    rows: list[dict[str, object]] = []
    for i in range(n):
        words = generator.choices(WORDS, k=4 + i % 6)
        labels = sorted({HOLD[word] for word in words if word in HOLD})
        rows.append({"id": f"{seed}-{i}", "text": " ".join(words), "labels": labels})
    return rows


def write_rows(file: Path, rows: Sequence[object]) -> Path:
    """The rows as .jsonl."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
