"""The arms of the evaluation of graphs and their students; what is compared and how says `trainers.graph_protocol`.

A bench as `trainers.comparison.Kind` wants it: sizes are bytes, those of a coreset what it may spend.

Source: none; budgets in bytes in place of graphs per class.
"""

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from condense.condensed_graphs import CondensedGraphs, as_condensed, count_bytes
from condense.graph_coresets import choose_within
from condense.graph_embedding import embed_graphs
from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import ParamsError
from datagen.contracts.graphs import GraphSet
from datagen.contracts.seeding import derive_seed
from trainers import kept_outcomes, loop
from trainers.graph_batches import GraphTensors, as_learned, columns_of, tensors_of
from trainers.graph_nets.opening import GraphNetwork
from trainers.graph_protocol import Config
from trainers.graph_steps import Measure, Network, Steps, drawn, fresh_net, loss_of, measures_of, rows_of
from trainers.kept_outcomes import Positions, Student, at_best_rate
from trainers.protocol import STANDARD, WHOLE, Arm, Cell, Outcome
from trainers.steps import loop_config

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that the evaluation works on; a worker gets it once.

    Attributes:
        config: what is compared.
        network: what students look like.
        steps: how they are trained.
        train: everything; `validation` and `test` are the graphs that rates are chosen on and students judged on.
        condensed: name to set.
        features: (G, D) embeddings of `train`, for coresets.
        embedding_s: seconds that those took.
        coresets: name to the positions among `train` that it has, by seed.
    """

    config: Config
    network: Network
    steps: Steps
    train: GraphSet
    validation: GraphSet
    test: GraphSet
    condensed: Mapping[str, CondensedGraphs]
    features: NDArray[np.float32]
    embedding_s: float = 0.0
    coresets: Mapping[str, Sequence[Positions]] = field(default_factory=dict[str, Sequence[Positions]])
    _seen: dict[tuple[str, str], GraphTensors] = field(default_factory=dict[tuple[str, str], GraphTensors])

    @property
    def measure(self) -> Measure:
        """By which arms are compared."""
        return "auc" if len(self.train.classes) == 2 else "accuracy"

    def graphs(self, part: str, transform: str) -> GraphSet:
        """`train`, `validation` or `test` as students of sets with this codebook read them."""
        of = next((one for one in self.condensed.values() if transform_of(one, self) == transform), None)
        graphs: GraphSet = getattr(self, part)
        return graphs if of is None else as_learned(graphs, of)

    def seen(self, part: str, transform: str) -> GraphTensors:
        """The same on the device."""
        if (part, transform) not in self._seen:
            self._seen[part, transform] = tensors_of(self.graphs(part, transform))
        return self._seen[part, transform]


def open_bench(
    config: Config,
    network: Network,
    steps: Steps,
    train: GraphSet,
    validation: GraphSet,
    test: GraphSet,
    condensed: Mapping[str, CondensedGraphs],
) -> Bench:
    """Before anything is trained; coresets are chosen by trees as deep as the networks see."""
    start = time.perf_counter()
    features = embed_graphs(train, network.layers, seed=steps.seed)
    return Bench(
        config=config, network=network, steps=steps, train=train, validation=validation, test=test, condensed=condensed,
        features=features, embedding_s=time.perf_counter() - start,
    )  # fmt: skip


def transform_of(condensed: CondensedGraphs, bench: Bench) -> str:
    """`standard`, or the hash of the codebook through which real graphs must go."""
    if condensed.codebook is None:
        return STANDARD
    return f"codebook-{hashlib.sha256(condensed.codebook.tobytes()).hexdigest()[:8]}"


def condensed_arm(name: str, condensed: CondensedGraphs, counts: Mapping[str, int]) -> Arm:
    """A condensed set of which `counts` bytes are stored."""
    return Arm(name=name, kind="condensed", size=counts["total"], bytes_of=(("hard", counts["total"]),))


def coreset_arm(method: str, size: int, bench: Bench) -> Arm:
    """A coreset that may have so many bytes."""
    return Arm(name=f"{method}-{size}", kind="coreset", size=size, bytes_of=(("hard", size),))


def whole_arm(bench: Bench) -> Arm:
    """Everything."""
    size = count_bytes(bench.train)["total"]
    return Arm(name=WHOLE, kind="whole", size=size, bytes_of=(("hard", size),))


def n_affordable(budget: int, bench: Bench, *, soft: bool) -> int:
    """The bytes that a coreset may have: all of the budget."""
    return budget


def choose(method: str, size: int, bench: Bench) -> tuple[list[Positions], float]:
    """A coreset for each seed, and the mean seconds that one takes, with those of the embeddings.

    Raises:
        ParamsError: so few bytes pay for no graph of each class.
    """
    start = time.perf_counter()
    chosen: list[Positions] = []
    for i in range(bench.config.seeds):
        seed = derive_seed(bench.steps.seed, "coreset", i)
        try:
            chosen.append(choose_within(method, bench.train, bench.features, size, seed).astype(np.int64))
        except ParamsError as error:
            raise ParamsError(
                f"coresets: {method} has no coreset of {size} bytes for student {i}, as many as a condensed set has "
                f"({error}); leave {method} out, or condense to more bytes"
            ) from None
    return chosen, bench.embedding_s + (time.perf_counter() - start) / bench.config.seeds


def train_cells(bench: Bench, cells: Sequence[Cell], kept: Path) -> Iterator[Outcome]:
    """See `kept_outcomes.train_cells`; `kept` holds the outcomes of this bench and no other."""
    return kept_outcomes.train_cells(partial(train_cell, bench), cells, kept)


def with_teachers(bench: Bench, outcomes: Sequence[Outcome]) -> Bench:
    """The same: graphs have no teachers."""
    return bench


def train_cell(bench: Bench, cell: Cell) -> Outcome:
    """Choose the rate on validation graphs, train a student for each seed, and look at the test graphs once."""
    config, measure = bench.config, bench.measure
    of_all = None if cell.arm.kind == "coreset" else tensors_of(set_of(bench, cell, 0))

    def student(rate: float, i: int) -> Student:
        learned = of_all or tensors_of(set_of(bench, cell, i))
        net, seconds = _train(bench, cell, learned, rate, i)
        return Student(net, seconds, _judged(net, bench.seen("validation", cell.transform))[measure])

    best, students = at_best_rate(config.learning_rates, config.seeds, config.seeds_for_rate, student)
    found = [_judged(one.net, bench.seen("test", cell.transform)) for one in students]
    return Outcome(
        cell=cell,
        learning_rate=best,
        accuracy=tuple(one["accuracy"] for one in found),
        validation=tuple(one.validation for one in students),
        seconds=tuple(one.seconds for one in students),
        auc=tuple(one["auc"] for one in found) if measure == "auc" else (),
    )


def _judged(net: torch.nn.Module, graphs: GraphTensors) -> dict[Measure, float]:
    """A student's measures; one that diverged gets nothing right, so that its rate is not chosen where another is."""
    found = measures_of(net, graphs)
    if found is None:
        log.warning("a student diverged: its outputs are not finite, and it counts as wrong everywhere")
        return {"accuracy": 0.0, "auc": 0.0}
    return found


