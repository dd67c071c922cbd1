"""The pipeline's map: its boxes are the directories given, its lines what their manifests say, its links lead on."""

import json
import re
from pathlib import Path

from datagen.contracts.dataset import content_hash
from datagen.report.map import pipeline_map
from tests.datagen.conftest import write_pipeline

NAMES = ("prompts", "traces", "verified")


def test_boxes_lines_and_links_are_the_manifests(tmp_path: Path):
    """Three datasets in a row and one alone: two lines, four boxes; 12 of 18 attempts came, 6 of them were kept."""
    write_pipeline(tmp_path)
    places = {tmp_path / "data" / name: "funnel" for name in NAMES} | {tmp_path / "data" / "evaluation": "rates"}
    drawn = pipeline_map(places)
    told = re.findall(r'<a href="#(\w+)" aria-label="([^"]+)"', drawn)
    assert {(part, said.split(";")[0].replace(f"{tmp_path}/", "")) for part, said in told} == {
        ("funnel", "prompts wrote data/prompts"), ("funnel", "traces wrote data/traces"),
        ("funnel", "verify wrote data/verified"), ("rates", "evaluate_lm wrote data/evaluation"),
    }  # fmt: skip
    assert drawn.count("<path ") == 2
    assert any("12 rows; 6 dropped" in said for _, said in told) and any(
        "6 rows; 6 dropped" in said for _, said in told
    )


def test_columns_follow_the_flow_and_no_two_boxes_lie_on_each_other(tmp_path: Path):
    """A chain of three, and two further steps of its last: the columns 0, 1, 2, 3, 3."""
    write_pipeline(tmp_path)
    places = {tmp_path / "data" / name: "funnel" for name in NAMES}
    for name in ("one", "another"):
        made = tmp_path / "data" / name
        made.mkdir()
        manifest = {
            "format": "datastill",
            "stage": "filter",
            "inputs": {"dataset": content_hash(tmp_path / "data" / "verified")},
            "name": name,
        }
        (made / "manifest.json").write_text(json.dumps(manifest))
        places[made] = "funnel"
    corners = re.findall(r'<rect x="(\d+)" y="(\d+)"', pipeline_map(places))
    assert len(set(corners)) == 5
    columns = sorted(int(x) for x, _ in corners)
    assert columns[3] == columns[4] and len(set(columns)) == 4


def test_what_is_not_shown_is_named(tmp_path: Path):
    """The traces were made of prompts that the report was not given; one box alone is no map."""
    write_pipeline(tmp_path)
    places = {tmp_path / "data" / name: "funnel" for name in ("traces", "verified")}
    assert "made of prompts, not shown here" in pipeline_map(places)
    assert pipeline_map({tmp_path / "data" / "traces": "funnel"}) == ""
