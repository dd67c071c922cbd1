"""The pipeline as a picture: a box a step, with the rows that came and went, in SVG that a card shows as an image.

An image of the repository is shown wherever Markdown is; what draws diagrams from text is not part of every page. It
has its own light ground, so that it reads on a dark page too, and no script, font or address.
"""

from collections.abc import Mapping, Sequence
from html import escape

from datagen.publish.history import History, Step

_WIDE, _HIGH, _GAP_X, _GAP_Y, _EDGE = 330, 78, 28, 46, 24  # pixels
_ASIDE = 40  # of room for an arrow that goes past a box
_N_HASH = 8
_FILLS = {"datagen": "#e7f0fb", "condense": "#eaf5ea", "trainers": "#fbf0e2"}
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
_HEAD = "font-size='15' font-weight='600' fill='#1f2328'"
_BODY = "font-size='13' fill='#424a53'"
_MAX_CHARS = 44  # of a line in a box


def pipeline_svg(history: History) -> str:
    """What is published and all that it was made of; where it comes from nothing, what was read is a box of its own."""
    boxes = {step.path: _lines(step) for step in history.steps}
    edges = [(parent, step.path) for step in history.steps for parent in step.parents.values()]
    for step in history.steps:
        for name, hash in step.hashes.items():
            if name not in step.parents:
                read = f"{name} {hash[:_N_HASH]}"
                boxes = {read: (name, f"sha256 {hash[:_N_HASH]}…", "not made here"), **boxes}
                edges.append((read, step.path))
    rows = _levels(list(boxes), edges)
    n_wide = max(map(len, rows))
    level = {name: at for at, row in enumerate(rows) for name in row}
    aside = _ASIDE if any(level[b] - level[a] > 1 for a, b in edges) else 0
    width = 2 * (_EDGE + aside) + n_wide * _WIDE + (n_wide - 1) * _GAP_X
    height = 2 * _EDGE + len(rows) * _HIGH + (len(rows) - 1) * _GAP_Y
    places = {
        name: (
            (width - len(row) * _WIDE - (len(row) - 1) * _GAP_X) / 2 + i * (_WIDE + _GAP_X),
            _EDGE + at * (_HIGH + _GAP_Y),
        )
        for at, row in enumerate(rows)
        for i, name in enumerate(row)
    }  # fmt: skip
    steps = {step.path: step for step in history.steps}
    drawn = [_arrow(places[a], places[b], past=level[b] - level[a] > 1) for a, b in edges]
    drawn += [_box(boxes[name], place, steps.get(name), name in history.published) for name, place in places.items()]
    return "\n".join([
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' "
        f"height='{height:g}' role='img' {_FONT}>",
        f"<title>{escape(describe_pipeline(history))}</title>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0 0 8 4 0 8z' fill='#57606a'/></marker></defs>",
        f"<rect width='{width:g}' height='{height:g}' rx='10' fill='#ffffff' stroke='#d0d7de'/>",
        *drawn,
        "</svg>\n",
    ])  # fmt: skip


def describe_pipeline(history: History) -> str:
    """The same in words, for those who do not see it."""
    told = [f"{step.stage}{_rows(step)}" for step in history.steps]
    return f"Pipeline of {len(history.steps)} steps: {'; then '.join(told)}."


def _rows(step: Step) -> str:
    return f" kept {step.rows['out']:,} of {step.rows['in']:,} rows" if step.rows else ""


def _lines(step: Step) -> tuple[str, str, str]:
    """What stands in a box."""
    rows = step.rows
    counted = f"{rows['in']:,} in → {rows['out']:,} kept, {rows['rejected']:,} dropped" if rows else step.path
    asked = [f"{one.role}: {one.name}" for one in step.models if one.role != "tokenizer"]
    method = f"by {step.method}" if step.method and step.method != step.stage else ""
    return step.stage, counted, ", ".join([one for one in (method, *asked) if one])


def _levels(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Each in the row below all that it was made of; what was read only later stands just above its reader."""
    above: Mapping[str, list[str]] = {name: [a for a, b in edges if b == name] for name in names}
    below: Mapping[str, list[str]] = {name: [b for a, b in edges if a == name] for name in names}
    level: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in level:
            level[name] = max((depth(one) + 1 for one in above[name]), default=0)
        return level[name]

    for name in names:
        depth(name)
    for name in names:  # of one that is made of nothing
        if not above[name] and below[name]:
            level[name] = min(level[one] for one in below[name]) - 1
    return [[name for name in names if level[name] == at] for at in range(max(level.values()) + 1)]


def _arrow(a: tuple[float, float], b: tuple[float, float], *, past: bool) -> str:
    """From the foot of a box to the head of another, or past those between from flank to flank."""
    if past:
        x, y, to_x, to_y = a[0] + _WIDE, a[1] + _HIGH / 2, b[0] + _WIDE + 2, b[1] + _HIGH / 2
        out = max(x, to_x) + _ASIDE
        curve = f"M{x:g} {y:g}C{out:g} {y:g} {out:g} {to_y:g} {to_x:g} {to_y:g}"
    else:
        x, y, to_x, to_y = a[0] + _WIDE / 2, a[1] + _HIGH, b[0] + _WIDE / 2, b[1] - 2
        half = (to_y - y) / 2
        curve = f"M{x:g} {y:g}C{x:g} {y + half:g} {to_x:g} {to_y - half:g} {to_x:g} {to_y:g}"
    return f"<path d='{curve}' fill='none' stroke='#57606a' stroke-width='1.5' marker-end='url(#tip)'/>"


def _box(lines: Sequence[str], place: tuple[float, float], step: Step | None, is_last: bool) -> str:
    x, y = place
    fill = next((_FILLS[m.partition(".")[0]] for m in (step.modules if step else ())), "#f6f8fa")
    line = "stroke='#0969da' stroke-width='2.5'" if is_last else "stroke='#57606a'"
    dashes = "" if step else " stroke-dasharray='5 4'"
    texts = [
        f"<text x='{x + 14:g}' y='{y + 25 + 20 * i:g}' {_HEAD if i == 0 else _BODY}>{escape(_cut(text))}</text>"
        for i, text in enumerate(line for line in lines if line)
    ]
    box = f"<rect x='{x:g}' y='{y:g}' width='{_WIDE}' height='{_HIGH}' rx='8' fill='{fill}' {line}{dashes}/>"
    return "\n".join([box, *texts])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
