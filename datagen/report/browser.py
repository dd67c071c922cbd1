"""The row browser: one page, complete in itself, that finds any row of a run and tells its whole way.

The page holds its rows as compressed blocks of text that no browser takes for markup; rows.js, which alone may run
there, unpacks, searches and shows them. What it tells of a row are the lines of `datastill why`. Rows are gathered by
prompt in a database on disk, so that memory does not grow with them.
"""

import base64
import hashlib
import json
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datagen.report.markup import text
from datagen.report.page import document
from datagen.why import (
    DROPPED,
    KEPT,
    KINDS,
    Flow,
    Line,
    Table,
    attempt_lines,
    ending,
    prompt_in,
    prompt_lines,
    tables_of,
    teacher_of,
    tell,
    visible,
)

MAX_ROWS = 100_000
MAX_CHARACTERS = 100_000_000  # of all rows; each may have its share of them
ROW_CHARACTERS = (500, 8_000)  # and at least and at most so many in one text
FACETS = {
    "end": "What became of it",
    "at": "Where it ended",
    "why": "Reason",
    "family": "Family",
    "who": "Who answered",
}
_BLOCK_CHARACTERS = 1_000_000  # of JSON, unpacked
_BATCH = 2_000  # rows read at once
_SHRINK = 0.9  # of the prompts shown, whenever there are too many rows

Row = dict[str, Any]


