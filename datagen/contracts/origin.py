"""How the attempts in a dataset were made, passed on from manifest to manifest.

The traces stage alone knows it. A stage that keeps some of its rows writes what it read here under `origin`, so that
filters and verifiers may follow each other in any order and none forgets who was asked, at what price, and whether the
attempts at a prompt ended on success.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import is_dataset, read_manifest

_PRICES = ("price_per_million_prompt_tokens", "price_per_million_completion_tokens", "batch_price_share")


def read_origin(path: Path) -> dict[str, Any]:
    """What a stage's output says of its attempts; empty for a file, or where no traces stage made them.

    Returns:
        `method` of the traces stage, its `teacher`, and in `prices` the parameters that say what a token cost.
    """
    if not is_dataset(path):
        return {}
    manifest = read_manifest(path)
    if manifest.get("stage") != "traces":
        return manifest.get("origin", {})
    params: Mapping[str, Any] = manifest.get("params", {})
    prices = {name: params[name] for name in _PRICES if params.get(name) is not None}
    return {"method": manifest.get("method"), "teacher": manifest.get("teacher", {}), "prices": prices}


def with_origin(manifest: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`manifest`, and the origin of the attempts in the input `path` where that says one."""
    origin = read_origin(path)
    return {**manifest, "origin": origin} if origin else dict(manifest)


def is_stopped(origin: Mapping[str, Any]) -> bool:
    """Whether the attempts at a prompt ended on success, so that their number depends on their outcome."""
    return origin.get("method") == "until_verified"
