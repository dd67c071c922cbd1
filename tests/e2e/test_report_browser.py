"""The row browser in a real browser, from its file: what is found, told, linked to, and what is never obeyed."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Prompt, Trace
from datagen.report.browser import write_browser
from tests.chromium import Tab, chromium, find_chromium
from tests.datagen.conftest import HOSTILE, write_pipeline

pytestmark = pytest.mark.e2e
READY = "document.body.dataset.ready"
LISTED = "[...document.querySelectorAll('#list .row-id')].map((one) => one.textContent)"
N_ROWS = 18 + 8 + 1  # 6 prompts with 3 attempts each, 4 answered before and after training, a raw row that is no prompt
Browse = Callable[[Callable[[Tab, str], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline whose prompts and answers attack the page that shows them, and its report."""
    root = tmp_path_factory.mktemp("run")
    write_pipeline(root)
    inputs = [word for name in ("prompts", "traces", "verified") for word in (f"--{name}", f"data/{name}")]
    student = ("--student", "models/student", "--evaluation", "data/evaluation")
    subprocess.run(
        [sys.executable, "-m", "datagen.cli", "report", *inputs, *student, "--out", "report"],
        cwd=root, check=True, env={"DATASTILL_HOME": str(root / "home"), "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    return root


@pytest.fixture
def browse(root: Path, needs: Callable[..., None]) -> Browse:
    """Does something with a page of Chromium and the address of the row browser."""
    found = find_chromium()
    if found is None:
        needs(program="chromium", remedy="apt-get install chromium")

    def run(work: Callable[[Tab, str], Coroutine[Any, Any, None]]) -> None:
        async def opened() -> None:
            async with chromium(str(found)) as tab:
                await work(tab, (root / "report" / "rows.html").as_uri())
                assert tab.said == [], "the console is silent"
                assert all(url.startswith(("file:///", "about:blank")) for url in tab.requested), tab.requested

        asyncio.run(opened())

    return run


async def enter(tab: Tab, name: str, value: str) -> None:
    """As a reader does: a control's value replaced at once, then what typing or choosing tells the page."""
    kind = "input" if name == "search" else "change"
    await tab.evaluate(f"""(() => {{
        const control = document.getElementById({json.dumps(name)});
        control.value = {json.dumps(value)};
        control.dispatchEvent(new Event({json.dumps(kind)}, {{ bubbles: true }}));
    }})()""")


def test_search_and_filters_find_what_the_datasets_hold(browse: Browse):
    """Counts by hand: see `write_pipeline`. Words are looked for apart, a phrase as one, in any case of letters."""

    async def work(tab: Tab, page: str) -> None:
        await tab.open(page, READY)
        assert await tab.evaluate("document.getElementById('found').textContent") == f"{N_ROWS} of {N_ROWS} rows"
        for query, n in (
            ("ZEBRA3", 3),  # in p3's prompt, so all its attempts
            ("horse3", 1),  # in one answer
            ("horse ran", 6),
            ('"horse ran"', 0),
            ('"horse3 ran"', 1),
            ("nothing in it", 1),  # in the detail of a rejection
            ("p4#1", 1),
            (
                "\\x1b[31m",
                12 + 8 + 1,
            ),  # the invisible is written out; in all answers, and in p0, whose last attempt has none
            ("e", N_ROWS),
        ):
            await enter(tab, "search", query)
            assert len(await tab.evaluate(LISTED)) == n, query
        await enter(tab, "search", "")
        for name, value, n in (
            ("end", "dropped", 13),
            ("end", "kept and trained on", 6),
            ("why", "keywords:existence", 6 + 4),
            ("why", "http_500", 6),
            ("at", "data/verified", 6),
            ("family", "repeat", 9 + 4),
            ("who", "before", 4),
        ):
            await enter(tab, name, f"={value}")
            assert len(await tab.evaluate(LISTED)) == n, (name, value)
            shown = f"document.querySelector('#{name} option:checked').textContent"
            assert await tab.evaluate(shown) == f"{value} ({n})"
            await enter(tab, name, "")
        await enter(tab, "why", "=http_500")
        await enter(tab, "search", "zebra1")
        assert await tab.evaluate(LISTED) == ["p1#2.00000002"]

    browse(work)


def test_a_row_s_way_is_what_why_tells(browse: Browse, root: Path):
    """Oracle: the command's own words, without its lines' breaks; the keyboard opens and closes it."""
    ran = subprocess.run(
        [sys.executable, "-m", "datagen.cli", "why", "p1#1.00000001"], cwd=root, capture_output=True, text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "1000", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    lines = [line.lstrip("│├└─ ") for line in ran.stdout.splitlines()]
    told = {" ".join(line.split()) for line in lines if line and not line.startswith("attempt")}
    assert len(told) > 8

    async def work(tab: Tab, page: str) -> None:
        await tab.open(page, READY)
        await tab.press("/", "/")
        assert await tab.evaluate("document.activeElement.id") == "search"
        await enter(tab, "search", "p1#1")
        await tab.press("ArrowDown")
        await tab.press("Enter")
        await tab.until("document.getElementById('story').open")
        shown = await tab.evaluate(
            "[...document.querySelectorAll('#told > dl dt, #told .chosen dt')]"
            ".map((one) => one.textContent + ' ' + one.nextSibling.textContent)"
        )
        assert {" ".join(line.split()) for line in shown} == told
        others = "[...document.querySelectorAll('#told .attempt h3')].map((one) => one.textContent)"
        assert await tab.evaluate(others) == [
            "p1#1.00000001 dropped", "p1#0.00000000 kept and trained on", "p1#2.00000002 dropped"
        ]  # fmt: skip
        await tab.press("Escape")
        await tab.until("!document.getElementById('story').open")
        assert "row-id" in await tab.evaluate("document.activeElement.innerHTML"), "the focus is back in the list"

    browse(work)


def test_a_link_opens_what_it_names(browse: Browse):
    """The report's links to a reason, and the address of an open row, which the page itself writes."""

    async def work(tab: Tab, page: str) -> None:
        await tab.open(page.replace("rows.html", "index.html"))
        link = (
            "[...document.querySelectorAll('.reasons a')].find((one) => one.textContent === 'keywords:existence').href"
        )
        await tab.open(await tab.evaluate(link), READY)
        assert len(await tab.evaluate(LISTED)) == 10
        await tab.evaluate("document.querySelector('#list button').click()")
        await tab.until("document.getElementById('story').open")
        address, title = await tab.evaluate("[location.href, document.getElementById('story-id').textContent]")
        await tab.open(address, f"{READY} && document.getElementById('story').open")
        assert await tab.evaluate("document.getElementById('story-id').textContent") == title

    browse(work)


def test_hostile_text_is_text_and_only_our_script_may_run(browse: Browse):
    """Oracles: the page that the browser built has no element of the text; a script put there afterwards is refused."""

    async def work(tab: Tab, page: str) -> None:
        await tab.open(f"{page}#row=p0%230.00000000", f"{READY} && document.getElementById('story').open")
        assert await tab.evaluate("document.querySelectorAll('img, iframe, [onerror]').length") == 0
        assert HOSTILE.replace("\x1b", "\\x1b") in await tab.evaluate("document.getElementById('told').textContent")
        await tab.evaluate("""(() => { const one = document.createElement("script");
            one.textContent = "document.body.dataset.broken = 'yes'"; document.body.append(one); })()""")
        assert await tab.evaluate("document.body.dataset.broken ?? 'no'") == "no"
        refused = [line for line in tab.said if "Content Security Policy" in line]
        assert len(refused) == len(tab.said) == 1
        tab.said.clear()

    browse(work)


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_runs_over_the_edge(browse: Browse, width: int):
    """At a phone's and a desk's width, in light and dark, which differ; every control has a name and room to be hit."""

    async def work(tab: Tab, page: str) -> None:
        pictures: list[bytes] = []
        for dark in (False, True):
            await tab.look(width, 900, dark=dark)
            for name in ("rows.html", "index.html"):
                await tab.open(page.replace("rows.html", name), READY if name == "rows.html" else "true")
                assert await tab.evaluate("document.documentElement.scrollWidth") <= width, name
                pictures.append(await tab.picture())
        assert len(set(pictures)) == 4
        await tab.open(page, READY)
        tree = (await tab.send("Accessibility.getFullAXTree"))["nodes"]
        controls = [
            one for one in tree if one.get("role", {}).get("value") in ("button", "combobox", "searchbox", "link")
        ]
        assert len(controls) > 20 and all(one["name"]["value"].strip() for one in controls)
        heights = "[...document.querySelectorAll('input, select, button')].map((one) => one.offsetHeight)"
        assert all(height == 0 or height >= 24 for height in await tab.evaluate(heights))  # WCAG 2.2, 2.5.8

    browse(work)


def test_the_page_needs_no_neighbour(browse: Browse, root: Path, tmp_path: Path):
    """Alone in another folder it works as well."""
    alone = Path(shutil.copy(root / "report" / "rows.html", tmp_path / "alone.html"))

    async def work(tab: Tab, page: str) -> None:
        await tab.open(alone.as_uri(), READY)
        assert len(await tab.evaluate(LISTED)) == N_ROWS

    browse(work)


def test_any_alphabet_is_found_in_any_case(browse: Browse, tmp_path: Path):
    """Beside a letter that has no small one of its length; a block holds every row here. Marks stand where hits are."""
    answers = ("\u0130\u015e \u041f\u0420\u0418\u0412\u0415\u0422 again", "\u039f\u0394\u039f\u03a3 AND \u00c9T\u00c9")
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "Say it."}])
    with DatasetWriter(tmp_path / "traces", Trace, {"stage": "traces", "inputs": {}}) as writer:
        for index, answer in enumerate(answers):
            writer.read()
            writer.write(Trace(id=f"p#{index}.0000000{index}", prompt=prompt, sample_index=index, completion=answer))
    write_browser([tmp_path / "traces"], tmp_path / "rows.html")

    async def work(tab: Tab, page: str) -> None:
        await tab.open((tmp_path / "rows.html").as_uri(), READY)
        for query, index, marked in (
            ("\u043f\u0440\u0438\u0432\u0435\u0442", 0, "\u041f\u0420\u0418\u0412\u0415\u0422"),
            ("\u041f\u0440\u0438\u0432\u0435\u0442", 0, "\u041f\u0420\u0418\u0412\u0415\u0422"),
            ("\u0130\u015f", 0, "\u0130\u015e"),
            ("\u03bf\u03b4\u03bf\u03c2", 1, "\u039f\u0394\u039f\u03a3"),
            ("\u03bf\u03b4\u03bf\u03c3", 1, "\u039f\u0394\u039f\u03a3"),
            ("\u00e9t\u00e9", 1, "\u00c9T\u00c9"),
        ):
            await enter(tab, "search", query)
            assert await tab.evaluate(LISTED) == [f"p#{index}.0000000{index}"], query
            assert await tab.evaluate("document.querySelector('#list mark').textContent") == marked

    browse(work)
