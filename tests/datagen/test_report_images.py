"""The report on condensed images: what the datasets hold, counted by hand; no name can act in the page."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.condensed import CondensedSet, write_condensed
from condense.pixels.transform import Transform
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageRow
from datagen.report.images import MAX_IMAGES, image_sections

HOSTILE = "<script>alert(1)</script>"
ACCURACY = {"mean": 0.5, "low": 0.4, "high": 0.625}


def write_set(out: Path, n: int = 4, **stated: Any) -> Path:
    """`n` images of two classes, one of a hostile name."""
    figures = np.array([0.5], np.float32)
    condensed = CondensedSet(
        pixels=np.random.default_rng(0).normal(size=(n, 1, 4, 4)).astype(np.float32),
        labels=np.arange(n) % 2,
        transform=Transform(kind="standard", shape=(1, 4, 4), mean=figures, scale=figures),
        classes=[HOSTILE, "one"],
    )
    manifest = {"stage": "condense_images", "method": "trajectory_matching", "images_per_class": n // 2} | stated
    write_condensed(out, condensed, 8, manifest, [{"iteration": i, "loss": 1 - i / 10} for i in range(5)])
    return out


def write_evaluation(out: Path) -> Path:
    def entry(*regimes: str) -> dict[str, Any]:
        by_net = {"convnet2": {"accuracy": ACCURACY}, "mlp": {"accuracy": ACCURACY}}
        return {"n_images": 2, "bytes": dict.fromkeys(regimes, 1234), "regimes": dict.fromkeys(regimes, by_net)}

    figures = {
        "n_nets": 2, "n_seeds": 5, "whole": entry("hard"), "coresets": {"k_means-2": entry("hard", "soft")},
        "condensed": {"matching": {**entry("hard", "soft"), "standing": {"convnet2": "wins by its labels"}}},
    }  # fmt: skip
    with DatasetWriter(out, ImageRow, {"stage": "evaluate_images", "figures": figures}):
        pass
    return out


def test_every_image_is_shown_in_its_class_with_the_loss(tmp_path: Path):
    """Two images a class, 4 x 4 x 4 codes, 4 labels, scale and offset, mean and deviation: 64 + 4 + 8 + 8 bytes."""
    (tmp_path / "sets").mkdir()
    write_set(tmp_path / "sets" / "matching")
    page = image_sections(tmp_path / "sets", None)
    assert page.count("data:image/png;base64,") == 4
    assert (
        "4 images, 2 a class, 84 bytes with all that students need, made by <code>trajectory_matching</code>." in page
    )
    assert page.count("<polyline") == 1 and "iteration 0" in page
    assert HOSTILE not in page and "&lt;script&gt;" in page


def test_many_images_of_a_class_are_cut_and_a_divergence_is_said(tmp_path: Path):
    page = image_sections(write_set(tmp_path / "set", 40, diverged_at=7), None)
    assert page.count("data:image/png;base64,") == 2 * MAX_IMAGES
    assert "diverged at iteration 7" in page


def test_arms_stand_in_a_table_for_each_regime(tmp_path: Path):
    """Whole and two sets by hard labels, the two by soft ones; everything has no soft labels."""
    page = image_sections(None, write_evaluation(tmp_path / "evaluation"))
    tables = re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert [table.count("<tr>") for table in tables] == [3, 2]
    assert len(re.findall(r"width:50(\.0+)?%", page)) == 10
    assert "<code>matching</code> on convnet2: wins by its labels" in page


def test_another_stage_s_dataset_is_refused(tmp_path: Path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    with pytest.raises(DataError, match="expected what condense_images writes, found evaluate_images"):
        image_sections(evaluation, None)


def test_a_folder_of_a_set_and_one_of_several_are_read(tmp_path: Path):
    one = write_set(tmp_path / "sets" / "a")
    write_set(tmp_path / "sets" / "b")
    assert image_sections(one, None).count("<section") == 1
    assert image_sections(tmp_path / "sets", None).count("<section") == 2
    assert json.loads((one / "loss.json").read_text())[4]["loss"] == pytest.approx(0.6)
