"""Headless Chromium under the DevTools protocol: a page that is opened, asked, typed into and photographed.

It keeps what the page requested and what its console said. The browser's own requests are not the page's.
"""

import asyncio
import base64
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp

from datagen.doctor import BROWSERS

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
START_S = 60
ANSWER_S = 60


def find_chromium() -> str | None:
    """The program, where it is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._n_sent = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requested: list[str] = []
        self.said: list[str] = []  # by the console, errors of the page included

    async def listen(self) -> None:
        """Take answers and events, until the browser goes."""
        async for message in self._socket:
            told = json.loads(message.data)
            if waiting := self._answers.pop(told.get("id", 0), None):
                waiting.set_result(told)
            elif told.get("method") == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            elif told.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                self.said.append(json.dumps(told["params"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command's result."""
        self._n_sent += 1
        answer = self._answers[self._n_sent] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._n_sent, "method": method, "params": params})
        told = await asyncio.wait_for(answer, ANSWER_S)
        assert "error" not in told, f"{method}: {told['error']}"
        return told["result"]

    async def evaluate(self, expression: str) -> Any:
        """The value of JavaScript, awaited where it is a promise; the page's policy does not bind it."""
        told = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def open(self, url: str, ready: str = "document.readyState === 'complete'") -> None:
        """Go to a page and wait until an expression holds there."""
        await self.send("Page.navigate", url="about:blank")  # so that a change of the fragment loads it, too
        await self.send("Page.navigate", url=url)
        await self.until(f"location.href !== 'about:blank' && document.body !== null && ({ready})")

    async def until(self, expression: str) -> None:
        """Wait until it holds."""
        async with asyncio.timeout(ANSWER_S):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.02)

    async def press(self, key: str, text: str = "") -> None:
        """One key, down and up."""
        known = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9}
        params = {"key": key, "code": key, "windowsVirtualKeyCode": known.get(key, ord(key[0]))}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **params, text="\r" if key == "Enter" else text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **params)

    async def look(self, width: int, height: int, *, dark: bool) -> None:
        """The window's size, and what the reader prefers."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode((await self.send("Page.captureScreenshot", format="png"))["data"])


@contextlib.asynccontextmanager
async def chromium(program: str) -> AsyncGenerator[Tab]:
    """A browser with a profile of its own, and its one page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = (program, *FLAGS, f"--user-data-dir={profile}", "about:blank")
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
        try:
            port = Path(profile, "DevToolsActivePort")
            async with asyncio.timeout(START_S):
                while not (port.is_file() and port.read_text().count("\n")):
                    await asyncio.sleep(0.05)
            address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
            async with aiohttp.ClientSession() as session:
                async with session.get(address) as answer:
                    url = next(one["webSocketDebuggerUrl"] for one in await answer.json() if one["type"] == "page")
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    listening = asyncio.create_task(tab.listen())
                    for domain in ("Page", "Network", "Log", "Runtime"):
                        await tab.send(f"{domain}.enable")
                    yield tab
                    listening.cancel()
        finally:
            process.terminate()
            await process.wait()
