"""What tests of judges share: a small classifier."""

import json
from pathlib import Path
from typing import Any

from tests.tiny_model import write_tiny_model

MAX_POSITIONS = 128


def write_classifier(folder: Path, labels: list[str], *, thresholds: dict[str, float] | None, **config: Any) -> Path:
    """A random BERT over bytes that tells segments apart, as train_encoder leaves one."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    write_tiny_model(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"Sequence": {"id": "B", "type_id": 1}}],
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    held = json.loads((folder / "tokenizer_config.json").read_text())
    held["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(held))
    torch.manual_seed(0)
    stored = {"datastill": {"thresholds": thresholds}} if thresholds else {}
    settings: dict[str, Any] = {"problem_type": "multi_label_classification"} | stored | config
    network = BertForSequenceClassification(
        BertConfig(
            vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            initializer_range=0.3, pad_token_id=2, id2label=dict(enumerate(labels)),
            max_position_embeddings=MAX_POSITIONS, **settings,
        )
    )  # fmt: skip
    network.save_pretrained(folder)
    return folder
