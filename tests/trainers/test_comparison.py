"""Oracles: rows nearest a class's mean, budgets by hand, a set that everything is behind."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.condensed import CondensedSet
from condense.pixels.transform import fit_transform
from tests.tiny_images import tiny_images
from trainers import image_bench
from trainers.comparison import Comparison, compare
from trainers.image_bench import Bench, open_bench
from trainers.image_protocol import Config, parse
from trainers.image_steps import Steps, real_set
from trainers.protocol import STANDARD, Cell

NETS = ["mlp:8", "mlp1:8", "mlp3:8"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def bench(condensed: dict[str, CondensedSet] | None = None, *, signal: int = 100, **more: Any) -> Bench:
    """20 training images a class; one rate, so that each arm has five students a net."""
    section = {
        "nets": NETS, "regimes": ["hard"], "learning_rates": [0.1], "seeds_for_rate": 1, "multiples": [],
        "n_steps": 10, "whole_steps": 10, "batch_size": 16, "augmentation": "none", "n_threads": 1,
    }  # fmt: skip
    params = parse({**section, **more})
    train, validation, test = (tiny_images(n, signal=signal, seed=seed) for seed, n in enumerate((20, 10, 15)))
    return open_bench(params[Config], params[Steps], train, validation, test, condensed or {})


def bytes_of(n_images: int) -> dict[str, int]:
    """Of so many images of 64 pixels and a label, with a transform of 8 bytes and no soft labels."""
    return {"soft_labels": 0, "total": 8 + 65 * n_images}


def run(one: Bench, counts: dict[str, dict[str, int]]) -> tuple[Comparison, list[Cell]]:
    trained: list[Cell] = []
    with tempfile.TemporaryDirectory() as kept:
        return compare(one, counts, Path(kept), lambda cell, left: trained.append(cell), kind=image_bench), trained


def everything(signal: int = 100) -> CondensedSet:
    plain = bench(signal=signal)
    return real_set(plain.train, plain.transforms[STANDARD])


def test_coresets_that_choose_the_same_images_are_trained_once():
    """With one image a class, herding's first row and k-means' are both the row nearest the mean."""
    one = bench({"all": everything()}, coresets=["at_random", "herding", "k_means"])
    found, trained = run(one, {"all": bytes_of(3)})
    assert found.rivals == {("all", "hard"): ["at_random-3", "herding-3", "k_means-3"]}
    for net in NETS:
        assert found.by_seed("herding-3", "hard", net) == found.by_seed("k_means-3", "hard", net)
        assert found.outcomes["k_means-3", "hard", net].cell.arm.name == "k_means-3"
    names = ("whole", "all", "at_random-3", "herding-3")
    assert sorted((cell.arm.name, cell.net) for cell in trained) == sorted(
        (name, net) for name in names for net in NETS
    )


def test_every_set_has_rivals_of_its_own_bytes():
    """3 and 7 images' worth; everything is trained once for both."""
    one = bench({"a": everything(), "b": everything()}, coresets=["at_random"])
    found, trained = run(one, {"a": bytes_of(3), "b": {"soft_labels": 0, "total": 8 + 65 * 8 - 1}})
    assert found.rivals == {("a", "hard"): ["at_random-3"], ("b", "hard"): ["at_random-7"]}
    assert len(trained) == 5 * len(NETS) and set(found.choosing_s) == {"at_random-3", "at_random-7"}


def test_a_whitened_set_has_a_teacher_of_its_own():
    """It is trained on whitened images, beside the standard one of the coresets; what it scores is nobody's result."""
    plain = bench()
    white = real_set(plain.train, fit_transform(plain.train, "zca"))
    one = bench({"white": white}, coresets=["at_random"], regimes=["hard", "teacher"])
    (name,) = one.transforms.keys() - {STANDARD}
    found, trained = run(one, {"white": bytes_of(3)})
    whole = [(cell.net, cell.transform) for cell in trained if cell.arm.kind == "whole"]
    assert whole == [*((net, STANDARD) for net in NETS), (NETS[0], name)]
    assert {cell.transform for cell in trained if cell.arm.kind == "condensed"} == {name}
    assert {cell.transform for cell in trained if cell.arm.kind == "coreset"} == {STANDARD}
    assert {found.outcomes["whole", "hard", net].cell.transform for net in NETS} == {STANDARD}


def test_larger_coresets_are_tried_until_one_is_as_good():
    """The set is everything at the price of 3 images, so a coreset of everything is the last that can be tried."""
    one = bench(
        {"all": everything(25)}, signal=25, coresets=["at_random"], multiples=[20, 2, 40], n_steps=30, whole_steps=30
    )
    found, _ = run(one, {"all": bytes_of(3)})
    mine = sum(found.by_seed("all", "hard", NETS[0]))
    assert sum(found.by_seed("at_random-3", "hard", NETS[0])) < mine
    tried = found.larger["all"]
    assert tried == ["at_random-6", "at_random-60"][: len(tried)] and tried
    assert all(sum(found.by_seed(name, "hard", NETS[0])) < mine for name in tried[:-1])
    assert ("at_random-6", "hard", NETS[1]) not in found.outcomes


def test_where_a_coreset_is_as_good_none_is_tried():
    """Noise teaches less than any images."""
    plain = bench()
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    blind = real_set(plain.train.take(np.arange(3)), plain.transforms[STANDARD])
    pixels = plain.transforms[STANDARD].apply(noise)
    one = bench({"noise": CondensedSet(**{**vars(blind), "pixels": pixels, "raw": noise})}, multiples=[2])
    found, _ = run(one, {"noise": bytes_of(3)})
    assert found.larger == {"noise": []}
