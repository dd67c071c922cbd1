"""Encoders with a head of classes, as `transformers.pipeline("text-classification")` serves them.

Config.json holds the classes in `id2label`, and under `datastill` the thresholds and how long a row may be.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from datagen.backends.sequence_classifiers import load_classifier, max_positions
from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import DataError, MissingError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model that classifies, with what it needs to read a row.

    Attributes:
        labels: its classes, in the order of its logits.
        max_tokens: of a row.
        pad_token: its tokenizer's.
        stored: what config.json holds under `datastill`; empty of a model that train_encoder did not write.
    """

    folder: Path
    network: Any
    tokenizer: Any
    labels: list[str]
    max_tokens: int
    pad_token: int
    stored: dict[str, Any]

    def thresholds(self, given: float | None) -> NDArray[np.float64]:
        """(C,) `given` for each class, or the stored ones.

        Raises:
            DataError: none is given, and none stored.
        """
        if given is not None:
            return np.full(len(self.labels), given)
        if "thresholds" not in self.stored:
            raise DataError(f"{self.folder}: no thresholds are stored with this model; set one, such as threshold=0.5")
        return np.array([self.stored["thresholds"][label] for label in self.labels])


def open_classifier(folder: Path, n_threads: int) -> Classifier:
    """The model in `folder`, in float32, for evaluation.

    Raises:
        DataError: its classes are not each for itself.
        MissingError: it is no encoder that transformers knows.
    """
    disable_progress_bar()
    if device_type() == "cpu":
        torch.set_num_threads(n_threads)
    config: Any = _of_architecture(folder.name, AutoConfig.from_pretrained, folder)
    if not (labels := labels_of(config)):
        raise DataError(
            f"{folder}: its config.json does not say problem_type multi_label_classification; run train_encoder, "
            "or name another model"
        )
    network, tokenizer = load_classifier(f"model {folder.name!r}", folder)
    if tokenizer.pad_token_id is None:
        raise MissingError(f"model {folder.name!r}: its tokenizer has no padding token; add pad_token to its config")
    stored: dict[str, Any] = getattr(config, "datastill", {})
    return Classifier(
        folder=folder,
        network=network.to(device_type()),
        tokenizer=tokenizer,
        labels=labels,
        max_tokens=stored.get("max_tokens") or min(max_positions(network), tokenizer.model_max_length),
        pad_token=tokenizer.pad_token_id,
        stored=stored,
    )


def build(name: str, folder: Path, labels: Sequence[str], seed: int) -> tuple[Any, str]:
    """The encoder in `folder` with a head of `labels`, in float32, and where the head comes from: `kept` or `new`.

    A head is kept, in the order of its own, where its labels are these; else it is drawn anew, as transformers does.

    Raises:
        MissingError: the folder holds no encoder that transformers knows.
    """
    disable_progress_bar()
    config: Any = _of_architecture(name, AutoConfig.from_pretrained, folder)
    if set(labels_of(config)) == set(labels):
        log.info("goes on with the %d classes that %s has", len(labels), name)
        return load_classifier(f"model {name!r}", folder)[0], "kept"
    had = f", in place of its {len(old)} other classes" if (old := labels_of(config)) else ""
    log.info("puts a new head of %d classes on %s%s", len(labels), name, had)
    torch.manual_seed(seed)  # also of what transformers draws where the base lacks it, such as a pooler
    body: Any = _of_architecture(name, AutoModel.from_pretrained, folder, dtype=torch.float32)
    config = body.config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.num_labels = len(labels)
    config.problem_type = "multi_label_classification"
    model: Any = _of_architecture(name, AutoModelForSequenceClassification.from_config, config, dtype=torch.float32)
    missing, more = model.base_model.load_state_dict(body.state_dict(), strict=False)
    if missing or any(not key.startswith("pooler.") for key in more):  # some heads have a pooler of their own
        raise MissingError(f"model {name!r}: {type(model).__name__} does not take its weights ({[*missing, *more][0]})")
    return model, "new"


def start_at_shares(model: Any, shares: torch.Tensor) -> None:
    """Set the bias of a new head so that each class starts at about its share (C,) of the rows, in [0, 1].

    Lin et al. 2017, arXiv:1708.02002, section 4.1: else the first steps go into how rare the classes are. A head
    without a bias stays as it is.
    """
    body = {id(module) for module in model.base_model.modules()}
    last = [
        module for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == len(shares) and id(module) not in body
    ]  # fmt: skip
    if last and last[-1].bias is not None:
        with torch.no_grad():
            last[-1].bias.copy_(shares.clamp(1e-4, 1 - 1e-4).logit())


def labels_of(config: Any) -> list[str]:
    """The classes of a model that classifies, in order; none of one that does not."""
    if config.problem_type != "multi_label_classification":
        return []
    return [config.id2label[i] for i in range(config.num_labels)]


def _of_architecture(name: str, load: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return load(*arguments, **options)
    except (OSError, SafetensorError) as error:
        said = " ".join(str(error).split())
        raise MissingError(f"model {name!r} cannot be loaded from its folder: {said}; write it again") from None
    except ValueError as error:  # transformers knows no such architecture, or none with a head of classes
        raise MissingError(f"model {name!r} is no encoder that classifies: {str(error).splitlines()[0]}") from None
