"""The review sheet in a real browser, driven by keyboard alone: two people fill it, and their files are read back."""

import asyncio
import csv
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from datagen.contracts.stage import main
from datagen.doctor import BROWSERS
from datagen.stages.label_quality import STAGE
from tests.datagen.stages.conftest import write
from tests.waiting import wait_until

ATTACK = '</article></script><script>document.title="owned"</script><img src=x onerror="document.title=2">'
ROWS: list[Any] = [
    {"id": "joy/0", "text": "At last!", "context": "It rained.", "labels": ["joy"]},
    {"id": "fear/0", "text": ATTACK, "context": ATTACK, "character": ATTACK, "labels": ["fear"]},
    {"id": "calm/0", "text": "It is noon.", "labels": []},
]
LABELS = ["joy", "fear", "=1+1</article><img src=x>"]  # keys a, b and c
KEYS = {"Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("own_home")]


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def label_quality(folder: Path, out: str, *more: str) -> dict[str, Any]:
    taxonomy = {"name": "moods", "labels": [{"name": name} for name in LABELS]}
    (folder / "moods.yaml").write_text(json.dumps(taxonomy))
    examples = write(folder / "examples.jsonl", ROWS)
    arguments = ["--examples", str(examples), "--out", str(folder / out), "--metrics", str(folder / f"{out}.json")]
    assert main(STAGE, [*arguments, *more, "--set", f"taxonomy={folder / 'moods.yaml'}"]) == 0
    return json.loads((folder / f"{out}.json").read_text())


class Tab:
    """A page of a running Chromium, spoken to by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, saved: Path) -> None:
        self._socket, self._saved = socket, saved
        self._n_sent = 0

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._n_sent += 1
        await self._socket.send_json({"id": self._n_sent, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=30)
            if message.get("id") == self._n_sent:
                assert "error" not in message, message
                return message["result"]

    async def value(self, expression: str) -> Any:
        return (await self.send("Runtime.evaluate", expression=expression))["result"].get("value")

    async def open(self, page: Path) -> None:
        await self.send("Page.navigate", url=page.as_uri())
        while await self.value("document.readyState + location.protocol") != "completefile:":
            await asyncio.sleep(0.02)

    async def until_saved(self, name: str) -> None:
        file = self._saved / f"{name}.csv"
        assert await asyncio.to_thread(wait_until, file.is_file)

    async def press(self, *keys: str, ctrl: bool = False) -> None:
        for key in keys:
            named = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper())), "modifiers": 2 * ctrl}
            text = {} if ctrl or key in KEYS else {"text": key}
            await self.send("Input.dispatchKeyEvent", type="keyDown", **named, **text)
            await self.send("Input.dispatchKeyEvent", type="keyUp", **named)


@pytest.fixture
def with_browser(needs: Callable[..., None], tmp_path: Path) -> Callable[[Callable[[Tab], Awaitable[None]]], None]:
    """Runs what it is given with a tab of a Chromium of its own, which saves files into `saved`."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        needs(program=BROWSERS[0], remedy="apt-get install chromium")

    @asynccontextmanager
    async def tab() -> AsyncIterator[Tab]:
        profile = tmp_path / "profile"
        browser = subprocess.Popen(
            [str(found), *FLAGS, f"--user-data-dir={profile}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            assert wait_until((profile / "DevToolsActivePort").is_file)
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                    (page,) = [one for one in await response.json() if one["type"] == "page"]
                async with session.ws_connect(page["webSocketDebuggerUrl"]) as socket:
                    yield Tab(socket, tmp_path / "saved")
        finally:
            browser.kill()
            browser.wait()

    def run(drive: Callable[[Tab], Awaitable[None]]) -> None:
        async def driven() -> None:
            async with tab() as one:
                await one.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
                await drive(one)

        asyncio.run(driven())

    return run


def test_two_people_fill_it_by_keyboard_and_their_files_are_read_back(
    with_browser: Callable[..., None], tmp_path: Path
):
    """Ada gives each row the label that it has, the third none; Bob answers a row alone, comes back, and mends it.

    By hand: Ada agrees with all rows; Bob says of the first that he sees both joy and the label that is a formula.
    """
    label_quality(tmp_path, "first")
    sheet = tmp_path / "first" / "review.html"
    with (tmp_path / "first" / "review.csv").open(newline="", encoding="utf-8-sig") as file:
        order = [row["row"] for row in csv.DictReader(file)]
        file.seek(0)
        of_text = {row["text"]: row["row"] for row in csv.DictReader(file)}
    key_of = {of_text["At last!"]: "a", of_text[ATTACK]: "b"}

    async def fill(tab: Tab) -> None:
        await tab.open(sheet)
        assert await tab.value("document.title") == "datastill: which labels hold?"
        assert await tab.value("document.images.length + document.scripts.length") == 1
        assert await tab.value("[...document.querySelectorAll('blockquote')].map((b) => b.textContent).join('|')") == (
            "|".join(sorted(of_text, key=lambda text: order.index(of_text[text])))
        )
        await tab.press("s", ctrl=True)  # without a name: the field for it is where one writes now
        assert "Write your name" in await tab.value("document.getElementById('notice').textContent")
        await tab.press(*"Ada", "Enter")
        for code in order:
            await tab.press(*key_of.get(code, ""), "Enter")
        assert await tab.value("document.getElementById('progress').textContent.includes('3 answered')")
        await tab.press("s", ctrl=True)
        await tab.value("localStorage.clear()")
        await tab.open(sheet)
        place = order.index(of_text["At last!"])
        await tab.press(*["ArrowRight"] * place, "b", "c", "a")
        await tab.open(sheet)  # as after a restart: the answer is still there, the first open row is shown
        await tab.press(*["ArrowLeft"] * 3, *["ArrowRight"] * place, "b")
        await tab.value("document.getElementById('reviewer').focus()")
        await tab.press(*"Bob B", "Enter")
        await tab.press("s", ctrl=True)

        for name in ("Ada", "Bob-B"):
            await tab.until_saved(name)

    with_browser(fill)
    written = (tmp_path / "saved" / "Bob-B.csv").read_text()
    assert "'=1+1" not in written  # the cell begins with another label, so no spreadsheet calculates
    people = label_quality(tmp_path, "second", "--reviews", str(tmp_path / "saved"))["people"]
    assert people["by_person"]["Ada"]["rows"] == 3 and people["by_person"]["Ada"]["exact"]["value"] == 1.0
    assert people["by_person"]["Bob-B"]["rows"] == 1 and people["by_person"]["Bob-B"]["exact"]["value"] == 0.0
    assert people["between"]["rows"] == 1
    assert people["dataset"]["labels"]["joy"]["both"] == 1
