"""Oracles: files written by hand; OGB's published split of ogbg-molbace."""

from collections import Counter
from pathlib import Path

import pytest

from condense.graph_sources.ogb_folder import Config, ogb_folder
from datagen.contracts.errors import DataError, ParamsError
from tests.datagen.contracts.test_graph_folders import OGB, write_ogb


@pytest.mark.parametrize(
    ("split", "ids"),
    [("train", ["mine-2", "mine-0"]), ("validation", ["mine-1"]), ("all", ["mine-0", "mine-1", "mine-2"])],
)
def test_a_part_in_its_own_order(tmp_path: Path, split: str, ids: list[str]):
    raw = write_ogb(tmp_path / "mine")
    found = ogb_folder(Config.model_validate({"split": split, "licence": "MIT"}), raw)
    assert (found.graphs.ids, found.licence, found.origin) == (ids, "MIT", "mine")
    sizes = {"mine-0": 2, "mine-1": 1, "mine-2": 3}
    assert Counter(found.graphs.graph_of_node.tolist()) == {g: sizes[id] for g, id in enumerate(ids)}


def test_a_part_without_graphs(tmp_path: Path):
    raw = write_ogb(tmp_path / "mine")
    with pytest.raises(ParamsError, match="split: test has no graph in"):
        ogb_folder(Config(split="test"), raw)


def test_molbace(root: Path):
    """Hu et al. 2020, arXiv:2005.00687: parts of 80, 10 and 10 % by scaffold."""
    sizes = {
        split: len(ogb_folder(Config.model_validate({"split": split}), root / "data" / "raw" / "molbace").graphs)
        for split in ("train", "validation", "test", "all")
    }
    assert sizes == {"train": 1210, "validation": 151, "test": 152, "all": 1513}


def test_no_folder_of_ogb(tmp_path: Path):
    with pytest.raises(ParamsError, match="--raw: method ogb_folder needs it"):
        ogb_folder(Config(), None)
    with pytest.raises(DataError, match=r"no file raw/edge.csv.gz there"):
        ogb_folder(Config(), tmp_path)
    files = {name: content for name, content in OGB.items() if not name.startswith("split")}
    with pytest.raises(DataError, match="expected one folder with a split, there is none; or set split=all"):
        ogb_folder(Config(), write_ogb(tmp_path, files))
