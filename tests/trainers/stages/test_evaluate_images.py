"""Oracles: scipy's t over the rows of the dataset, bytes of stored sets, train_image on the same images."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from condense.condensed import write_condensed
from condense.pixels.transform import fit_transform
from datagen.contracts.dataset import content_hash, iterate, read_manifest
from datagen.contracts.stage import check_sections, main
from tests.tiny_images import tiny_images, write_npz
from tests.trained import contents, kill_after_a_checkpoint
from trainers.image_steps import real_set
from trainers.protocol_figures import NOISE
from trainers.stages.evaluate_images import STAGE
from trainers.stages.train_image import STAGE as TRAIN

theirs: Any = stats  # its types leave out what its functions give
NETS = ("mlp:8", "convnet2:4", "vit1:16")
STEPS = ("n_steps=6", "batch_size=16", "n_threads=1", "augmentation=color_crop_cutout_scale_rotate")
RATES = (0.02, 0.1, 0.05)  # the params', and the step size of one set
SETTINGS = (f"nets=[{', '.join(NETS)}]", "learning_rates=[0.02, 0.1]", "seeds_for_rate=1",
            "coresets=[at_random, k_means]", "multiples=[2]", "whole_steps=6", *STEPS)  # fmt: skip


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, and condensed sets: `means` with soft labels, a step size and experts; `noise`, which teaches nothing."""
    for seed, (name, n) in enumerate((("train", 20), ("validation", 8), ("test", 20))):
        write_npz(tmp_path / f"{name}.npz", tiny_images(n, seed=seed))
    train, of_train = tiny_images(20), content_hash(tmp_path / "train.npz")
    transform = fit_transform(train, "standard")
    means = np.stack([transform.apply(train.pixels)[train.labels == c].mean(axis=0) for c in range(3)])
    logits = 6 * np.eye(3, dtype=np.float32)
    first = replace(real_set(train.take(np.arange(3)), transform, logits), raw=None)
    noise = np.random.default_rng(0).normal(size=means.shape).astype(np.float32)
    for name, one, manifest in (
        ("means", replace(first, pixels=means, step_size=0.05), {"inputs": {"experts": "hash", "images": of_train}}),
        ("noise", replace(first, pixels=noise, soft_labels=None), {"inputs": {"images": "of others"}}),
    ):
        write_condensed(tmp_path / "arms" / name, one, 8, manifest, [])
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Callable[..., list[str]]:
    """Arguments to run the stage on the folder's arms; it writes `OUT` and `OUT.json`."""

    def arguments(out: str, *settings: str, run_metrics: Path | None = None, **files: str) -> list[str]:
        names = {"train": "train.npz", "validation": "validation.npz", "test": "test.npz", "condensed": "arms", **files}
        inputs = [word for name, file in names.items() for word in (f"--{name}", str(folder / file))]
        more = ["--run-metrics", str(run_metrics)] if run_metrics else []
        written = ["--out", str(folder / out), "--metrics", str(folder / f"{out}.json")]
        return [*inputs, *more, *written, "--set", *SETTINGS, *settings]

    return arguments


@pytest.fixture
def evaluate(command: Callable[..., list[str]]) -> Callable[..., int]:
    """Runs it."""
    return lambda *settings, **files: main(STAGE, command(*settings, **files))


