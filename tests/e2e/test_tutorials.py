"""Every tutorial of docs/tutorials does what it says; the oracle is its own text.

Its ```bash blocks run in order, in a folder that holds data/raw as a checkout does. What a block prints must hold the
lines of the ```text block after it, in order; `...` stands for lines left out. A ```text varies block shows one run's
output, which another machine's rounding may change, and is not compared.
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
BLOCK = re.compile(r"^```(bash|text)( varies)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MOST_S = 240


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each command block with what must be in its output."""
    found = [(kind, bool(varies), content) for kind, varies, content in BLOCK.findall(text)]
    assert found[0][0] == "bash"
    for n, (kind, _, content) in enumerate(found):
        if kind == "bash":
            following = found[n + 1] if n + 1 < len(found) else ("bash", False, "")
            yield content, following[2] if following[:2] == ("text", False) else ""


def missing_line(shown: str, printed: str) -> str | None:
    """The first line shown that the output lacks after those before it."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    return next((line for line in shown.splitlines() if line != "..." and line.rstrip() not in lines), None)


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
    }
    for commands, shown in blocks((FOLDER / f"{name}.md").read_text()):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True,
            check=False, timeout=MOST_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        assert (line := missing_line(shown, done.stdout)) is None, f"{commands}\nprints no {line!r}:\n{done.stdout}"


def test_a_line_that_is_not_printed_is_found():
    assert missing_line("a\n...\nc\n", "a\nb\nc\n") is None
    assert missing_line("c\na\n", "a\nb\nc\n") == "a"
    assert missing_line("d\n", "a\n") == "d"
