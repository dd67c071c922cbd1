"""Pieces of HTML. Text of models, users and servers is hostile: every value of theirs goes through `text`."""

import json
from collections.abc import Mapping
from html import escape

MAX_TEXT = 1200  # characters shown of one text


def section(title: str, intro: str, body: str, id: str = "") -> str:
    """A section of the page under its heading; the arguments are HTML."""
    name = f' id="{id}"' if id else ""
    return f"<section{name}>\n<h2>{title}</h2>\n<p>{intro}</p>\n{body}\n</section>\n"


def wide(table: str, said: str) -> str:
    """A table that scrolls by itself where the page is too narrow for it, by the keyboard too; `said` names it."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(said)}">{table}</div>'


def text(value: object) -> str:
    """Any value as text of the page: escaped, and what is invisible or turns the writing direction made visible."""
    return escape(
        "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))
    )


def long_text(whole: str) -> str:
    """The first `MAX_TEXT` characters, and how many more there are."""
    cut = len(whole) - MAX_TEXT
    return text(whole[:MAX_TEXT]) + (f'<span class="more"> … {cut:,} more characters</span>' if cut > 0 else "")


def plain(value: object) -> str:
    """A value of params or of a manifest as a person writes it; not yet escaped."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(one)}" for key, one in sorted(value.items()))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def percent(share: float) -> str:
    """A share as whole per cents."""
    return f"{100 * share:.0f}\u202f%"


def css(share: float) -> str:
    """A share as a length."""
    return f"{100 * share:.2f}%"


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
