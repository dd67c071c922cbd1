"""The pipeline as a picture; oracle: the XML parser, and where boxes must stand to one another."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.publish.history import History, Step, read_history
from datagen.publish.picture import describe_pipeline, pipeline_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def history(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.chdir(pipeline)
    return read_history(Path("data/verified"))


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """First line of a box to its place and size; the ground is none."""
    root = ET.fromstring(svg)
    places = [
        tuple(float(one.get(key) or 0) for key in ("x", "y", "width", "height")) for one in root.iter(f"{SVG}rect")
    ]
    heads = [one.text or "" for one in root.iter(f"{SVG}text") if one.get("font-weight") == "600"]
    return dict(zip(heads, places[1:], strict=True))  # pyright: ignore[reportReturnType]


def test_every_step_is_a_box_below_what_it_was_made_of(history: History):
    found = boxes(pipeline_svg(history))
    assert list(found) == ["prompts", "traces", "verify"]
    tops = [place[1] for place in found.values()]
    assert tops == sorted(tops) and len(set(tops)) == 3


def test_boxes_lie_within_and_beside_each_other(history: History):
    """A diamond, with a file that two steps read and one arrow past a step."""
    first, *_ = history.steps

    def step(path: str, **parents: str) -> Step:
        hashes = {**dict.fromkeys(parents, "aa"), "file": "ff" * 32}
        return replace(first, path=path, stage=path, parents=parents, hashes=hashes)

    steps = [step("a"), step("b", x="a"), step("c", x="a"), step("d", x="b", y="c", z="a")]
    svg = pipeline_svg(replace(history, steps=steps, published=["d"]))
    _, _, width, height = (float(one) for one in (ET.fromstring(svg).get("viewBox") or "").split())
    found = boxes(svg)
    assert set(found) == {"a", "b", "c", "d", "file"}
    assert found["file"][1] < found["a"][1] < found["b"][1] == found["c"][1] < found["d"][1]
    places = list(found.values())
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in places)
    apart = [a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
             for i, a in enumerate(places) for b in places[:i]]  # fmt: skip
    assert all(apart)
    assert svg.count("marker-end") == 5 + 4  # five of steps, and the file to each


def test_it_says_itself_in_words_and_runs_nothing(history: History):
    hostile = replace(history.last, stage="<script>alert(1)</script>", method="'x'")
    svg = pipeline_svg(replace(history, steps=[*history.steps[:2], hostile]))
    assert "<script" not in svg and "href" not in svg and "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    title = ET.fromstring(pipeline_svg(history)).find(f"{SVG}title")
    assert title is not None and title.text == describe_pipeline(history)
    assert "verify kept 6 of 12 rows" in describe_pipeline(history)
    assert "12 in → 6 kept, 6 dropped" in pipeline_svg(history)
