"""Oracles: clusters planted far apart, distances of all pairs, a variance by hand."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from condense.quantisation import codes_of, fit_codebook, loss, quantised
from datagen.contracts.errors import DataError
from tests.tiny_graphs import graph_set


def test_planted_clusters_are_found():
    generator = np.random.default_rng(0)
    centres = np.array([[-100, 0], [0, 50], [80, 80]])
    features = (centres[generator.integers(0, 3, 200)] + generator.normal(size=(200, 2))).astype(np.float32)
    codebook = fit_codebook(features, 3, seed=0)
    assert codebook.dtype == np.float32 and np.abs(codebook - centres).max() < 0.5
    assert loss(features, codebook) < 0.001


def test_the_codebook_does_not_depend_on_the_cpus():
    """Processes that may use one thread and four; in float32 by all threads the two differ."""
    code = (
        "import numpy as np; from condense.quantisation import fit_codebook;"
        "x = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32);"
        "print(fit_codebook(x, 16, seed=0).tobytes().hex())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": n}, capture_output=True, check=True
        ).stdout
        for n in ("1", "4")
    ]
    assert found[0] == found[1] and len(found[0]) > 300


def test_rows_that_are_few_are_the_codebook():
    features = np.array([[3], [1], [3], [2]], np.float32)
    codebook = fit_codebook(features, 3, seed=0)
    assert codebook.tolist() == [[1], [2], [3]] and loss(features, codebook) == 0
    assert codes_of(features, codebook).tolist() == [2, 0, 2, 1]


def test_the_nearest_of_all():
    generator = np.random.default_rng(1)
    features, codebook = generator.normal(size=(50, 3)).astype(np.float32), generator.normal(size=(7, 3)).astype("f4")
    distances = np.linalg.norm(features[:, None] - codebook[None], axis=2)
    assert codes_of(features, codebook).tolist() == distances.argmin(axis=1).tolist()
    assert codes_of(np.array([[1]], np.float32), np.array([[0], [2]], np.float32)).tolist() == [0]


def test_a_loss_by_hand():
    """0, 2 and 4 vary by 8 around their mean; by codes 0 and 3 what is left is 1 + 1."""
    features, codebook = np.array([[0], [2], [4]], np.float32), np.array([[0], [3]], np.float32)
    assert loss(features, codebook) == pytest.approx(2 / 8)
    assert loss(np.ones((3, 1), np.float32), codebook) == 0


def test_codes_are_one_more_label():
    graphs = graph_set([(2, [(0, 1)])], node_labels=[7, 8], node_features=[[0.9], [5]], labels=[1])
    found = quantised(graphs, np.array([[1], [4]], np.float32))
    assert found.node_labels.tolist() == [[7, 0], [8, 1]] and found.node_features.shape == (2, 0)
    bare = replace(graphs, node_labels=graphs.node_labels[:, :0])
    assert quantised(bare, np.array([[1], [4]], np.float32)).node_labels.tolist() == [[0], [1]]


def test_a_codebook_of_other_features():
    graphs = graph_set([(1, [])], labels=[1])
    with pytest.raises(DataError, match="nodes have 0 continuous features, the codebook 2; give graphs of the set"):
        quantised(graphs, np.zeros((3, 2), np.float32))
