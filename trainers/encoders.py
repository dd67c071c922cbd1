"""Encoder students: a small network learns the labels of texts, each class for itself.

Emo Pillars, arXiv:2504.16856: binary cross-entropy by AdamW, utterance and context as a pair, the threshold swept on
validation rows. Departures: labels may stay soft (`targets`), rare classes may weigh more (`class_weights`), and each
class may have a threshold of its own (`threshold_by`).
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_model
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Example, Rejection
from datagen.contracts.seeding import derive_seed
from trainers import loop
from trainers.students import check_usable, count_reasons, losses, train_shown, write_student

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch

    from trainers.objectives import SumCount
    from trainers.text_pairs import TextPair

STAGE = "train_encoder"
N_RESAMPLES = 1000  # of the validation rows, for the interval

log = logging.getLogger(__name__)


class Config(Params):
    """Who learns what.

    Attributes:
        model: `all-minilm-l6-v2`, or any encoder that transformers or sentence-transformers wrote: a folder or a hub
            name; a student of this stage too, whose head is kept where the labels are the same.
        labels: the classes; by default those of the training rows, sorted. A row with another label is rejected.
        targets: `soft` learns the labels' weights, `hard` 1 where a weight is at least `positive_from` and else 0.
        positive_from: the weight from which a label holds; the threshold is chosen by it.
        class_weights: `inverse` counts a row where the class holds as often as there are rows where it does not for
            each where it does, at most `max_class_weight` times and at least once.
        threshold_by: one threshold for all classes, or each class its own.
        max_tokens: of a row: a longer context is cut, a longer text is rejected.
        train_share: of the training rows, drawn at random; at most `max_train_rows` of them.
    """

    model: str = "all-minilm-l6-v2"
    labels: list[str] = Field(default=[])
    targets: Literal["soft", "hard"] = "soft"
    positive_from: float = Field(0.3, gt=0, le=1)
    class_weights: Literal["none", "inverse"] = "none"
    max_class_weight: float = Field(10.0, ge=1)
    threshold_by: Literal["all", "class"] = "all"
    max_tokens: int = Field(128, ge=4)
    train_share: float = Field(1.0, gt=0, le=1)
    max_train_rows: int = Field(1_000_000_000, ge=1)


class Steps(loop.Config):
    """How an encoder is trained: of the loop, other defaults, for MiniLM; larger ones want a tenth of its rate."""

    batch_size: int = Field(32, ge=1)
    micro_batch_tokens: int = Field(1024, ge=1)
    learning_rate: float = Field(4e-4, gt=0)
    schedule: loop.Schedule = "linear"
    weight_decay: float = Field(0.01, ge=0)


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against every Config of encoder students."""
    params = validate(section, Config, Steps, InputParams)
    labels = params[Config].labels
    if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        raise ParamsError(f"labels: each needs a name, and one of its own (got {labels})")
    return params


