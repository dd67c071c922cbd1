"""Coresets of graphs: as many real graphs as so many bytes pay for, chosen by a method of `condense.coresets`.

Source: none; bytes are those of condense/condensed_graphs.py, whatever is condensed.
"""

import numpy as np

from condense.condensed_graphs import as_condensed, count_bytes
from condense.coresets import Candidates
from condense.coresets._classes import class_sizes
from datagen.contracts.errors import ParamsError
from datagen.contracts.graphs import Floats, GraphSet, Ints
from datagen.contracts.params import Params
from datagen.contracts.stage import load_method

AHEAD = 5  # graphs


def choose_within(
    method: str,
    graphs: GraphSet,
    features: Floats,
    byte_budget: int,
    seed: int,
    *,
    config: Params | None = None,
    codebook: Floats | None = None,
) -> Ints:
    """Positions of the coreset's graphs, class by class; as many of each class, see `class_sizes`.

    How many is found by bisection, and then `AHEAD` more are tried for as long as one of them fits: a longer choice
    need not hold the shorter one, so it may take fewer bytes.

    Args:
        method: of `condense.coresets`; one that graphs alone are enough for.
        graphs: to choose among.
        features: (G, D), see `condense.graph_embedding`.
        byte_budget: of the stored coreset.
        seed: of what is drawn.
        config: of the method; by default its defaults.
        codebook: that is stored with the graphs.

    Raises:
        ParamsError: the budget pays for no graph of each class, or the method needs what graphs have not.
    """
    module = load_method("condense.coresets", method)
    config = config or module.Config()
    candidates = Candidates(features=features, labels=graphs.labels.astype(np.int64))
    counts = np.bincount(graphs.labels, minlength=len(graphs.classes)).tolist()
    chosen: dict[int, Ints] = {}
    costs: dict[int, int] = {}

    def fits(n_graphs: int) -> bool:
        if n_graphs not in costs:
            sizes = class_sizes(n_graphs, counts)
            chosen[n_graphs] = getattr(module, method)(config, candidates, sizes, seed=seed)
            costs[n_graphs] = count_bytes(as_condensed(graphs.take(chosen[n_graphs]), codebook))["total"]
        return costs[n_graphs] <= byte_budget

    least, most = sum(count > 0 for count in counts), len(graphs)
    mean = count_bytes(graphs)["total"] / most
    low = high = min(max(int(byte_budget / mean), least), most)  # near it, so that no large choice is made for nothing
    step = 1
    while not fits(low):
        if low == least:
            raise ParamsError(
                f"byte_budget: a graph of each class takes {costs[low]} bytes as {method} chooses (got {byte_budget})"
            )
        low, high, step = max(low - step, least), low, 2 * step
    while low == high and high < most:
        high = min(low + step, most)
        if fits(high):
            low, step = high, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    while longer := [n for n in range(low + 1, min(low + AHEAD, most) + 1) if fits(n)]:
        low = longer[-1]
    return chosen[low]