def by_seed(out: Path) -> dict[tuple[str, str, str], list[float]]:
    """(arm, regime, net) to accuracies in the order of the seeds, from the dataset."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in iterate(out):
        assert row["id"] == f"{row['arm']}/{row['regime']}/{row['net']}/{row['seed']}"
        assert row["seed"] == len(found[row["arm"], row["regime"], row["net"]])
        found[row["arm"], row["regime"], row["net"]].append(row["accuracy"])
    return dict(found)


def interval(values: Any) -> dict[str, float]:
    mean, error = np.mean(values), theirs.sem(values)
    low, high = theirs.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    return pytest.approx({"mean": mean, "low": low, "high": high}, abs=1.01e-4)  # type: ignore[return-value]


def test_one_protocol_for_all_arms(folder: Path, evaluate: Callable[..., int], caplog: pytest.LogCaptureFixture):
    """Every figure of the metrics from the dataset's rows, by scipy; bytes of the coresets as they would be stored."""
    assert evaluate("out") == 0
    found, rows = json.loads((folder / "out.json").read_text()), by_seed(folder / "out")
    assert all(len(values) == 5 for values in rows.values())
    assert found["rows"] == {"in": 5 * len(rows), "out": 5 * len(rows), "rejected": 0}

    sizes = found["condensed"]["means"]["bytes"]
    image, soft = 64 + 1, 3 * 2  # pixels and label; logits of half precision
    made = 8 + 3 * image + 8 + 4  # transform, images, scale and offset, step size
    assert sizes == {"hard": made, "soft": made + 3 * soft, "teacher": made}
    n_soft, n_total = (made + 3 * soft - 8) // (image + soft), (made + 3 * soft - 8) // image
    for name, regimes in (("means", ("hard", "soft", "teacher")), ("noise", ("hard", "teacher"))):
        entry = found["condensed"][name]
        assert list(entry["regimes"]) == list(regimes)
        for regime in regimes:
            n_images = n_soft if regime == "soft" else 3
            for net in NETS:
                one, mine = entry["regimes"][regime][net], rows[name, regime, net]
                rivals = {arm: rows[arm, regime, net] for arm in (f"at_random-{n_images}", f"k_means-{n_images}")}
                best = max(rivals, key=lambda arm: np.mean(rivals[arm]))
                assert one["best_coreset"] == best
                assert one["over_best_coreset"] == interval(np.subtract(mine, rivals[best]))
                assert one["over_random"] == interval(np.subtract(mine, rivals[f"at_random-{n_images}"]))
                assert ("hard_label_recovery" in one) == (regime == "hard")
                if regime == "hard":
                    whole = rows["whole", "hard", net]
                    assert one["hard_label_recovery"] == interval(np.subtract(whole, mine))
                if regime == "soft":
                    hard = {arm: rows[arm, "hard", net] for arm in (f"at_random-{n_total}", f"k_means-{n_total}")}
                    assert one["best_coreset_of_hard_labels"] == max(hard, key=lambda arm: np.mean(hard[arm]))
    entries = {"whole": found["whole"], **found["condensed"], **found["coresets"]}
    for (arm, regime, net), values in rows.items():
        stated = entries[arm]["regimes"][regime][net]
        accuracy = {key: stated["accuracy"][key] for key in ("mean", "low", "high")}
        assert accuracy == interval(values) and stated["seconds"] > 0
        assert stated["accuracy"]["by_seed"] == pytest.approx(values, abs=5e-5)
        assert stated["learning_rate"] in RATES
    assert set(entries) == {arm for arm, _, _ in rows}
    assert found["chance"] == pytest.approx(1 / 3, abs=5e-5)
    for net, standing in found["condensed"]["noise"]["standing"].items():
        learns = found["whole"]["regimes"]["hard"][net]["accuracy"]["low"] > 1 / 3
        assert standing in ({"loses", "no difference shown"} if learns else {"the net learns nothing"})
    plotted = json.loads((folder / "out" / "accuracy.json").read_text())
    assert {(row["arm"], row["regime"], row["net"]) for row in plotted} == set(rows)
    manifest = read_manifest(folder / "out")
    assert manifest["record"] == "StudentScore" and "seconds" not in json.dumps(manifest)
    assert manifest["seeds_of_condensing"] == found["seeds_of_condensing"] == 1
    others = {name: entry["made_of_other_images"] for name, entry in found["condensed"].items()}
    assert others == {"means": False, "noise": True}
    assert [line for line in caplog.messages if "noise: its manifest does not say that it was made of" in line]
    assert not [line for line in caplog.messages if "means: its manifest" in line]


def test_a_killed_run_goes_on(folder: Path, command: Callable[..., list[str]], evaluate: Callable[..., int]):
    """Oracle: an unbroken run, byte for byte."""
    more = ("regimes=[teacher]", "learning_rates=[0.1]")
    home, pattern = folder / "home", "checkpoints/*/outcome-*.pt"
    program = [sys.executable, "-m", "trainers.stages.evaluate_images", *command("broken", *more)]
    kill_after_a_checkpoint(program, home, pattern)
    assert list(home.glob(pattern)) and not (folder / "broken").exists()
    assert evaluate("broken", *more) == evaluate("out", *more) == 0
    assert contents(folder / "broken") == contents(folder / "out")
    assert not list(home.glob(pattern))


