"""What a set was made of, by its manifest.

Source: none; that nobody is judged on what was learned from is asked of every evaluation.
"""

from pathlib import Path

from datagen.contracts.dataset import is_dataset, read_manifest


def made_of(path: Path) -> str | None:
    """Hash of the images or graphs that a set was made of, as its manifest says; None where it says nothing."""
    if not is_dataset(path):
        return None
    inputs = read_manifest(path).get("inputs", {})
    return inputs.get("images") or inputs.get("graphs")
