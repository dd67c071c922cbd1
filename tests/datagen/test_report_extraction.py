"""The report on what was extracted: shares counted by hand; no text of a model's can act in the page."""

import re
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.records import Message, Prompt, Trace
from datagen.contracts.stage import main
from datagen.report.extraction import extraction_section
from datagen.stages.match import STAGE
from tests.datagen.extraction.test_matching import OTHERS, PARAPHRASES
from tests.datagen.stages.conftest import write

HOSTILE = "<script>alert(1)</script>"
ROWS = [row for row, _ in PARAPHRASES]


def write_extracted(out: Path, texts: list[str], stage: str = "extract") -> Path:
    manifest = {"stage": stage, "template": {"prefix": f"<|im_start|>user\n{HOSTILE}"}}
    with DatasetWriter(out, Trace, manifest) as writer:
        for i, text in enumerate(texts):
            writer.read()
            question = [Message(role="user", content=text)]
            answer = HOSTILE if i == 0 else "x"
            writer.put(Trace(id=f"e{i}", prompt=Prompt(id=f"p{i}", messages=question), completion=answer))
    return out


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Of three texts one is a row of the eight, but for what follows it in both."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))

    def rows(prefix: str, texts: list[str]) -> list[Any]:
        return [{"id": f"{prefix}{i}", "text": text} for i, text in enumerate(texts)]

    return {
        "extracted": write_extracted(tmp_path / "extracted", [ROWS[0], *OTHERS[:2]]),
        "against": write(tmp_path / "against.jsonl", rows("a", [f"{ROWS[0]}\n{HOSTILE}", *ROWS[1:]])),
        "calibration": write(tmp_path / "calibration.jsonl", rows("u", OTHERS[4:])),
    }


def test_shares_curves_and_pairs(inputs: dict[str, Path], tmp_path: Path):
    """One of three texts matches one of eight rows, by every measure; the pair with the largest cosine comes first."""
    out = tmp_path / "match"
    paths = [part for name, path in inputs.items() for part in (f"--{name}", str(path))]
    assert main(STAGE, [*paths, "--out", str(out), "--set", "false_match_rate=0.05"]) == 0
    page = extraction_section(inputs["extracted"], out, inputs["against"])
    assert HOSTILE not in page and page.count("&lt;script&gt;") >= 3
    shares = re.findall(r'<td class="number">(\d+)\u202f%</td>', page)
    assert shares == ["33", "12"] * 3  # 1 of 3, 1 of 8
    assert len(re.findall(r"<polyline", page)) == 3
    first = page.index("written: <code>e0</code>")
    assert first < page.index("row: <code>a0</code>") and "cosine 1.000, edit similarity 1.000" in page[:first]


def test_what_another_stage_wrote_is_refused(inputs: dict[str, Path], tmp_path: Path):
    other = write_extracted(tmp_path / "traces", ROWS[:1], stage="traces")
    with pytest.raises(DataError, match="traces"):
        extraction_section(other, other, inputs["against"])
