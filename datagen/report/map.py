"""The pipeline as a map: a box for each directory that the report was made of, with its rows, that leads to its part.

What belongs together by the hashes in the manifests is drawn together, from left to right; what a box was made of and
the report was not given is named in its description.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.contracts.dataset import content_hash, is_dataset
from datagen.lineage import Step, trace_back
from datagen.report.markup import section, text, wide

WIDTH, HEIGHT, ACROSS, DOWN = 145, 78, 20, 14  # of a box and of what lies between, in pixels
MAX_NAME = 17  # characters in a box
N_COLUMNS = 6  # of boxes that hang together with no other; so many fit a desk's width


@dataclass(frozen=True, kw_only=True)
class _Box:
    step: Step
    part: str
    column: int
    row: int

    @property
    def x(self) -> int:
        return self.column * (WIDTH + ACROSS)

    @property
    def y(self) -> int:
        return self.row * (HEIGHT + DOWN)


def pipeline_map(places: Mapping[Path, str]) -> str:
    """The section, as HTML; nothing where fewer than two directories have a manifest.

    Args:
        places: directory that a stage wrote to the id of the page's part that shows it.
    """
    boxes = _placed(places)
    if len(boxes) < 2:
        return ""
    width = max(box.x for box in boxes.values()) + WIDTH
    height = max(box.y for box in boxes.values()) + HEIGHT
    lines = "".join(_line(boxes[parent], box) for box in boxes.values() for parent in _parents(box.step, boxes))
    drawn = "".join(map(_drawn, boxes.values()))
    picture = (
        f'<svg class="map" width="{width + 2}" height="{height + 2}" viewBox="-1 -1 {width + 2} {height + 2}" '
        f'role="group" aria-label="the pipeline">{lines}{drawn}</svg>'
    )
    intro = "What was made of what, and how many rows came out of each stage. A box leads to its part of the page."
    return section("The pipeline", intro, wide(picture, "map of the pipeline"), id="map")


def _placed(places: Mapping[Path, str]) -> dict[str, _Box]:
    """Directories' names to their boxes: a column after the last of what it was made of, a group under the other."""
    by_hash = {content_hash(path): path for path in places if is_dataset(path)}
    steps = {path.as_posix(): trace_back(path, places)[-1] for path in by_hash.values()}
    columns: dict[str, int] = {}

    def column(name: str) -> int:
        if name not in columns:
            columns[name] = 1 + max(map(column, _parents(steps[name], steps)), default=-1)
        return columns[name]

    boxes: dict[str, _Box] = {}
    top = 0
    groups = list(_groups(steps))
    alone = [names[0] for names in groups if len(names) == 1]
    for group in groups[: len(groups) - len(alone)]:
        taken: dict[int, int] = {}
        for name in sorted(group, key=column):
            above = [boxes[parent].row for parent in _parents(steps[name], steps)]
            row = max(taken.get(column(name), top), min(above, default=top))
            taken[column(name)] = row + 1
            boxes[name] = _Box(step=steps[name], part=places[Path(name)], column=column(name), row=row)
        top = max(taken.values())
    for number, name in enumerate(alone):
        row, at = divmod(number, N_COLUMNS)
        boxes[name] = _Box(step=steps[name], part=places[Path(name)], column=at, row=top + row)
    return boxes


def _parents(step: Step, known: Iterable[str]) -> list[str]:
    return sorted({name for name in step.inputs.values() if name in set(known)})


def _groups(steps: Mapping[str, Step]) -> Iterator[Sequence[str]]:
    """Names that hang together, each group in the order of the names, the largest group first."""
    group = {name: {name} for name in steps}
    for name, step in steps.items():
        for parent in _parents(step, steps):
            joined = group[name] | group[parent]
            group |= dict.fromkeys(joined, joined)
    distinct = {min(names): [name for name in steps if name in names] for names in group.values()}
    yield from sorted(distinct.values(), key=lambda names: -len(names))


def _drawn(box: _Box) -> str:
    step = box.step
    name = step.dataset.rsplit("/", 1)[-1]
    short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    told = [f"{step.stage} wrote {step.dataset}", *([f"method {step.method}"] if step.method else [])]
    rows = "a model" if step.rows is None else f"{step.rows['out']:,} rows"
    dropped = step.rows["rejected"] if step.rows else 0
    told += [rows, *([f"{dropped:,} dropped"] if dropped else [])]
    if outside := sorted(argument for argument, name in step.inputs.items() if name is None):
        told.append(f"made of {', '.join(outside)}, not shown here")
    gone = f'<text x="{box.x + 8}" y="{box.y + 69}" class="gone">{dropped:,} dropped</text>' if dropped else ""
    return (
        f'<a href="#{box.part}" aria-label="{text("; ".join(told))}"><title>{text("; ".join(told))}</title>'
        f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{box.x + 8}" y="{box.y + 21}" class="name">{text(short)}</text>'
        f'<text x="{box.x + 8}" y="{box.y + 36}" class="stage">{text(step.stage)}</text>'
        f'<text x="{box.x + 8}" y="{box.y + 53}">{rows}</text>{gone}</a>'
    )


def _line(parent: _Box, box: _Box) -> str:
    x, y, right, down = parent.x + WIDTH, parent.y + HEIGHT / 2, box.x, box.y + HEIGHT / 2
    turn = right - ACROSS / 2
    return f'<path d="M{x} {y:g}H{turn:g}V{down:g}H{right}"/>'
