"""Condensed sets among the report's inputs, whatever they are of.

Source: none.
"""

from pathlib import Path
from typing import Any

from datagen.contracts.dataset import is_dataset, read_manifest
from datagen.contracts.errors import DataError

Row = dict[str, Any]


def find_sets(folder: Path, stage: str) -> dict[str, Path]:
    """Name to set, by name: those in a folder, or the folder where it is one.

    Raises:
        DataError: another stage than this one wrote one of them.
    """
    paths = [folder] if is_dataset(folder) else [path for path in sorted(folder.iterdir()) if is_dataset(path)]
    for path in paths:
        written_by(path, stage)
    return {path.name: path for path in paths}


def written_by(dataset: Path, stage: str) -> Row:
    """The manifest of what a stage wrote.

    Raises:
        DataError: another one wrote it.
    """
    manifest = read_manifest(dataset)
    if manifest.get("stage") != stage:
        raise DataError(f"{dataset}: expected what {stage} writes, found {manifest.get('stage', 'another folder')}")
    return manifest
