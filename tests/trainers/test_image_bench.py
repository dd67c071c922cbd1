"""Oracles: bytes as they are stored, sizes by brute force, students that learn from the very same images."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condense.condensed import CondensedSet, arrays_of, count_bytes
from condense.pixels.transform import fit_transform
from datagen.contracts.cluster import fingerprint
from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import PACKAGES
from tests.tiny_images import tiny_images
from trainers import image_bench
from trainers.image_bench import (
    STANDARD,
    Bench,
    choose,
    class_sizes,
    condensed_arm,
    coreset_arm,
    n_affordable,
    name_of,
    open_bench,
    set_of,
    train_cell,
    train_cells,
    whole_arm,
    with_teachers,
)
from trainers.image_protocol import Config, parse
from trainers.image_steps import Steps, real_set
from trainers.protocol import Arm, Cell

NET = "mlp:8"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def bench(condensed: dict[str, CondensedSet] | None = None, channels: int = 1, **more: Any) -> Bench:
    """20 training images a class, few steps."""
    section = {"nets": [NET, "convnet2:4", "vit:16"], "learning_rates": [0.05], "seeds_for_rate": 1, **more}
    strategy = "color_crop_cutout_scale_rotate"
    few = {"n_steps": 12, "whole_steps": 12, "batch_size": 16, "augmentation": strategy, "n_threads": 1}
    params = parse({**few, **section})
    train, validation, test = (tiny_images(n, channels=channels, seed=seed) for seed, n in enumerate((20, 10, 15)))
    return open_bench(params[Config], params[Steps], train, validation, test, condensed or {})


def stored_bytes(one: CondensedSet) -> int:
    return count_bytes(arrays_of(one, 8))["total"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("budget", [600, 1000, 1234])
def test_a_coreset_has_as_many_images_as_the_bytes_pay_for(channels: int, soft: bool, budget: int):
    """Oracle: what is stored of such a set; one image more is too much."""
    one = bench(channels=channels)
    n_images = n_affordable(budget, one, soft=soft)

    def size(n: int) -> int:
        chosen = one.train.take(np.arange(n))
        logits = np.zeros((n, 3), np.float32) if soft else None
        return stored_bytes(real_set(chosen, one.transforms[STANDARD], logits))

    assert size(n_images) <= budget < size(n_images + 1)
    assert dict(coreset_arm("k_means", n_images, one).bytes_of)["soft" if soft else "hard"] == size(n_images)


def test_a_condensed_set_of_8_bits_buys_as_many_real_images():
    """A made image costs what a real one does; scales, offsets and the step size are not worth one more."""
    one = bench()
    real = real_set(one.train.take(np.arange(3)), one.transforms[STANDARD])
    made = replace(real, raw=None, step_size=0.02)
    assert n_affordable(stored_bytes(made), one, soft=False) == 3
    assert n_affordable(10**9, one, soft=False) == 60 and n_affordable(1, one, soft=False) == 1


@given(st.integers(0, 40), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_classes_share_a_coreset(n_images: int, counts: list[int]):
    """Oracle: one image at a time, to the first of the classes that have the fewest and any left."""
    sizes = [0] * len(counts)
    for _ in range(min(n_images, sum(counts))):
        sizes[min((c for c in range(len(counts)) if sizes[c] < counts[c]), key=lambda c: sizes[c])] += 1
    assert class_sizes(n_images, counts) == sizes


def test_the_remainder_goes_to_the_first_classes():
    assert class_sizes(13, [100] * 10) == [2, 2, 2] + [1] * 7


def test_arms_say_what_is_stored_in_each_regime():
    """A set's soft labels count where they are learned from: 3 of them of 2 bytes each an image."""
    one = bench()
    logits = np.zeros((3, 3), np.float32)
    real = real_set(one.train.take(np.arange(3)), one.transforms[STANDARD], logits)
    arm = condensed_arm("a", real, count_bytes(arrays_of(real, 8)))
    sizes = dict(arm.bytes_of)
    assert sizes["soft"] == sizes["hard"] + 18 == sizes["teacher"] + 18 == stored_bytes(real)
    hard = replace(real, soft_labels=None)
    assert "soft" not in dict(condensed_arm("a", hard, count_bytes(arrays_of(hard, 8))).bytes_of)


def test_transforms_have_names():
    images = tiny_images(5)
    standard = fit_transform(images, "standard")
    assert name_of(fit_transform(images, "standard"), standard) == STANDARD
    assert name_of(fit_transform(images, "zca"), standard).startswith("zca-")
    other = fit_transform(tiny_images(5, seed=1), "standard")
    assert name_of(other, standard) not in (STANDARD, name_of(fit_transform(images, "zca"), standard))