def fit(section: Mapping[str, Any], train: str, validation: str, checkpoints: str, out: str) -> dict[str, Any]:
    """Train on `train`, choose the thresholds on `validation`, and write the student into the folder `out`.

    Args:
        section: as `parse` takes it.
        train: dataset of Examples, or a file of them.
        validation: likewise, of other rows.
        checkpoints: folder of this training's checkpoints.
        out: gets the model in transformers' format with its tokenizer, loss.json, rejections.parquet, manifest.json.

    Returns:
        Counts, losses and the figures of the validation rows; of several processes the first's.

    Raises:
        DataError: no row is left, or too many cannot be used.
        MissingError: the model is no encoder.
        ParamsError: the model takes fewer tokens than `max_tokens`.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoTokenizer

    from datagen.backends.embeddings import resolve_encoder
    from datagen.backends.sequence_classifiers import max_positions
    from trainers.classifier import build, labels_of, start_at_shares
    from trainers.text_pairs import stack_targets

    params = parse(section)
    config, steps, bound = params[Config], params[Steps], params[InputParams].max_rejected_share
    is_main = PartialState(cpu=device_type() == "cpu").is_main_process
    base = resolve_encoder(config.model)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
    if tokenizer.pad_token_id is None:
        raise MissingError(f"model {config.model!r}: its tokenizer pads with no token; name an encoder")

    rows = {name: list(Rows(Path(path), Example, STAGE, params[InputParams]))
            for name, path in (("train", train), ("validation", validation))}  # fmt: skip
    if not (labels := config.labels or names_of(rows["train"])):
        raise DataError(f"{train}: no row has a label; name the classes in `labels`")
    drawn, not_drawn = draw(rows["train"], config, steps.seed)
    model, head = build(config.model, base.folder, labels, derive_seed(steps.seed, "head"))
    labels = labels_of(model.config)
    if (n := max_positions(model)) < config.max_tokens:
        raise ParamsError(f"max_tokens: {config.model} takes {n} at the most (got {config.max_tokens})")
    learned, rejected = _usable(train, encode_rows(drawn, labels, tokenizer, config.max_tokens), bound)
    checked, unchecked = _usable(
        validation, encode_rows(rows["validation"], labels, tokenizer, config.max_tokens), bound
    )
    rejections = not_drawn + rejected
    reasons = count_reasons(rejections)
    log.info("%s: trains on %d of %d rows, left out %s", STAGE, len(learned), len(rows["train"]), reasons or "none")

    weight = _class_weights(config, learned)
    if config.targets == "hard":
        learned = [replace(pair, targets=[float(held >= config.positive_from) for held in pair.targets])
                   for pair in learned]  # fmt: skip
    if head == "new":
        shares = stack_targets(learned, torch.device("cpu")).mean(dim=0)
        start_at_shares(model, shares if weight is None else shares * weight / (shares * weight + 1 - shares))
    loss = loss_of(weight, tokenizer.pad_token_id)
    records = train_shown(STAGE, model, learned, loss, steps, checkpoints, is_main=is_main)
    if not is_main:
        return {}
    metrics = {
        "rows": {"in": len(rows["train"]), "out": len(learned), "rejected": len(rejections)},
        "rejected": reasons,
        "n_contexts_cut": sum(row.is_cut for row in learned),
        "n_classes": len(labels),
        "head": head,
        **losses(records),
        "validation": {
            "rows": {"in": len(rows["validation"]), "out": len(checked), "rejected": len(unchecked)},
            **_choose_thresholds(model, tokenizer, checked, labels, config, steps),
        },
    }
    tokenizer.model_max_length = config.max_tokens
    manifest = {
        "stage": STAGE,
        "params": params.values(),
        **made_of({"train": Path(train), "validation": Path(validation)}, of_model(config.model, "base")),
        "labels": labels,
        "thresholds": model.config.datastill["thresholds"],
        **metrics,
    }
    write_student(Path(out), model, tokenizer, base, records, [*rejections, *unchecked], manifest)
    return metrics


def _usable(
    path: str, encoded: Sequence["TextPair | Rejection"], bound: float
) -> tuple[list["TextPair"], list[Rejection]]:
    """What can be used and what not, where that is at most the share `bound`."""
    pairs = [one for one in encoded if not isinstance(one, Rejection)]
    rejected = [one for one in encoded if isinstance(one, Rejection)]
    check_usable(path, rejected, len(encoded), bound, frozenset())
    if not pairs:
        raise DataError(f"{path}: no row is left: {count_reasons(rejected)}")
    return pairs, rejected


def names_of(rows: Sequence[Example | Rejection]) -> list[str]:
    """Every label's name, sorted."""
    return sorted({label["name"] for row in rows if isinstance(row, Example) for label in row.labels})


def draw(
    rows: Sequence[Example | Rejection], config: Config, seed: int
) -> tuple[list[Example | Rejection], list[Rejection]]:
    """The rows that are used, in order, and the rejections of the others."""
    n = min(max(1, round(config.train_share * len(rows))), config.max_train_rows)
    if n >= len(rows):
        return list(rows), []
    drawn = set(random.Random(derive_seed(seed, "rows")).sample(range(len(rows)), n))
    detail = f"{n} of {len(rows)} rows are drawn"
    others = [
        Rejection(id=row.id, stage=STAGE, reason="not_drawn", detail=detail)
        for i, row in enumerate(rows) if i not in drawn
    ]  # fmt: skip
    return [row for i, row in enumerate(rows) if i in drawn], others


