"""Every tutorial of docs/tutorials does what it says; the oracle is its own text.

Its ```bash blocks run in order, in a folder that holds data/raw as a checkout does. What a block prints must hold the
lines of the ```text block after it, in order; `...` stands for lines left out. Another machine's rounding may change
the numbers and hashes of a ```text varies block, which are not compared, and the words of a ```text example block, of
which only is asked that something is printed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
NAMES = ("traces", "synthesis", "images", "graphs", "students", "extraction")
BLOCK = re.compile(r"^```(bash|text)( varies| example)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b|(?<!\w)-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")  # or a hash
MOST_S = 240


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Each command block with how much of its output is shown, `` varies`` or `` example`` where not all, and what."""
    found: list[tuple[str, str, str]] = BLOCK.findall(text)
    assert found[0][0] == "bash"
    for n, (kind, _, commands) in enumerate(found):
        if kind == "bash":
            following = found[n + 1] if n + 1 < len(found) else ("bash", "", "")
            _, how, shown = following if following[0] == "text" else ("", "", "")
            yield commands, how, shown


def missing_line(shown: str, printed: str, how: str = "") -> str | None:
    """The first line shown that the output lacks after those before it."""
    if how == " example":
        return None if printed.strip() else shown
    said = masked if how else str.rstrip
    lines = iter([said(line) for line in printed.splitlines()])
    return next((line for line in shown.splitlines() if line != "..." and said(line) not in lines), None)


def masked(line: str) -> str:
    """Without its numbers, its hashes, and the spaces that align them."""
    return " ".join(NUMBER.sub("0", line).split())


def test_there_is_one_for_each_job():
    assert {file.stem for file in FOLDER.glob("*.md")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_does_what_it_says(name: str, root: Path, tmp_path: Path):
    folder, home = tmp_path / "checkout", tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    home.mkdir()
    (folder / "data" / "raw").symlink_to(root / "data" / "raw")
    if (converted := root / ".cache" / "models").exists():
        (home / "models").symlink_to(converted)  # else it is converted here
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "DATASTILL_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATASTILL_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",  # as wide as a tutorial's longest line of output
    }
    for commands, how, shown in blocks((FOLDER / f"{name}.md").read_text()):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True,
            check=False, timeout=MOST_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        assert (line := missing_line(shown, done.stdout, how)) is None, (
            f"{commands}\nprints no {line!r}:\n{done.stdout}"
        )


def test_a_line_that_is_not_printed_is_found():
    assert missing_line("a\n...\nc\n", "a\nb\nc\n") is None
    assert missing_line("c\na\n", "a\nb\nc\n") == "a"
    assert missing_line("d\n", "a\n") == "d"


@pytest.mark.parametrize(
    ("shown", "printed", "how", "missing"),
    [
        ('  "in": 4,\n  "out": 1\n', '  "in": 12,\n  "out": -1.5e-05\n', " varies", None),
        ("├── 4  9.1 %  cut_off\n", "├── 12  27.3 %  cut_off\n", " varies", None),
        ("made of raw 2e0a7cd85781…\n", "made of raw 0123456789ab…\n", " varies", None),
        ('"in": 4\n', '"into": 4\n', " varies", '"in": 4'),
        ('"f1": 4\n', '"f2": 4\n', " varies", '"f1": 4'),
        ('"out": 4\n"in": 4\n', '"in": 4\n"out": 4\n', " varies", '"in": 4'),
        ('"in": 4\n', '"in": 5\n', "", '"in": 4'),
        ("one\n", "two\n", " example", None),
        ("one\n", "\n", " example", "one\n"),
    ],
)
def test_numbers_may_vary_and_nothing_else(shown: str, printed: str, how: str, missing: str | None):
    assert missing_line(shown, printed, how) == missing


def test_a_block_is_compared_as_it_says():
    text = "```bash\na\n```\n\n```text varies\nb\n```\n```bash\nc\n```\n```bash\nd\n```\n```text\ne\n```\n"
    assert [*blocks(text)] == [("a\n", " varies", "b\n"), ("c\n", "", ""), ("d\n", "", "e\n")]