def test_a_coreset_is_chosen_for_each_seed():
    """At random they differ; each has the sizes; forgetting needs what images alone have not."""
    one = bench()
    chosen, seconds = choose("at_random", 7, one)
    assert len(chosen) == 5 and seconds > 0
    assert len({tuple(some.tolist()) for some in chosen}) == 5
    for some in chosen:
        assert np.bincount(one.train.labels[some]).tolist() == [3, 2, 2]
    with pytest.raises(ParamsError, match="forgetting needs to know"):
        choose("forgetting", 7, one)


def test_arms_of_the_same_images_have_the_same_students(tmp_path: Path):
    """Oracle: everything itself, as a condensed set: seed by seed the same accuracies, to the last digit."""
    plain = bench()
    one = bench({"copy": real_set(plain.train, plain.transforms[STANDARD])})
    copy = Arm(name="copy", kind="condensed", size=60, bytes_of=(("hard", 1), ("teacher", 1)))
    cells = [Cell(arm=arm, regime="hard", net=NET, transform=STANDARD) for arm in (whole_arm(one), copy)]
    everything, found = train_cells(one, cells, tmp_path)
    assert found.accuracy == everything.accuracy and found.validation == everything.validation
    assert len(set(found.accuracy)) > 1, "seeds differ"


def test_what_is_kept_is_not_trained_again(tmp_path: Path):
    """Seconds are measured, so equal ones were read; another net is trained."""
    one = bench()
    cell = Cell(arm=whole_arm(one), regime="hard", net=NET, transform=STANDARD)
    (first,) = train_cells(one, [cell], tmp_path)
    again, other = train_cells(one, [cell, replace(cell, net="mlp1:8")], tmp_path)
    assert again.seconds == first.seconds and again.accuracy == first.accuracy
    assert again.cell == cell and other.seconds != first.seconds


def test_the_rate_is_chosen_on_validation_images_alone():
    """Oracle: every rate by itself; the test images' labels could be anything."""
    rates = [0.0001, 0.05, 0.2]
    one = bench(learning_rates=rates, seeds_for_rate=2)
    cell = Cell(arm=whole_arm(one), regime="hard", net=NET, transform=STANDARD)
    alone = {rate: train_cell(bench(learning_rates=[rate]), cell) for rate in rates}
    means = {rate: sum(outcome.validation[:2]) for rate, outcome in alone.items()}
    found = train_cell(one, cell)
    assert found.learning_rate == max(rates, key=lambda rate: means[rate])
    assert found.accuracy == alone[found.learning_rate].accuracy
    wrong = replace(one.test, labels=(one.test.labels + 1) % 3)
    other = train_cell(replace(one, test=wrong), cell)
    assert other.learning_rate == found.learning_rate and other.accuracy != found.accuracy


def test_every_arm_tries_the_step_sizes_of_all_sets():
    """The only rate in the params teaches nothing; a coreset, everything and a set without one get another's too."""
    plain = bench()
    real = real_set(plain.train, plain.transforms[STANDARD])
    made = {"made": replace(real, step_size=0.0503), "other": replace(real, step_size=2e-9), "bare": real}
    one = bench(made, learning_rates=[1e-9])
    one = replace(one, coresets={"at_random-9": [np.arange(9)] * 5})
    arms = [Arm(name=name, kind="condensed", size=60, bytes_of=(("hard", 1),)) for name in made]
    for arm in (*arms, coreset_arm("at_random", 9, one), whole_arm(one)):
        assert train_cell(one, Cell(arm=arm, regime="hard", net=NET, transform=STANDARD)).learning_rate == 0.05


def test_rates_are_those_of_the_params_and_of_the_sets_each_once():
    """By hand; 0.0996 is 0.1 in two digits, which the params have, and two sets have 0.013."""
    plain = bench()
    real = real_set(plain.train, plain.transforms[STANDARD])
    sizes = (0.0996, None, 0.01337, 0.01251, 0.3)
    made = {f"set {i}": replace(real, step_size=size) for i, size in enumerate(sizes)}
    assert bench(made, learning_rates=[0.1, 0.03]).rates == [0.1, 0.03, 0.013, 0.3]


def test_everything_trains_for_steps_of_its_own():
    """Oracle: the same images as a condensed set, of which all students have as many steps as everything has here."""
    plain = bench()
    made = {"copy": real_set(plain.train, plain.transforms[STANDARD])}
    arm = Arm(name="copy", kind="condensed", size=60, bytes_of=(("hard", 1),))
    one, long = bench(made, whole_steps=25), bench(made, n_steps=25, whole_steps=25)
    everything = train_cell(one, Cell(arm=whole_arm(one), regime="hard", net=NET, transform=STANDARD))
    copy = Cell(arm=arm, regime="hard", net=NET, transform=STANDARD)
    assert everything.accuracy == train_cell(long, copy).accuracy != train_cell(one, copy).accuracy
    assert everything.validation == train_cell(long, copy).validation