def encode_rows(
    rows: Sequence[Example | Rejection], labels: Sequence[str], tokenizer: Any, max_tokens: int, stage: str = STAGE
) -> list["TextPair | Rejection"]:
    """Each row encoded, its targets the labels' weights, or its rejection where it cannot be used."""
    from trainers.text_pairs import encode

    known = set(labels)
    outcomes: list[TextPair | Rejection | None] = [_rejection_of(row, known, stage) for row in rows]
    usable = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome is None and isinstance(row, Example)]
    weights = [{label["name"]: label["weight"] for label in row.labels} for row in usable]
    targets = [[held.get(name, 0.0) for name in labels] for held in weights]
    encoded = zip(usable, encode(usable, targets, tokenizer, max_tokens), strict=True)

    def next_encoded() -> "TextPair | Rejection":
        row, pair = next(encoded)
        if not isinstance(pair, int):
            return pair
        detail = f"the text needs {pair} tokens, max_tokens is {max_tokens}"
        return Rejection(id=row.id, stage=stage, reason="too_long", detail=detail)

    return [outcome or next_encoded() for outcome in outcomes]


def holds(pairs: Sequence["TextPair"], positive_from: float) -> Any:
    """(N, C) bool array: whether each class holds in each row."""
    import numpy as np

    return np.array([pair.targets for pair in pairs], dtype=np.float64) >= positive_from


def _rejection_of(row: Example | Rejection, known: set[str], stage: str) -> Rejection | None:
    if isinstance(row, Rejection):
        return row
    other = next((label["name"] for label in row.labels if label["name"] not in known), None)
    if other is None:
        return None
    detail = f"the label {other!r} is none of the {len(known)} classes"
    return Rejection(id=row.id, stage=stage, reason="unknown_label", detail=detail)


def _class_weights(config: Config, learned: Sequence["TextPair"]) -> "torch.Tensor | None":
    """(C,) what a row counts where the class holds; None where all count 1."""
    import torch

    if config.class_weights == "none":
        return None
    n_held = torch.from_numpy(holds(learned, config.positive_from)).sum(dim=0)
    return ((len(learned) - n_held) / n_held.clamp(min=0.5)).clamp(1, config.max_class_weight)


def loss_of(
    weight: "torch.Tensor | None", pad_token: int
) -> "Callable[[torch.nn.Module, Sequence[TextPair], torch.device], SumCount]":
    """Binary cross-entropy of some rows, for the loop; `weight` (C,) as `binary_cross_entropy` takes it."""
    import torch

    from trainers.objectives.binary_cross_entropy import binary_cross_entropy
    from trainers.text_pairs import collate, stack_targets

    def loss(network: torch.nn.Module, rows: "Sequence[TextPair]", device: torch.device) -> "SumCount":
        logits: torch.Tensor = network(**collate(rows, pad_token, device)).logits
        mask = torch.ones_like(logits, dtype=torch.bool)
        return binary_cross_entropy(logits, stack_targets(rows, device), mask, positive_weight=weight)

    return loss


def _choose_thresholds(
    model: Any, tokenizer: Any, pairs: Sequence["TextPair"], labels: list[str], config: Config, steps: Steps
) -> dict[str, Any]:
    """Put the thresholds and what goes with them into the model's config; the validation rows' figures at them."""
    import numpy as np

    from trainers.class_figures import best_threshold, best_thresholds, figures, sweep
    from trainers.text_pairs import probabilities

    found = probabilities(model, pairs, tokenizer.pad_token_id, steps.micro_batch_tokens).double().numpy()
    truth = holds(pairs, config.positive_from)
    swept = sweep(found, truth)
    one = best_threshold(swept)
    thresholds = best_thresholds(swept) if config.threshold_by == "class" else np.full(len(labels), one)
    model.config.datastill = {
        "threshold": one,
        "thresholds": dict(zip(labels, thresholds.tolist(), strict=True)),
        "max_tokens": config.max_tokens,
        "positive_from": config.positive_from,
    }
    return {"threshold": one} | figures(labels, found, truth, thresholds, n_resamples=N_RESAMPLES, seed=steps.seed)
