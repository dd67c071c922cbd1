"""Oracle: clusters planted far apart, whose best centres are their means; scikit-learn's own k-means."""

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from condense.coresets import Candidates
from condense.coresets.k_means import Config, k_means
from datagen.contracts.seeding import derive_seed


def test_the_row_nearest_the_mean_of_each_planted_cluster():
    """Three clusters a class, 100 apart, of radius 1; the seeds of k-means++ find them with ten restarts."""
    draw = np.random.default_rng(0)
    places = np.array([[0, 0], [100, 0], [0, 100], [300, 300], [400, 300], [300, 400]])
    clusters = [place + draw.uniform(-1, 1, (20, 2)) for place in places]
    nearest = [int(((one - one.mean(axis=0)) ** 2).sum(axis=1).argmin()) for one in clusters]
    order = draw.permutation(120)
    candidates = Candidates(features=np.concatenate(clusters)[order], labels=np.repeat([0, 1], 60)[order])
    chosen = order[k_means(Config.model_validate({}), candidates, [3, 3], seed=5)]
    expected = [20 * i + row for i, row in enumerate(nearest)]
    assert set(chosen[:3]) == set(expected[:3]) and set(chosen[3:]) == set(expected[3:])


def test_one_row_is_the_nearest_to_the_mean():
    features = np.random.default_rng(1).normal(size=(30, 4))
    chosen = k_means(
        Config.model_validate({}), Candidates(features=features, labels=np.zeros(30, dtype=np.int64)), [1], seed=0
    )
    assert chosen.tolist() == [((features - features.mean(axis=0)) ** 2).sum(axis=1).argmin()]


@pytest.mark.parametrize("seed", range(4))
def test_each_centre_of_scikit_learn_gets_its_nearest_row(seed: int):
    """No pairing has a smaller sum (all are tried); where no two centres share a row, each row is at its least."""
    features = np.random.default_rng(seed).normal(size=(8, 2))
    candidates = Candidates(features=features, labels=np.zeros(8, dtype=np.int64))
    chosen = k_means(Config.model_validate({"n_restarts": 3}), candidates, [4], seed=seed)
    state = derive_seed(seed, "k_means", 0) % 2**32
    make: Any = KMeans  # its types are guessed from defaults
    centres = make(4, n_init=3, random_state=state).fit(features).cluster_centers_
    squared = ((centres[:, None] - features) ** 2).sum(axis=2)
    least = min(sum(squared[i, row] for i, row in enumerate(rows)) for rows in itertools.permutations(range(8), 4))
    assert len(set(chosen.tolist())) == 4
    assert squared[range(4), chosen].sum() == pytest.approx(least, rel=1e-12)
    if len(set(squared.argmin(axis=1).tolist())) == 4:
        assert squared[range(4), chosen] == pytest.approx(squared.min(axis=1), rel=1e-12)


def test_equal_rows_are_chosen_once_each():
    candidates = Candidates(features=np.ones((5, 3), dtype=np.float32), labels=np.zeros(5, dtype=np.int64))
    for size in (2, 4, 5):
        assert len(set(k_means(Config.model_validate({}), candidates, [size], seed=0).tolist())) == size
