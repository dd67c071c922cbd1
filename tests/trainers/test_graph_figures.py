"""Oracles: pairs counted by hand."""

from dataclasses import replace

import numpy as np

from tests.tiny_graphs import graph_set
from trainers.graph_figures import size_alone

PATHS = {n: (n, [(i, i + 1) for i in range(n - 1)]) for n in (2, 3, 4, 5)}


def test_the_number_of_nodes_alone():
    """Of four pairs of one graph of each class the larger is of class 1 in three; where class 0 is larger, in one."""
    train = graph_set([PATHS[2], PATHS[3]], labels=[0, 1])
    test = graph_set([PATHS[2], PATHS[4], PATHS[3], PATHS[5]], labels=[0, 0, 1, 1])
    assert size_alone(train, test) == 0.75
    assert size_alone(replace(train, labels=np.array([1, 0])), test) == 0.25
    assert size_alone(replace(train, classes=("a", "b", "c")), test) is None
