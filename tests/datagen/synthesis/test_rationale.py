"""Oracles: answers by hand; what train_lm's own reader makes of the rows."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from datagen.backends.base import Completion, Outcome, Request, Sampling
from datagen.contracts.records import Document, Trace
from datagen.synthesis.flow import Flow, Setting, Written, run_flows
from datagen.synthesis.rationale import Config, rationale

SOURCES = [Document(id="a", text="At last the rain!"), Document(id="b", text="Who took my boat?")]


def write(label: str, taxonomy: str = "goemotions") -> tuple[list[Written], list[str]]:
    asked: list[str] = []

    def generate(requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            asked.append(request.messages[0].get("content") or "")
            text = json.dumps({"reason": "They waited for it.", "label": label})
            yield Outcome(request=request, key=b"", answer=Completion(text=text))

    async def start(source: Document, flow: Flow) -> list[Trace]:
        return await rationale(Config(method="rationale", taxonomy=taxonomy), source, flow)

    setting = Setting(stage="corpus", sampling=Sampling(), teacher="t")
    return list(run_flows(start, SOURCES, generate, setting)), asked


def test_a_text_is_two_tasks():
    """The label and the reason, each after a question with its own prefix; the label is what is right, too."""
    written, asked = write("Relief")
    rows = [row for one in written for row in one.rows if isinstance(row, Trace)]
    assert [(row.prompt.id, row.completion, row.prompt.reference) for row in rows] == [
        ("a/label", "relief", "relief"),
        ("a/rationale", "They waited for it.", None),
        ("b/label", "relief", "relief"),
        ("b/rationale", "They waited for it.", None),
    ]
    assert [row.prompt.text.split()[0] for row in rows] == ["[label]", "[rationale]"] * 2
    assert all(source.text in row.prompt.text for source, row in zip(SOURCES, rows[::2], strict=True))
    assert len(asked) == 2 and all("- relief: " in one for one in asked)


def test_a_label_of_no_taxonomy_loses_both():
    written, _ = write("hunger")
    assert [(row.id, row.reason) for one in written for row in one.rejections] == [
        ("a", "no_label_of_the_taxonomy"), ("b", "no_label_of_the_taxonomy")
    ]  # fmt: skip
    assert not [row for one in written for row in one.rows]


def test_a_taxonomy_of_one_s_own(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nlabels: [{name: wet}, {name: dry}]\n")
    written, asked = write("dry", str(path))
    assert next(row.completion for row in written[0].rows if isinstance(row, Trace)) == "dry"
    assert "- wet\n- dry\n" in asked[0]