def set_of(bench: Bench, cell: Cell, i: int) -> CondensedGraphs:
    """What student i of a cell learns from."""
    if cell.arm.kind == "condensed":
        return bench.condensed[cell.arm.name]
    graphs = bench.train
    return as_condensed(graphs if cell.arm.kind == "whole" else graphs.take(bench.coresets[cell.arm.name][i]))


def sizes_of(arm: Arm, bench: Bench, chosen: Mapping[str, Sequence[Positions]]) -> list[tuple[int, int]]:
    """By seed the graphs and the bytes that a student of this arm learns from; `chosen` are those of coresets."""
    if arm.kind != "coreset":
        graphs = bench.train if arm.kind == "whole" else bench.condensed[arm.name].graphs
        return [(len(graphs), arm.size)] * bench.config.seeds
    return [(len(at), count_bytes(bench.train.take(at))["total"]) for at in chosen[arm.name]]


def _train(bench: Bench, cell: Cell, learned: GraphTensors, rate: float, i: int) -> tuple[GraphNetwork, float]:
    """Student i at a rate, and its seconds: of the processor, as other work slows a clock; with a GPU, of the clock."""
    clock = time.process_time if device_type() == "cpu" else time.perf_counter
    steps, config = bench.steps, bench.config
    n_steps = config.whole_steps if cell.arm.kind == "whole" else config.n_steps
    seed = derive_seed(steps.seed, "graph", i)
    columns = columns_of(bench.graphs("train", cell.transform))
    net = fresh_net(cell.net, columns, len(bench.train.classes), bench.network, seed).to(learned.labels.device)
    rows = rows_of(learned, steps.weighting, seed)
    net.see(drawn(learned, rows))
    with tempfile.TemporaryDirectory(prefix="datastill-student-") as folder:
        start = clock()
        loop.train(
            net, rows, loss_of(learned, steps.weighting),
            loop_config(steps, len(learned), rate, seed, n_steps=n_steps), Checkpoints(Path(folder)),
        )  # fmt: skip
        return net, clock() - start
