"""Oracle: Python's own HTML parser, and a name that would run as a script."""

from html.parser import HTMLParser

import polars as pl

from datagen.comparison.figures import ORDERED, SCHEMA, by_teacher, histogram
from datagen.comparison.ordering import compare_orders
from datagen.comparison.page import render
from datagen.report.figures import ALL

HOSTILE = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Tags, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_names_are_text_and_figures_are_shown():
    """One of two answers holds: 50 %; of the other teacher neither, whose figures that need a success are `none`."""
    rows = [
        {"teacher": teacher, "family": HOSTILE, "prompt_id": prompt, "sample_index": 0, "answered": True,
         "verified": teacher != "b" and prompt == "p", "n_tokens": 12, "nll": None, "looping": False}
        for teacher in (HOSTILE, "b") for prompt in ("p", "q")
    ]  # fmt: skip
    attempts = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    counted = by_teacher(attempts, {}, max_perplexity=20)
    orderings = {
        name: compare_orders({HOSTILE: {t: of[HOSTILE][name] for t, of in counted.items()}},
                             {t: of[ALL][name] for t, of in counted.items()})
        for name in ORDERED
    }  # fmt: skip
    page = Page(render(counted, histogram(attempts), orderings, "scorer & co"))
    assert "script" not in page.tags and HOSTILE in page.texts
    assert "2 teachers" in page.texts and "50.0%" in page.texts and "none" in page.texts
    assert page.tags.count("rect") == 2 and "1 of 1" in page.texts
    assert any("scorer & co" in one for one in page.texts)