def write_browser(directories: Iterable[Path], file: Path, title: str = "The rows of this run") -> int:
    """Write the page, and count its rows: every answer, and every prompt or document without one.

    Where there are more than `MAX_ROWS` of either, the page has those of the prompts with the least hashes.

    The directories are what stages wrote; those without ids show nothing.
    """
    flow = Flow.of(directories)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".rows-") as folder, _Spool(Path(folder)) as spool:
        for dataset in flow.manifests:
            for table in tables_of(Path(dataset)):
                spool.add(table)
        n_rows = max(len(spool.attempts), len(spool.prompts))
        low, high = ROW_CHARACTERS
        limit = max(low, min(high, MAX_CHARACTERS // max(1, n_rows)))
        before, main_ends, after = _page(title, spool.bound).partition("</main>\n")
        n_rows = 0
        with file.open("w", encoding="utf-8", newline="\n") as page:
            page.write(before + main_ends)
            stories = (_story(key, rows, flow, limit) for key, rows in spool.by_prompt())
            for n, block in _blocks(stories):
                n_rows += n
                page.write(f'<script type="text/plain" class="block" data-rows="{n}">{block}</script>\n')
            page.write(after)
    return n_rows


class _Spool:
    """Rows of all tables on disk, by prompt.

    Attributes:
        bound: prompts are taken whose hash is below it, in (0, 1].
        attempts, prompts: ids to the hash of their prompt.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "rows.sqlite"
        self.bound = 1.0
        self.attempts: dict[str, float] = {}
        self.prompts: dict[str, float] = {}
        self._has_moved = False  # any attempt whose id does not name its prompt; on disk too, they may be as many

    def __enter__(self) -> "_Spool":
        self._database = sqlite3.connect(self._file, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
            "CREATE TABLE rows (prompt TEXT, hash REAL, kind TEXT, row TEXT); "
            "CREATE TABLE moved (id TEXT PRIMARY KEY, prompt TEXT) WITHOUT ROWID; BEGIN"
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def add(self, table: Table) -> None:
        """Every row of a table that something is told of."""
        if table.kind == "other" and "old_reference" not in table.columns:
            return
        place = {"dataset": table.dataset.as_posix(), "table": table.name}
        batches = pl.scan_parquet(list(table.files)).collect_batches(chunk_size=_BATCH, maintain_order=True)
        for batch in batches:
            kept = [self._key(*ids) for ids in batch.select(_column("id", table), _column("prompt_id", table)).rows()]
            chosen = [(*found, row) for found, row in zip(kept, batch.iter_rows(named=True), strict=True) if found]
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?)",
                (
                    (key, hash, table.kind, json.dumps(place | row, ensure_ascii=False, default=str))
                    for key, hash, row in chosen
                ),
            )
            while max(len(self.attempts), len(self.prompts)) > MAX_ROWS:
                self._shrink()

    def by_prompt(self) -> Iterator[tuple[str, dict[str, list[Row]]]]:
        """Prompt id to its rows by kind, each kind in the order in which it was added; prompts by their hash."""
        rows = {kind: [] for kind in (*KINDS.values(), "other")}
        last: str | None = None
        self._database.execute("CREATE INDEX by_hash ON rows (hash, prompt)")
        for key, kind, row in self._database.execute("SELECT prompt, kind, row FROM rows ORDER BY hash, prompt, rowid"):
            if last is not None and key != last:
                yield last, rows
                rows = {kind: [] for kind in rows}
            last = key
            rows[kind].append(json.loads(row))
        if last is not None:
            yield last, rows

    def _key(self, id: str | None, prompt_id: str | None) -> tuple[str, float] | None:
        """The prompt that a row belongs to, and its hash, where it is taken; scores have no id of their own."""
        id = id or prompt_id or ""
        if prompt_id and prompt_in(id) != prompt_id:
            self._database.execute("INSERT OR REPLACE INTO moved VALUES (?, ?)", (id, prompt_id))
            self._has_moved = True
        key = prompt_id or self._moved_to(id) or prompt_in(id)
        hash = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48
        if hash >= self.bound:
            return None
        (self.attempts if id != key else self.prompts)[id] = hash
        return key, hash

    def _moved_to(self, id: str) -> str | None:
        if not self._has_moved:
            return None
        found = self._database.execute("SELECT prompt FROM moved WHERE id = ?", (id,)).fetchone()
        return found[0] if found else None

    def _shrink(self) -> None:
        self.bound *= _SHRINK
        self._database.execute("DELETE FROM rows WHERE hash >= ?", (self.bound,))
        for ids in (self.attempts, self.prompts):
            for id in [id for id, hash in ids.items() if hash >= self.bound]:
                del ids[id]


def _column(name: str, table: Table) -> pl.Expr:
    return pl.col(name) if name in table.columns else pl.lit(None, pl.String).alias(name)


def _story(prompt_id: str, rows: Mapping[str, Sequence[Row]], flow: Flow, limit: int) -> Row:
    """A prompt's lines, and its rows for the list with theirs."""
    way = tell(prompt_id, prompt_id, rows, flow)
    listed = [
        {
            "id": attempt["id"],
            "end": ending(attempt),
            "at": _place(attempt),
            "why": _reason(attempt),
            "who": teacher_of(attempt, way["datasets"])[0] or "",
            "lines": [_short(line, limit) for line in attempt_lines(attempt, way["datasets"])],
        }
        for attempt in way["attempts"]
    ]
    if not listed:
        dropped = way["rejections"][-1:]
        at = [row["dataset"] for row in dropped] or way["prompt_in"][-1:]
        listed.append(
            {
                "id": way["prompt"]["id"],
                "end": DROPPED if dropped else KEPT,
                "at": at[0] if at else "",
                "why": dropped[0]["reason"] if dropped else "",
                "who": "",
                "lines": [],
            }
        )
    lines = [_short(line, limit) for line in prompt_lines(way)]
    return {"family": way["prompt"].get("family") or "", "lines": lines, "rows": listed}


def _place(attempt: Mapping[str, Any]) -> str:
    """The directory that it got to last."""
    dropped = [row["dataset"] for row in attempt["rejections"]]
    places = dropped if attempt["is_dropped"] and dropped else attempt["trained"] or attempt["kept_in"] or dropped
    return places[-1] if places else ""


def _reason(attempt: Mapping[str, Any]) -> str:
    if attempt["rejections"]:
        return attempt["rejections"][-1]["reason"]
    return next((row["reason"] or "" for row in attempt["verdicts"][-1:] if row["status"] != "pass"), "")


def _short(line: Line, limit: int) -> list[str]:
    """Label, text, style and more; without what is empty at the end."""
    told = [line.label, _cut(str(line.text), limit), line.style, _cut(line.more, limit)]
    while not told[-1]:
        told.pop()
    return told


def _cut(whole: str, limit: int) -> str:
    cut = len(whole) - limit
    return visible(whole[:limit]) + (f" … {cut:,} more characters" if cut > 0 else "")


def _blocks(stories: Iterable[Row]) -> Iterator[tuple[int, str]]:
    """Rows and stories of each block: base64 of zlib of JSON, in which no markup can hide."""
    block: list[str] = []
    n_rows = size = 0
    for story in stories:
        block.append(json.dumps(story, ensure_ascii=False, separators=(",", ":")))
        n_rows += len(story["rows"])
        size += len(block[-1])
        if size > _BLOCK_CHARACTERS:
            yield n_rows, _packed(block)
            block, n_rows, size = [], 0, 0
    if block:
        yield n_rows, _packed(block)


def _packed(stories: Sequence[str]) -> str:
    plain = f"[{','.join(stories)}]".encode()
    return base64.b64encode(zlib.compress(plain, 6)).decode()


def _page(title: str, share: float) -> str:
    """The page without its rows, for which it has a mark."""
    script, style = (Path(__file__).with_name(f"rows.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    choices = "".join(
        f'<label>{said}<select id="{name}"><option value="">all</option></select></label>'
        for name, said in FACETS.items()
    )
    part = (
        f" Shown are {100 * share:.2g} % of the prompts, those with the least hashes of their ids." if share < 1 else ""
    )
    body = f"""<header class="rows-head">
<p class="brand"><a href="index.html">datastill</a></p>
<h1>{text(title)}</h1>
<p class="lead">Every answer, and every prompt that has none: what it was made of, what was made of it, and why it was
dropped. <code>datastill why ID</code> tells the same.{part}</p>
<noscript><p class="lead">This page searches by script, which is switched off here.</p></noscript>
</header>
<form id="filters" class="filters" role="search">
<label class="search">Search<input id="search" type="search" autocomplete="off" spellcheck="false"
placeholder="words, or &quot;a phrase&quot;, in prompts, answers, details and ids"></label>
<div class="choices">{choices}<button type="reset">Show all</button></div>
</form>
<p id="found" class="found" role="status" aria-live="polite">Reading the rows …</p>
<ol id="list" class="list" aria-label="Rows"></ol>
<nav class="turn" aria-label="Pages of rows"><button id="back" type="button" disabled>Previous</button>
<span id="where"></span><button id="next" type="button" disabled>Next</button></nav>
<dialog id="story" aria-labelledby="story-id"><div class="story-head"><h2 id="story-id" class="mono"></h2>
<button id="close" type="button">Close</button></div><div id="told"></div></dialog>
"""
    footer = (
        "Press <kbd>/</kbd> to search, <kbd>↑</kbd> <kbd>↓</kbd> to walk through the list, <kbd>Enter</kbd> to open."
    )
    return document(f"datastill: {text(title)}", body, footer, style=style, script=script)
