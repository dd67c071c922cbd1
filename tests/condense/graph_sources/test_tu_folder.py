"""Oracles: graphs written by hand as the collection has them, counts by class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from condense.graph_sources.tu_folder import Config, tu_folder
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.graphs import GraphSet
from tests.tiny_graphs import random_graphs, write_tu

SIZES = {"train": 32, "validation": 4, "test": 4}


def graphs(raw: Path, split: str, **settings: float) -> GraphSet:
    found = tu_folder(Config.model_validate({"split": split, **settings}), raw)
    assert (found.licence, found.origin) == ("not stated", "TINY")
    return found.graphs


def test_the_parts_are_all_graphs_once(tmp_path: Path):
    raw = write_tu(tmp_path, random_graphs(40, 0))
    found = {split: graphs(raw, split) for split in SIZES}
    assert {split: len(some) for split, some in found.items()} == SIZES
    assert sorted(id for some in found.values() for id in some.ids) == sorted(f"TINY-{i + 1}" for i in range(40))
    for split, some in found.items():
        assert Counter(some.labels.tolist()) == {0: SIZES[split] // 2, 1: SIZES[split] // 2}


def test_a_graph_is_what_was_written(tmp_path: Path):
    wanted = random_graphs(40, 1)
    found = graphs(write_tu(tmp_path, wanted), "test")
    for g, id in enumerate(found.ids):
        one, other = found.take(np.array([g])), wanted.take(np.array([int(id.removeprefix("TINY-")) - 1]))
        np.testing.assert_array_equal(one.edges, other.edges)
        np.testing.assert_array_equal(one.node_labels, other.node_labels)
        assert one.labels == other.labels


def test_parts_are_of_the_seed(tmp_path: Path):
    raw = write_tu(tmp_path, random_graphs(40, 0))
    assert graphs(raw, "test").ids == graphs(raw, "test").ids != graphs(raw, "test", seed=1).ids
    assert len(graphs(raw, "train", test_share=0, validation_share=0)) == 40


def test_what_cannot_be_cut(tmp_path: Path):
    """A class with one graph has none left for another part."""
    few = random_graphs(6, 0)
    few.labels[:] = [0, 0, 0, 0, 0, 1]
    raw = write_tu(tmp_path, few)
    with pytest.raises(DataError, match=r"TINY: 6 graphs cannot be cut into parts of test_share 0.1"):
        graphs(raw, "train")
    assert len(graphs(raw, "train", test_share=0, validation_share=0)) == 6


def test_no_folder_of_the_collection(tmp_path: Path):
    with pytest.raises(ParamsError, match="--raw: method tu_folder needs it"):
        tu_folder(Config(), None)
    with pytest.raises(DataError, match=r"no file NAME_A.txt there, nor in its raw"):
        tu_folder(Config(), tmp_path)
