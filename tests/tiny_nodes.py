"""A node graph that a graph network learns in a second: three groups, joined mostly among themselves."""

from pathlib import Path
from typing import Any

import numpy as np

N_CLASSES = 3


def tiny_nodes(n_each: int = 24, seed: int = 0) -> dict[str, Any]:
    """Arrays as `numpy.savez` takes them: features that hint at the group, four neighbours of five in the group."""
    random = np.random.default_rng(seed)
    n_nodes = n_each * N_CLASSES
    labels = np.arange(n_nodes) % N_CLASSES
    features = (random.random((n_nodes, 12)) < 0.15 + 0.3 * (np.arange(12) // 4 == labels[:, None])).astype(np.float32)
    same = random.integers(n_each, size=(2, 3 * n_nodes)) * N_CLASSES
    groups = random.integers(N_CLASSES, size=3 * n_nodes)
    edges = same + groups
    strays = random.random(3 * n_nodes) < 0.2
    edges[1, strays] = random.integers(n_nodes, size=strays.sum())
    part = random.permutation(n_nodes)
    return {
        "features": features, "edges": edges, "labels": labels, "train": part[:12], "validation": part[12:30],
        "test": part[30:],
    }  # fmt: skip


def write_nodes(path: Path, **changed: Any) -> Path:
    """An .npz of `tiny_nodes`; an array that is None is left out."""
    arrays = tiny_nodes() | changed
    np.savez(path, **{name: one for name, one in arrays.items() if one is not None})
    return path