def test_everything_trains_as_train_image_trains(folder: Path, evaluate: Callable[..., int]):
    """Oracle: the other stage, by the same steps, rate and seeds."""
    assert evaluate("out", "regimes=[hard]", "learning_rates=[0.1]", "multiples=[]") == 0
    whole = json.loads((folder / "out.json").read_text())["whole"]["regimes"]["hard"]
    for net in NETS[:2]:
        inputs = ["--images", str(folder / "train.npz"), "--test", str(folder / "test.npz"), "--out", str(folder / "s")]
        settings = ["--set", f"net={net}", "seeds=5", "learning_rate=0.1", *STEPS]
        assert main(TRAIN, [*inputs, "--metrics", str(folder / "s.json"), *settings]) == 0
        assert whole[net]["accuracy"] == json.loads((folder / "s.json").read_text())["accuracy"]


def test_worth_is_told_by_the_seconds_of_making(folder: Path, evaluate: Callable[..., int], tmp_path: Path):
    """A year of experts is never worth it; nothing for a set that is better is, unless its coreset is free."""
    times = tmp_path / "times"
    times.mkdir()
    more = ("regimes=[hard]", "learning_rates=[0.1]")
    for name, seconds in (("condense_images_means", 2.5), ("noise", 1.0), ("experts", 3e7)):
        (times / f"{name}.run.json").write_text(json.dumps({"seconds": 2 * seconds, "cpu_seconds": seconds}))
    assert evaluate("out", *more, run_metrics=times) == 0
    found = json.loads((folder / "out.json").read_text())
    means, noise = (found["condensed"][name] for name in ("means", "noise"))
    assert (means["condensing_seconds"], noise["condensing_seconds"]) == (3e7 + 2.5, 1.0)
    whole = found["whole"]["regimes"]["hard"][NETS[0]]
    for entry in (means, noise):
        mine, worth = entry["regimes"]["hard"][NETS[0]], entry["worth"]
        lost = np.mean(whole["accuracy"]["by_seed"]) - np.mean(mine["accuracy"]["by_seed"])
        assert worth["against_everything"]["accuracy_lost"] == pytest.approx(lost, abs=2e-4)
        gain = whole["seconds"] - mine["seconds"]
        n_students = worth["against_everything"]["n_students"]
        differs = abs(gain) > NOISE * max(whole["seconds"], mine["seconds"])
        assert (
            (n_students is None)
            if gain <= 0 or not differs
            else n_students == int(entry["condensing_seconds"] / gain) + 1
        )
        assert worth["against_everything"]["n_students_last"] is None
    assert noise["worth"]["against_coreset"]["n_students"] is None
    assert "of as many bytes, is as good" in noise["worth"]["verdict"]


def test_without_them_the_worth_is_not_known(
    folder: Path, evaluate: Callable[..., int], caplog: pytest.LogCaptureFixture
):
    """No folder, and one that has the seconds of one set and of a longer name, but of no experts."""
    more = ("regimes=[hard]", "learning_rates=[0.1]", "multiples=[]", "n_steps=1")
    assert evaluate("out", *more, condensed="arms/noise") == 0
    metrics = json.loads((folder / "out.json").read_text())
    found, worth = metrics["condensed"]["noise"], metrics["condensed"]["noise"]["worth"]
    assert found["condensing_seconds"] is None and worth["verdict"].startswith("not known")
    accuracies = (metrics["whole"], found)
    whole, mine = (np.mean(one["regimes"]["hard"][NETS[0]]["accuracy"]["by_seed"]) for one in accuracies)
    lost = worth["against_everything"].pop("accuracy_lost")
    assert lost == pytest.approx(whole - mine, abs=2e-4)
    assert worth["against_everything"] == {"n_students": None, "n_students_last": None}
    coresets = {
        name: np.mean(one["regimes"]["hard"][NETS[0]]["accuracy"]["by_seed"])
        for name, one in metrics["coresets"].items()
    }
    best = max(coresets, key=lambda name: coresets[name])
    as_good = best if coresets[best] >= mine else None
    assert worth["against_coreset"] == {"coreset": as_good, "n_students": None, "n_students_last": None}
    times = folder / "times"
    times.mkdir()
    for name in ("condense_images_means", "condense_images_more_noise"):
        (times / f"{name}.run.json").write_text(json.dumps({"seconds": 2.0, "cpu_seconds": 1.0}))
    assert evaluate("out", *more, run_metrics=times) == 0
    found = json.loads((folder / "out.json").read_text())["condensed"]
    assert [found[name]["condensing_seconds"] for name in ("means", "noise")] == [None, None]
    assert "no experts.run.json, so the seconds of making means are not known" in caplog.text
    assert "no condense_images_noise.run.json" in caplog.text


