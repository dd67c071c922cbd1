"""Computation trees as pictures: inline SVG, the root in the middle, its neighbours around it, theirs further out.

A tree is a molecule's where its labels are those of the Open Graph Benchmark (Hu et al. 2020, arXiv:2005.00687): nine
of an atom, the first its number less 1, and three of a bond, the first its kind. Then atoms are letters and bonds
lines; other trees show the numbers of the labels.

Source: none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.report.markup import text

ATOM_LABELS, BOND_LABELS = 9, 3
SYMBOLS = (  # of the elements by atomic number, two letters each
    "H HeLiBeB C N O F NeNaMgAlSiP S ClArK CaScTiV CrMnFeCoNiCuZnGaGeAsSeBrKrRbSrY ZrNbMoTcRuRhPdAgCdInSn"
    "SbTeI XeCsBaLaCePrNdPmSmEuGdTbDyHoErTmYbLuHfTaW ReOsIrPtAuHgTlPbBiPoAtRnFrRaAcThPaU NpPuAmCmBkCfEsFm"
    "MdNoLrRfDbSgBhHsMtDsRgCnNhFlMcLvTsOg"
)
N_ELEMENTS = len(SYMBOLS) // 2
BONDS = ("single", "double", "triple", "aromatic")
RING, GAP, MARGIN = 30.0, 2.2, 14.0  # between two depths, between the lines of a bond, around the picture
Labels = tuple[int, ...]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTree:
    """A tree: its root's labels, and below it the labels of each edge with the tree that it comes from, in order."""

    labels: Labels
    children: tuple[tuple[Labels, "DrawnTree"], ...]

    @property
    def n_leaves(self) -> int:
        """Of a tree of one node, 1."""
        return sum(child.n_leaves for _, child in self.children) or 1

    @property
    def n_nodes(self) -> int:
        """With the root."""
        return 1 + sum(child.n_nodes for _, child in self.children)


def rooted(root: int, below: Sequence[Sequence[tuple[Labels, int]]], labels: Sequence[Labels]) -> DrawnTree:
    """The tree at a node; `below` has for each node the labels of its edges and where they come from."""
    children = sorted(
        ((edge, rooted(node, below, labels)) for edge, node in below[root]), key=lambda one: (one[0], _key(one[1]))
    )
    return DrawnTree(labels=labels[root], children=tuple(children))


def draw(tree: DrawnTree) -> str:
    """The picture; what the lines and letters stand for is in the titles of its parts."""
    lines: list[str] = []
    nodes: list[tuple[Point, str]] = []
    is_molecule = _is_molecule(tree)

    def place(one: DrawnTree, at: Point, depth: int, first: float, last: float) -> None:
        nodes.append((at, _node(one.labels, at, is_molecule, is_root=not depth)))
        start = first
        for edge, child in one.children:
            end = start + (last - first) * child.n_leaves / one.n_leaves
            angle = (start + end) / 2
            there = (RING * (depth + 1) * math.cos(angle), RING * (depth + 1) * math.sin(angle))
            lines.append(_bond(edge, at, there, is_molecule))
            place(child, there, depth + 1, start, end)
            start = end

    place(tree, (0.0, 0.0), 0, -math.pi / 2, 1.5 * math.pi)
    xs, ys = [x for (x, _), _ in nodes], [y for (_, y), _ in nodes]
    left, top = min(xs) - MARGIN, min(ys) - MARGIN
    width, height = max(xs) + MARGIN - left, max(ys) + MARGIN - top
    box = f"{left:.1f} {top:.1f} {width:.1f} {height:.1f}"
    return (
        f'<svg class="tree" viewBox="{box}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="tree of {tree.n_nodes} nodes">{"".join(lines)}{"".join(one for _, one in nodes)}</svg>'
    )


def _key(tree: DrawnTree) -> tuple[object, ...]:
    return (tree.labels, tuple((edge, _key(child)) for edge, child in tree.children))


def _is_molecule(tree: DrawnTree) -> bool:
    """Whether every label is one that OGB gives atoms and bonds."""
    return (
        len(tree.labels) == ATOM_LABELS
        and tree.labels[0] <= N_ELEMENTS
        and all(len(edge) == BOND_LABELS and _is_molecule(child) for edge, child in tree.children)
    )


def _node(labels: Labels, at: Point, is_molecule: bool, *, is_root: bool) -> str:
    said = ", ".join(map(str, labels))
    name = said
    if is_molecule:  # what is no element comes behind the last one
        name = SYMBOLS[2 * labels[0] :][:2].strip() or "?"
    elif len(labels) > 1:
        name = f"{labels[0]}…"
    x, y = at
    kind = "root" if is_root else "node"
    return (
        f'<g class="{kind}"><title>{"root, " if is_root else ""}labels {text(said)}</title>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8.5"/><text x="{x:.1f}" y="{y:.1f}">{text(name)}</text></g>'
    )


def _bond(labels: Labels, start: Point, end: Point, is_molecule: bool) -> str:
    """A line, or two or three side by side; of an aromatic bond the second is dashed."""
    kind = "edge"
    if is_molecule:
        kind = BONDS[labels[0]] if labels[0] < len(BONDS) else "other"
    n_lines = {"double": 2, "triple": 3, "aromatic": 2}.get(kind, 1)
    (x, y), (there_x, there_y) = start, end
    length = math.hypot(there_x - x, there_y - y)
    aside = (-(there_y - y) / length, (there_x - x) / length)
    drawn: list[str] = []
    for i in range(n_lines):
        move = GAP * (2 * i - n_lines + 1) / 2
        move_x, move_y = move * aside[0], move * aside[1]
        dashed = ' stroke-dasharray="3 2"' if (kind, i) in (("aromatic", 1), ("other", 0)) else ""
        drawn.append(
            f'<line x1="{x + move_x:.1f}" y1="{y + move_y:.1f}" x2="{there_x + move_x:.1f}" '
            f'y2="{there_y + move_y:.1f}"{dashed}/>'
        )
    title = f"{kind} bond" if is_molecule else f"edge {', '.join(map(str, labels))}".rstrip()
    return f"<g><title>{title}</title>{''.join(drawn)}</g>"
