"""The report in a real browser: it loads nothing, breaks nothing, and shows its figures in every width and light."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datagen.doctor import BROWSERS
from tests.datagen.conftest import write_pipeline

STUDENT = ("--student", "models/student", "--evaluation", "data/evaluation")
pytestmark = pytest.mark.e2e
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=2000",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small pipeline whose prompts and answers attack the page that shows them."""
    root = tmp_path_factory.mktemp("run")
    write_pipeline(root)
    inputs = [word for name in ("prompts", "traces", "verified") for word in (f"--{name}", f"data/{name}")]
    subprocess.run(
        [sys.executable, "-m", "datagen.cli", "report", *inputs, *STUDENT, "--out", "report"],
        cwd=root, check=True, env={"DATASTILL_HOME": str(root / "home"), "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    return root / "report" / "index.html"


@pytest.fixture
def browse(needs: Callable[..., None], tmp_path: Path) -> Callable[..., str]:
    """Opens a page in Chromium with a profile of its own; gives what it printed, its log included."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        needs(program=BROWSERS[0], remedy="apt-get install chromium")

    def run(page: Path, *flags: str) -> str:
        command = [str(found), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout + ran.stderr

    return run


def test_the_figures_are_in_the_page_that_the_browser_built(page: Path, browse: Callable[..., str]):
    """Six prompts, twelve answers, six kept; the hostile text is text."""
    dom = browse(page, "--dump-dom")
    assert "<dd>6</dd><dt>prompts</dt>" in dom and "<dd>12</dd><dt>answers judged</dt>" in dom
    assert "6 kept" in dom and "keywords:existence" in dom and "25\u202f%" in dom and "<polyline" in dom
    assert "<script" not in dom and "<img" not in dom and "&lt;script&gt;" in dom


def test_nothing_is_requested_and_nothing_fails(page: Path, browse: Callable[..., str], tmp_path: Path):
    """Oracle: the browser's own record of its network, which shows the picture of a page that has one; its console."""

    def requested(page: Path) -> tuple[set[str], str]:
        record = tmp_path / "net.json"
        log = browse(page, f"--log-net-log={record}", "--enable-logging=stderr", "--v=0", "--dump-dom")
        made = re.findall(r'"initiator":"(.*?)".*?"url":"(http.*?)"', record.read_text())
        return {url for initiator, url in made if initiator != "not an origin"}, log  # which is the browser itself

    control = tmp_path / "control.html"
    control.write_text('<img src="http://127.0.0.1:9/picture.png">')
    assert requested(control)[0] == {"http://127.0.0.1:9/picture.png"}
    urls, log = requested(page)
    assert not urls and "CONSOLE" not in log


@pytest.mark.parametrize("width", [360, 1200])
def test_it_looks_the_part_in_light_and_dark(page: Path, browse: Callable[..., str], tmp_path: Path, width: int):
    """The two pictures differ, so the page follows the reader's light; neither is blank."""
    pictures: list[bytes] = []
    for light in ("1", "0"):
        picture = tmp_path / f"{light}.png"
        browse(
            page,
            f"--screenshot={picture}",
            f"--window-size={width},1600",
            f"--blink-settings=preferredColorScheme={light}",
        )
        pictures.append(picture.read_bytes())
    assert pictures[0] != pictures[1] and min(map(len, pictures)) > 20_000