def test_what_cannot_be_done_is_said_in_one_line(
    folder: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """Exit code, one line, no output; before anything is trained."""
    (tmp_path / "empty").mkdir()
    train = tiny_images(20)
    other = real_set(train.take(np.arange(3)), fit_transform(train, "standard"))
    write_condensed(tmp_path / "taken" / "k_means-3", other, 8, {}, [])
    write_condensed(tmp_path / "renamed" / "a", replace(other, classes=["a", "b", "c"]), 8, {}, [])
    write_npz(tmp_path / "colour.npz", tiny_images(5, channels=3))
    write_condensed(tmp_path / "whole", other, 8, {}, [])
    write_npz(tmp_path / "again.npz", tiny_images(8, seed=1))
    for settings, files, code, says in (
        ([], {"condensed": "whole"}, 3, "whole is what the evaluation calls an arm of its own"),
        (["nets=[mlp, mlp1, mlp2]"], {}, 2, "nets: what serves one net says little"),
        ([], {"test": "validation.npz"}, 3, "24 of its 24 images are in"),
        (
            ["max_shared_share=0.99"],
            {"test": "again.npz"},
            3,
            "--validation and --test must not share more than 99.00%",
        ),
        ([], {"condensed": "empty"}, 3, "holds no condensed set"),
        ([], {"condensed": "taken"}, 3, "k_means-3 is what the evaluation calls an arm of its own"),
        ([], {"condensed": "renamed"}, 3, "has classes a, b, c"),
        ([], {"test": "colour.npz"}, 3, "images are 3 x 8 x 8, the training images 1 x 8 x 8"),
        (["regimes=[soft]"], {}, 3, "has no soft labels; name another of the regimes"),
        (["coresets=[at_random, forgetting]"], {}, 2, "forgetting needs to know what experts got right"),
        (["nets=[mlp, convnet9, vit:16]"], {}, 2, "convnet9 pools 9 times"),
        (["nets=[mlp, convnet2, vit:17]"], {}, 2, "vit needs a width"),
    ):
        assert evaluate("out", *settings, **files) == code
        errors = capsys.readouterr().err.strip().splitlines()
        assert says in errors[-1] and not [line for line in errors if "Traceback" in line]
        assert not (folder / "out").exists()


def test_few_images_may_be_in_two_parts_and_are_counted(
    folder: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
):
    """By hand: 2 of 24 validation images are in train, under another label; 3 of the 60 test images are, 5 %."""
    train, validation, test = (tiny_images(n, seed=seed) for seed, n in enumerate((20, 8, 20)))
    validation.pixels[[4, 9]] = train.pixels[[7, 50]]
    test.pixels[[30, 40, 50]] = train.pixels[[0, 1, 2]]
    write_npz(folder / "some.npz", validation)
    write_npz(folder / "judged.npz", test)
    more = ("regimes=[hard]", "learning_rates=[0.1]", "multiples=[]", "n_steps=1", "whole_steps=1")
    files = {"validation": "some.npz", "test": "judged.npz", "condensed": "arms/means"}
    assert evaluate("out", *more, "max_shared_share=0.05", **files) == 3
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{folder / 'some.npz'}: 2 of its 24 images are in {folder / 'train.npz'} too, the first is some-4;" in said
    assert evaluate("out", *more, "max_shared_share=0.0499", **{**files, "validation": "validation.npz"}) == 3
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "judged.npz: 3 of its 60 images are in" in said and "the first is judged-30;" in said
    assert not (folder / "out").exists()
    assert evaluate("out", *more, "max_shared_share=0.1", **files) == 0
    shared = {"train_and_validation": 2, "train_and_test": 3, "validation_and_test": 0}
    assert json.loads((folder / "out.json").read_text())["shared_images"] == shared


def test_threads_are_those_of_the_params_before_anything_is_computed(folder: Path, evaluate: Callable[..., int]):
    """A run that ends before its first student has set them: a teacher's logits need no training in this process."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert evaluate("out", "n_threads=2", test="validation.npz") == 3
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_params_file_is_checked_without_torch():
    (problem,) = check_sections({"evaluate_images": {"seeds": 2}})
    assert problem.startswith("evaluate_images.seeds: ")
