"""The report on condensed graphs: trees counted and drawn by hand; no name can act in the page."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.condensed_graphs import CondensedGraphs, as_condensed, write_condensed_graphs
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.graphs import GraphRow, GraphSet
from datagen.report.graphs import STORED, graph_sections
from datagen.report.trees import DrawnTree, draw

HOSTILE = "<script>alert(1)</script>"


def atom(number: int) -> list[int]:
    return [number - 1, *[0] * 8]


def two_patterns() -> CondensedGraphs:
    """Class 0, weight 300: a carbon below a nitrogen, by a double bond. Class 1, weight 7: that, and C of C and O."""
    labels = [atom(7), atom(6), atom(7), atom(6), atom(6), atom(6), atom(8)]
    graphs = GraphSet(
        node_offsets=np.array([0, 2, 7]),
        edge_offsets=np.array([0, 1, 4]),
        edges=np.array([[1, 3, 5, 6], [0, 2, 4, 4]]),
        node_labels=np.array(labels),
        edge_labels=np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [3, 0, 1]]),
        node_features=np.zeros((7, 0), np.float32),
        labels=np.array([0, 1]),
        ids=["a", "b"],
        classes=[HOSTILE, "yes"],
    )
    is_root = np.array([True, False, True, False, True, False, False])
    return CondensedGraphs(graphs=graphs, is_root=is_root, weights=np.array([300, 7], np.float32))


def write_set(out: Path, made: CondensedGraphs, **stated: Any) -> Path:
    manifest = {"stage": "condense_graphs", "method": "mirage", "graphs_are": "made", "raw_bytes": 5000} | stated
    write_condensed_graphs(out, made, manifest)
    return out


def write_evaluation(out: Path) -> Path:
    def entry(size: float, mean: float) -> dict[str, Any]:
        scores = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
        return {
            "n_graphs": 2,
            "bytes": size,
            "nets": {net: {"auc": scores, "accuracy": scores} for net in ("gin", "gcn")},
        }

    figures = {
        "measure": "auc", "n_seeds": 10, "whole": entry(100_000, 0.8), "coresets": {"k_means-600": entry(590.5, 0.6)},
        "condensed": {"mirage": {**entry(600, 0.7), "standing": {"gin": "wins", "gcn": HOSTILE}}},
    }  # fmt: skip
    with DatasetWriter(out, GraphRow, {"stage": "evaluate_graphs", "figures": figures}):
        pass
    return out


def test_trees_of_each_class_with_their_weights(tmp_path: Path):
    """One tree of class 0, two of class 1; letters and lines counted."""
    (tmp_path / "sets").mkdir()
    write_set(tmp_path / "sets" / "ours", two_patterns())
    page = graph_sections(tmp_path / "sets", None)
    assert page.count('<svg class="tree"') == 3 and page.count('class="root"') == 3
    letters = Counter(re.findall(r"<text [^>]*>([^<]*)</text>", page))
    assert letters == Counter({"C": 4, "N": 2, "O": 1})
    assert Counter(re.findall(r"<title>(\w+) bond</title>", page)) == Counter(double=2, single=1, aromatic=1)
    # two lines of each double and of the aromatic bond, one of the single one
    assert page.count("<line ") == 7 and page.count("stroke-dasharray") == 1
    assert re.findall(r"<figcaption>([^<]*)</figcaption>", page) == ["300", "7", "7"]
    assert "yes: 2 trees" in page and "bytes of 5,000" in page
    assert HOSTILE not in page and "&lt;script&gt;" in page


def test_a_tree_that_is_no_molecule():
    """A path: the root in the middle, one node below it straight down, at one ring's distance; labels as numbers."""
    leaf = DrawnTree(labels=(12, 5), children=())
    picture = draw(DrawnTree(labels=(3,), children=(((4,), leaf),)))
    assert re.findall(r">([^<]*)</text>", picture) == ["3", "12…"]
    assert re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', picture) == [("0.0", "0.0"), ("0.0", "30.0")]
    assert "<title>edge 4</title>" in picture and "<title>labels 12, 5</title>" in picture


def test_real_graphs_are_counted_and_not_drawn(tmp_path: Path):
    path = write_set(tmp_path / "chosen", as_condensed(two_patterns().graphs), graphs_are="real", method="k_means")
    page = graph_sections(path, None)
    assert "2 graphs chosen by <code>k_means</code>" in page and "<svg" not in page


def test_weights_are_one_where_none_are_stored(tmp_path: Path):
    made = two_patterns()
    plain = CondensedGraphs(graphs=made.graphs, is_root=made.is_root, weights=np.ones(2, np.float32))
    assert graph_sections(write_set(tmp_path / "plain", plain), None).count("<figcaption>1</figcaption>") == 3


def test_bytes_against_what_is_learned(tmp_path: Path):
    """Marks from 100 to 100,000 bytes, 0.5 to 0.9; the whole set at their right end, higher than the others."""
    page = graph_sections(None, write_evaluation(tmp_path / "evaluation"))
    assert page.count('<svg class="scatter"') == 2
    assert "0.700 <small>0.650 to 0.750</small>" in page and "590.5" in page and "wins" in page
    assert "<title>mirage, 600 bytes: 0.700, 0.650 to 0.750</title>" in page
    first = page[page.index('<svg class="scatter"') : page.index("</svg>")]
    assert re.findall(r'class="x[^>]*>([^<]*)<', first) == ["100", "1,000", "10,000", "100,000"]
    assert re.findall(r'class="y"[^>]*>([^<]*)<', first) == ["0.5", "0.6", "0.7", "0.8", "0.9"]
    at = {
        kind: (float(x), float(y))
        for kind, x, y in re.findall(r'<g class="(\w+)">.*?cx="([\d.]*)" cy="([\d.]*)"', first)
    }
    # of 274 points in width three decades, of 168 in height four tenths
    assert at["whole"] == pytest.approx((312, 8 + 168 * 0.25), abs=0.06)
    assert at["condensed"] == pytest.approx((38 + 274 * np.log10(6) / 3, 8 + 168 * 0.5), abs=0.06)
    assert at["coresets"][1] == pytest.approx(8 + 168 * 0.75, abs=0.06)
    assert HOSTILE not in page


def test_what_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="expected what condense_graphs writes, found evaluate_graphs"):
        graph_sections(write_evaluation(tmp_path / "evaluation"), None)
    path = write_set(tmp_path / "cut", two_patterns())
    (path / STORED).write_bytes((path / STORED).read_bytes()[:20])
    with pytest.raises(DataError, match="cannot be read"):
        graph_sections(path, None)
