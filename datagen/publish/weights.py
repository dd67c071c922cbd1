"""A student as the folder that goes to the Hub: weights, tokenizer and settings at the top, as libraries load them.

model.safetensors, config.json, ...   what the stage wrote for its library, and the licence of the base
datastill/manifest.json               what the stage says of the training; its losses and rejected rows beside it
"""

from pathlib import Path
from typing import Any

from datagen.contracts.dataset import content_hash, read_manifest
from datagen.publish.layout import Layout
from datagen.publish.places import copy_clean

_BESIDE = frozenset({"manifest.json", "loss.json", "rejections.parquet"})


def is_student(path: Path) -> bool:
    """Whether the directory holds weights and no rows."""
    record: Any = read_manifest(path).get("record")
    weights = [file for file in path.glob("*.safetensors") if not file.name.startswith("part-")]
    return bool(weights) and not any(path.glob("part-*")) and (record is None or str(record).endswith("Students"))


def lay_out_student(path: Path, to: Path) -> Layout:
    """Write a student as a folder for the Hub.

    Args:
        path: what a train stage wrote.
        to: an empty or new folder.

    Raises:
        DataError: a file that the manifest names is missing.
    """
    names = ["manifest.json", *read_manifest(path).get("files", {})]
    targets = {name: f"datastill/{name}" if name in _BESIDE else name for name in names}
    others = copy_clean(path, to, targets)
    return Layout(
        kind="model",
        folder=to,
        sources={"train": path},
        hash=content_hash(path),
        record=None,
        configs={},
        patterns={},
        features={},
        n_rows={},
        n_bytes={},
        others=others,
    )
