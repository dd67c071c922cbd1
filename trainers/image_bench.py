"""The arms of the evaluation and their students; what is compared and how is told in `trainers.image_protocol`.

A set's bytes are all that is stored of it (condense/condensed.py): pixels, labels, soft labels, step size, transform.
A coreset gets as many real images of 8 bits a value as the same bytes pay for, after its own transform, with the labels
of its regime; as many of each class, the remainder to the first classes, and no more than a class has.

Source: none; budgets in bytes in place of images per class.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from condense.condensed import CondensedSet, arrays_of, count_bytes
from condense.coresets import Candidates
from condense.coresets._classes import class_sizes
from condense.pixels.transform import Transform, fit_transform
from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.images import ImageSet
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import load_method
from trainers import kept_outcomes, loop
from trainers.image_protocol import Config
from trainers.image_steps import (
    Steps,
    accuracy,
    fresh_net,
    logits_of,
    loop_config,
    loss_of,
    on_device,
    real_set,
)
from trainers.kept_outcomes import Positions, Student, at_best_rate
from trainers.protocol import STANDARD, WHOLE, Arm, Cell, Outcome, Regime
from trainers.steps import Position

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that the evaluation works on; a worker gets it once.

    Attributes:
        config: what is compared.
        steps: how students are trained.
        train: everything; `validation` and `test` are the images that rates are chosen on and students judged on.
        condensed: name to set.
        transforms: name to transform; `standard` is that of coresets and of everything.
        coresets: name to the positions among `train` that it has, by seed.
        teachers: transform's name to a teacher's weights.
        train_logits: (N, K) the standard teacher's logits of `train`, a coreset's soft labels.
    """

    config: Config
    steps: Steps
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    condensed: Mapping[str, CondensedSet]
    transforms: Mapping[str, Transform]
    coresets: Mapping[str, Sequence[Positions]] = field(default_factory=dict[str, Sequence[Positions]])
    teachers: Mapping[str, Weights] = field(default_factory=dict[str, Weights])
    train_logits: NDArray[np.float32] | None = None
    _seen: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict[tuple[str, str], torch.Tensor])

    @property
    def rates(self) -> list[float]:
        """Learning rates that every arm's is chosen among: the params' and all sets' step sizes, to 2 digits."""
        own = (one.step_size for one in self.condensed.values() if one.step_size is not None)
        return list(dict.fromkeys([*self.config.learning_rates, *(float(f"{one:.2g}") for one in own)]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.train.shape

    def seen(self, part: str, transform: str) -> torch.Tensor:
        """(N, C, H, W) images of `validation` or `test`, on the device."""
        if (part, transform) not in self._seen:
            pixels = self.transforms[transform].apply(getattr(self, part).pixels)
            self._seen[part, transform] = torch.from_numpy(pixels).to(device_type())
        return self._seen[part, transform]


def open_bench(
    config: Config,
    steps: Steps,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
    condensed: Mapping[str, CondensedSet],
) -> Bench:
    """Before anything is trained."""
    transforms = {STANDARD: fit_transform(train, "standard")}
    for one in condensed.values():
        transforms.setdefault(name_of(one.transform, transforms[STANDARD]), one.transform)
    return Bench(
        config=config, steps=steps, train=train, validation=validation, test=test, condensed=condensed,
        transforms=transforms,
    )  # fmt: skip


def name_of(transform: Transform, standard: Transform) -> str:
    """`standard`, or another's kind and the start of its hash."""
    return STANDARD if _hash(transform) == _hash(standard) else f"{transform.kind}-{_hash(transform)[:8]}"


def transform_of(condensed: CondensedSet, bench: Bench) -> str:
    """The name of a set's transform."""
    return name_of(condensed.transform, bench.transforms[STANDARD])


def condensed_arm(name: str, condensed: CondensedSet, counts: Mapping[str, int]) -> Arm:
    """A condensed set of which `counts` bytes are stored; soft labels count where they are learned from."""
    without = counts["total"] - counts["soft_labels"]
    soft = (("soft", counts["total"]),) if condensed.soft_labels is not None else ()
    sizes = (("hard", without), *soft, ("teacher", without))
    return Arm(name=name, kind="condensed", size=len(condensed), bytes_of=sizes)


def coreset_arm(method: str, size: int, bench: Bench) -> Arm:
    """A coreset of so many images."""
    return Arm(name=f"{method}-{size}", kind="coreset", size=size, bytes_of=_sizes(size, bench))


def whole_arm(bench: Bench) -> Arm:
    """Everything."""
    return Arm(name=WHOLE, kind="whole", size=len(bench.train), bytes_of=_sizes(len(bench.train), bench))


def n_affordable(budget: int, bench: Bench, *, soft: bool) -> int:
    """Real images that `budget` bytes pay for, with soft labels or without; at most all of them, and at least one."""
    fixed, each = _costs(bench, soft=soft)
    return min(max((budget - fixed) // each, 1), len(bench.train))


def choose(method: str, size: int, bench: Bench) -> tuple[list[Positions], float]:
    """A coreset of so many images for each seed, and the mean seconds that one takes.

    Raises:
        ParamsError: the method needs what images have not.
    """
    module = load_method("condense.coresets", method, key="coresets")
    features = bench.transforms[STANDARD].apply(bench.train.pixels).reshape(len(bench.train), -1)
    candidates = Candidates(features=features, labels=bench.train.labels)
    sizes = class_sizes(size, np.bincount(bench.train.labels, minlength=len(bench.train.classes)).tolist())
    start = time.perf_counter()
    chosen = [
        getattr(module, method)(module.Config(), candidates, sizes, seed=derive_seed(bench.steps.seed, "coreset", i))
        for i in range(bench.config.seeds)
    ]
    return chosen, (time.perf_counter() - start) / bench.config.seeds


def train_cells(bench: Bench, cells: Sequence[Cell], kept: Path) -> Iterator[Outcome]:
    """See `kept_outcomes.train_cells`; `kept` holds the outcomes of this bench and no other."""
    return kept_outcomes.train_cells(partial(train_cell, bench), cells, kept)


def train_cell(bench: Bench, cell: Cell) -> Outcome:
    """Choose the rate on validation images, train a student for each seed, and look at the test images once."""
    config = bench.config
    teacher = _teacher(bench, cell.transform) if cell.regime == "teacher" else None
    truth = {part: torch.from_numpy(getattr(bench, part).labels).to(device_type()) for part in ("validation", "test")}
    of_all = None if cell.arm.kind == "coreset" else _learned(bench, cell, 0)  # a coreset is another for each seed

    def student(rate: float, i: int) -> Student:
        net, seconds = _train(bench, cell, of_all or _learned(bench, cell, i), teacher, rate, i)
        return Student(net, seconds, accuracy(net, bench.seen("validation", cell.transform), truth["validation"]))

    best, students = at_best_rate(bench.rates, config.seeds, config.seeds_for_rate, student)
    nets, seconds, validation = zip(*students, strict=True)
    test = bench.seen("test", cell.transform)
    return Outcome(
        cell=cell,
        learning_rate=best,
        accuracy=tuple(accuracy(net, test, truth["test"]) for net in nets),
        validation=validation,
        seconds=seconds,
        weights={name: one.cpu() for name, one in nets[0].state_dict().items()} if cell.arm.kind == "whole" else None,
    )


def with_teachers(bench: Bench, outcomes: Sequence[Outcome]) -> Bench:
    """The bench with the teachers that were trained: of everything, the first net's first student."""
    first = bench.config.nets[0]
    teachers = {one.cell.transform: one.weights for one in outcomes if one.weights and one.cell.net == first}
    bench = replace(bench, teachers={**bench.teachers, **teachers})
    if STANDARD not in teachers:
        return bench
    images = torch.from_numpy(bench.transforms[STANDARD].apply(bench.train.pixels)).to(device_type())
    return replace(bench, train_logits=logits_of(_teacher(bench, STANDARD), images).float().cpu().numpy())


def set_of(bench: Bench, cell: Cell, i: int) -> CondensedSet:
    """What student i of a cell learns from."""
    if cell.arm.kind == "condensed":
        return bench.condensed[cell.arm.name]
    if cell.arm.kind == "whole":
        return real_set(bench.train, bench.transforms[cell.transform])
    at = bench.coresets[cell.arm.name][i]
    logits = None
    if cell.regime == "soft":
        assert bench.train_logits is not None
        logits = bench.train_logits[at].astype(np.float16).astype(np.float32)  # as they would be stored
    return real_set(bench.train.take(at), bench.transforms[cell.transform], logits)


def _learned(bench: Bench, cell: Cell, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and targets of student i, on the device."""
    return on_device(set_of(bench, cell, i), hard=cell.regime != "soft")


def _train(
    bench: Bench,
    cell: Cell,
    learned: tuple[torch.Tensor, torch.Tensor],
    teacher: torch.nn.Module | None,
    rate: float,
    i: int,
) -> tuple[torch.nn.Module, float]:
    """Student i at a rate, and its seconds: of the processor, as other work slows a clock; with a GPU, of the clock."""
    clock = time.process_time if device_type() == "cpu" else time.perf_counter
    steps, config = bench.steps, bench.config
    if cell.arm.kind == "whole":
        steps = steps.model_copy(update={"n_steps": config.whole_steps})
    images, targets = learned
    seed = derive_seed(steps.seed, "image", i)
    net = fresh_net(cell.net, bench.shape, len(bench.train.classes), config.width, seed)
    rows = [Position(at) for at in range(len(images))]
    with tempfile.TemporaryDirectory(prefix="datastill-student-") as folder:
        start = clock()
        loop.train(
            net, rows, loss_of(images, targets, steps.augmentation, teacher),
            loop_config(steps, len(images), rate, seed), Checkpoints(Path(folder)),
        )  # fmt: skip
        return net, clock() - start


def _teacher(bench: Bench, transform: str) -> torch.nn.Module:
    net = fresh_net(bench.config.nets[0], bench.shape, len(bench.train.classes), bench.config.width, 0)
    net.load_state_dict(dict(bench.teachers[transform]))
    return net.to(device_type()).eval().requires_grad_(False)


def _costs(bench: Bench, *, soft: bool) -> tuple[int, int]:
    """Bytes of no image and of each image more, as they would be stored."""
    pixels = np.zeros((1, *bench.shape[1:], bench.shape[0]), np.uint8)
    one = CondensedSet(
        pixels=np.zeros((1, *bench.shape), np.float32), labels=np.zeros(1, np.int64), raw=pixels,
        soft_labels=np.zeros((1, len(bench.train.classes)), np.float32) if soft else None,
        transform=bench.transforms[STANDARD], classes=bench.train.classes,
    )  # fmt: skip
    counts = count_bytes(arrays_of(one, 8))
    return counts["transform"], counts["total"] - counts["transform"]


def _sizes(n_images: int, bench: Bench) -> tuple[tuple[str, int], ...]:
    costs: dict[Regime, tuple[int, int]] = {
        "hard": _costs(bench, soft=False), "soft": _costs(bench, soft=True), "teacher": _costs(bench, soft=False)
    }  # fmt: skip
    return tuple((regime, fixed + n_images * each) for regime, (fixed, each) in costs.items())


def _hash(transform: Transform) -> str:
    arrays = cast("dict[str, NDArray[Any]]", transform.arrays())
    digest = hashlib.sha256(transform.kind.encode())
    for name, array in sorted(arrays.items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()
