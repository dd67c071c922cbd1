"""The labels that a trained classifier gives: any that transformers serves, such as what train_encoder writes.

What is known beforehand is the first segment, context and then who speaks, and the text the second; a text without
either is alone, as train_encoder's students read it. What is too long loses the end of its context; a text that is too
long by itself is not judged. Of a model whose labels hold each for itself (multi_label_classification) those hold whose
sigmoid reaches the threshold; of another one the most probable label holds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datagen.agreement.labels import Answers, Labels, LabelSet, NoAnswer
from datagen.backends.models import Model
from datagen.backends.sequence_classifiers import load_classifier, max_positions, segments
from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import DataError
from datagen.contracts.records import Example

BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What the classifier said.

    Attributes:
        answers: of each row, in order.
        labels: those of ours that it knows.
        unknown: its own that are none of ours.
        thresholds: from which its labels hold, None of a model of one label a text.
    """

    answers: Answers
    labels: list[str]
    unknown: list[str]
    thresholds: dict[str, float] | None


def classify(model: Model, rows: Sequence[Example], labels: Labels, threshold: float | None) -> Classified:
    """The labels of each row; `NoAnswer` says `too_long` or `not_a_number`.

    Args:
        model: a folder with a sequence classifier and its tokenizer.
        rows: to label.
        labels: ours; the classifier's are found among them by name, and others do not count.
        threshold: from which a label holds, in place of the model's own.

    Raises:
        MissingError: a package is missing, or the folder holds no trained classifier.
        DataError: none of the labels is the classifier's, or it has no threshold.
    """
    network, tokenizer = _load(model)
    given = [network.config.id2label[i] for i in range(network.config.num_labels)]
    ours = _names_of_ours(model, given, labels)
    stored: dict[str, Any] = getattr(network.config, "datastill", None) or {}
    is_apart = network.config.problem_type == "multi_label_classification"
    thresholds = _thresholds(model, given, stored, threshold) if is_apart else None
    max_tokens = stored.get("max_tokens") or min(tokenizer.model_max_length, max_positions(network))
    encoded = [_encode(row, tokenizer, max_tokens) for row in rows]
    answers: list[LabelSet | NoAnswer] = [one if isinstance(one, NoAnswer) else frozenset() for one in encoded]
    order = sorted((i for i, one in enumerate(encoded) if isinstance(one, dict)), key=lambda i: _length(encoded[i]))
    batch_size = BATCH_SIZE if tokenizer.pad_token_id is not None else 1
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found = _probabilities(network, tokenizer, [encoded[i] for i in batch], is_apart=is_apart)
        for i, row in zip(batch, found, strict=True):
            answers[i] = _answer(row, ours, labels, None if thresholds is None else list(thresholds.values()))
    return Classified(
        answers=answers,
        labels=[name for name in labels.names if name in ours],
        unknown=[name for name, one in zip(given, ours, strict=True) if one is None],
        thresholds=thresholds,
    )


def _load(model: Model) -> tuple[Any, Any]:
    """Network and tokenizer."""
    network, tokenizer = load_classifier(f"classifier {model.name!r}", model.folder)
    return network.to(device_type()).eval(), tokenizer


def _names_of_ours(model: Model, given: list[str], labels: Labels) -> list[str | None]:
    """Of each of the classifier's labels which of ours it is."""
    ours = [labels.find(name) for name in given]
    if twice := [name for name, n in Counter(name for name in ours if name is not None).items() if n > 1]:
        raise DataError(f"classifier {model.name!r}: two of its labels are {twice[0]!r}; name another classifier")
    if not any(ours):
        raise DataError(
            f"classifier {model.name!r}: its labels ({', '.join(given[:5])}, ...) are none of these "
            f"({', '.join(labels.names[:5])}, ...); name a classifier of the same labels"
        )
    return ours


def _probabilities(
    network: Any, tokenizer: Any, rows: list[dict[str, list[int]] | NoAnswer], *, is_apart: bool
) -> list[list[float]]:
    import torch

    inputs = tokenizer.pad(rows, return_tensors="pt").to(network.device)
    with torch.inference_mode():
        logits = network(**inputs).logits.float()
    return (logits.sigmoid() if is_apart else logits.softmax(dim=-1)).tolist()


def _thresholds(model: Model, given: list[str], stored: dict[str, Any], threshold: float | None) -> dict[str, float]:
    if threshold is not None:
        return dict.fromkeys(given, threshold)
    if "thresholds" not in stored:
        raise DataError(f"classifier {model.name!r}: it brings no thresholds; give one, such as threshold=0.5")
    return {name: float(stored["thresholds"][name]) for name in given}


def _encode(row: Example, tokenizer: Any, max_tokens: int) -> dict[str, list[int]] | NoAnswer:
    first, second = segments(row)
    whole = dict(tokenizer(first, second, verbose=False))
    if _length(whole) <= max_tokens:
        return whole
    n_text = len(tokenizer(row.text, add_special_tokens=False, verbose=False)["input_ids"])
    needed = (
        n_text + tokenizer.num_special_tokens_to_add(pair=second is not None) + (second is not None)
    )  # 1 token of the context
    if needed > max_tokens:
        return NoAnswer("too_long", f"the text needs {needed} tokens, the classifier reads {max_tokens}")
    return dict(tokenizer(first, second, truncation="only_first", max_length=max_tokens))


def _length(encoded: Any) -> int:
    return len(encoded["input_ids"])


def _answer(
    probabilities: list[float], ours: list[str | None], labels: Labels, thresholds: list[float] | None
) -> LabelSet | NoAnswer:
    if any(one != one for one in probabilities):
        return NoAnswer("not_a_number", "the classifier's logits are no numbers")
    if thresholds is None:
        held = [ours[max(range(len(ours)), key=probabilities.__getitem__)]]
    else:
        held = [name for name, one, least in zip(ours, probabilities, thresholds, strict=True) if one >= least]
    known = [name for name in held if name is not None]
    return labels.of(known) if known or not held else frozenset()  # of labels that are none of ours, not neutral
