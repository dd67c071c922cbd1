"""The pictures of a report in docs: desktop and phone widths, in light and in dark, by headless Chromium.

python -m benchmarks.report_pictures report docs
"""

import argparse
import asyncio
import io
from pathlib import Path

from PIL import Image

from tests.chromium import Tab, chromium, find_chromium

DESK, PHONE = (1200, 1500), (390, 844)
GAP = 24  # pixels between two phones
READY = "document.body.dataset.ready"


async def story(tab: Tab, page: str) -> None:
    """Open the first dropped row."""
    await tab.open(f"{page}#end=dropped", READY)
    await tab.evaluate("document.querySelector('#list button').click()")
    await tab.until("document.getElementById('story').open")


async def take(report: Path, docs: Path) -> None:
    """Write report.png, report-rows.png and report-phone.png."""
    program = find_chromium()
    assert program, "no Chromium here; apt-get install chromium"
    page, rows = (report.resolve() / f"{name}.html" for name in ("index", "rows"))
    async with chromium(program) as tab:
        await tab.look(*DESK, dark=False)
        await tab.open(page.as_uri())
        keep([await tab.picture()], docs / "report.png")
        await tab.look(DESK[0], 900, dark=True)
        await story(tab, rows.as_uri())
        keep([await tab.picture()], docs / "report-rows.png")
        phones: list[bytes] = []
        for dark, address, ready in (
            (False, page.as_uri(), "document.readyState === 'complete'"),
            (True, page.as_uri(), "document.readyState === 'complete'"),
            (False, rows.as_uri(), READY),
            (True, rows.as_uri(), READY),
        ):
            await tab.look(*PHONE, dark=dark)
            await tab.open(address, ready)
            phones.append(await tab.picture())
        keep(phones, docs / "report-phone.png")


def keep(pictures: list[bytes], file: Path) -> None:
    """Side by side, with a palette, which is a third of the bytes."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width = sum(one.width for one in opened) + GAP * (len(opened) - 1)
    whole = Image.new("RGB", (width, opened[0].height), "white")
    for number, one in enumerate(opened):
        whole.paste(one, (number * (one.width + GAP), 0))
    whole.quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="folder that the stage report wrote")
    parser.add_argument("docs", type=Path, help="where they go")
    arguments = parser.parse_args()
    asyncio.run(take(arguments.report, arguments.docs))


if __name__ == "__main__":
    main()