def test_workers_of_another_trainers_are_told_apart(tmp_path: Path):
    """A cell is trained by code of trainers; oracle: a copy of the packages, the same and with one line more."""
    for package in PACKAGES:
        copied = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(image_bench.__file__).parents[1] / package, tmp_path / package, ignore=copied)
    program = "from datagen.contracts.cluster import fingerprint; print(fingerprint())"

    def told() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    assert told() == fingerprint()
    with (tmp_path / "trainers" / "image_bench.py").open("a") as file:
        file.write("# another\n")
    assert told() != fingerprint()


def test_soft_labels_of_coresets_are_the_teacher_s_as_stored():
    """Oracle: the teacher's logits of the chosen images, one batch by itself, in half precision."""
    one = bench()
    one = with_teachers(one, [train_cell(one, Cell(arm=whole_arm(one), regime="hard", net=NET, transform=STANDARD))])
    positions = [np.array([4, 8, 15])] * 5
    one = replace(one, coresets={"k_means-3": positions})
    cell = Cell(arm=coreset_arm("k_means", 3, one), regime="soft", net=NET, transform=STANDARD)
    found = set_of(one, cell, 0)
    weights = one.teachers[STANDARD]
    flat = torch.from_numpy(one.transforms[STANDARD].apply(one.train.pixels[[4, 8, 15]])).flatten(1)
    layers = sorted(weights, key=lambda name: (name.startswith("head"), name))
    for weight, bias in _pairs(layers):
        flat = flat @ weights[weight].T + weights[bias]
        flat = flat if weight.startswith("head") else flat.relu()
    assert found.soft_labels is not None
    np.testing.assert_allclose(found.soft_labels, flat.numpy(), rtol=2e-3, atol=2e-3)
    assert found.soft_labels.tolist() == found.soft_labels.astype(np.float16).astype(np.float32).tolist()
    hard = set_of(one, replace(cell, regime="hard"), 0)
    assert hard.soft_labels is None and hard.labels.tolist() == one.train.labels[[4, 8, 15]].tolist()


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    """(weight, bias) of each layer, in order."""
    return [(name, name.replace("weight", "bias")) for name in names if name.endswith("weight")]


def test_a_teacher_is_that_of_the_images_transform():
    """Each is kept under its own; a standard one full of zeros makes no difference to students of whitened images."""
    plain = bench()
    one = bench({"white": real_set(plain.train, fit_transform(plain.train, "zca"))})
    (name,) = one.transforms.keys() - {STANDARD}
    everything = Cell(arm=whole_arm(one), regime="hard", net=NET, transform=STANDARD)
    outcomes = [train_cell(one, everything), train_cell(one, replace(everything, transform=name))]
    taught = with_teachers(one, outcomes)
    for outcome, transform in zip(outcomes, (STANDARD, name), strict=True):
        for layer, weight in outcome.weights.items():
            assert torch.equal(taught.teachers[transform][layer], weight)
    arm = Arm(name="white", kind="condensed", size=60, bytes_of=(("teacher", 1),))
    cell = Cell(arm=arm, regime="teacher", net=NET, transform=name)
    zeros = {layer: torch.zeros_like(weight) for layer, weight in taught.teachers[STANDARD].items()}
    other = replace(taught, teachers={**taught.teachers, STANDARD: zeros})
    assert train_cell(other, cell).accuracy == train_cell(taught, cell).accuracy
    swapped = replace(taught, teachers={**taught.teachers, name: zeros})
    assert train_cell(swapped, cell).accuracy != train_cell(taught, cell).accuracy


def test_regimes_are_never_mixed():
    """The same coreset learns other things from each kind of label."""
    one = bench()
    one = with_teachers(one, [train_cell(one, Cell(arm=whole_arm(one), regime="hard", net=NET, transform=STANDARD))])
    one = replace(one, coresets={"at_random-9": [np.arange(9)] * 5})
    cell = Cell(arm=coreset_arm("at_random", 9, one), regime="hard", net=NET, transform=STANDARD)
    found = {regime: train_cell(one, replace(cell, regime=regime)) for regime in ("hard", "soft", "teacher")}
    assert {regime: outcome.cell.regime for regime, outcome in found.items()} == {name: name for name in found}
    assert len({outcome.accuracy for outcome in found.values()}) == 3
