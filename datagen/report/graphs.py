"""The report's sections about condensed graphs: the trees that most graphs have, and bytes against what is learned."""

import json
import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import iterate, read_manifest
from datagen.contracts.errors import DataError
from datagen.report.condensed import find_sets, written_by
from datagen.report.markup import section, text, wide
from datagen.report.trees import DrawnTree, draw, rooted

STORED = "condensed_graphs.safetensors"  # beside the dataset
MAX_TREES, MAX_CLASSES, MAX_NODES = 8, 10, 120  # of a class, of a set, of a tree
KINDS = {"whole": "everything", "condensed": "condensed", "coresets": "coreset"}
MEASURES = {"auc": "Area under the ROC curve", "accuracy": "Accuracy"}
WIDTH, HEIGHT, LEFT, BELOW = 320.0, 200.0, 38.0, 24.0

Row = dict[str, Any]


def graph_sections(condensed: Path | None, evaluation: Path | None) -> str:
    """The sections, as HTML.

    Args:
        condensed: folder with a condensed graph set for each method, or one set.
        evaluation: dataset that evaluate_graphs wrote of them.

    Raises:
        DataError: either was written by another stage, or a set is cut short.
    """
    sets = find_sets(condensed, "condense_graphs") if condensed else {}
    return "".join(
        (
            *(_trees(name, path) for name, path in sets.items()),
            _comparison(written_by(evaluation, "evaluate_graphs")["figures"]) if evaluation else "",
        )
    )


def _trees(name: str, path: Path) -> str:
    """The trees of each class that most graphs have; of real graphs, how many there are."""
    manifest = read_manifest(path)
    classes: Sequence[str] = manifest["classes"]
    rows = list(iterate(path))
    size = f"{manifest['size_bytes']:,} bytes of {manifest['raw_bytes']:,}"
    if manifest["graphs_are"] == "real":
        intro = f"{len(rows):,} graphs chosen by <code>{text(manifest['method'])}</code>, {size}."
        return section(f"Condensed graphs: {text(name)}", intro, "")
    weights = _weights(path / STORED, len(rows))
    support: list[dict[DrawnTree, float]] = [{} for _ in classes]
    for row, weight in zip(rows, weights, strict=True):
        for tree in _trees_of(row):
            of_class = support[row["label"]]
            of_class[tree] = max(weight, of_class.get(tree, 0.0))
    parts: list[str] = []
    for label, of_class in enumerate(support[:MAX_CLASSES]):
        ranked = sorted(of_class.items(), key=lambda one: (-one[1], one[0].n_nodes))
        drawn = "".join(
            f"<figure>{draw(tree) if tree.n_nodes <= MAX_NODES else f'{tree.n_nodes:,} nodes'}"
            f"<figcaption>{weight:g}</figcaption></figure>"
            for tree, weight in ranked[:MAX_TREES]
        )
        more = f", the {MAX_TREES} of the largest weights" if len(ranked) > MAX_TREES else ""
        parts.append(f"<h3>{text(classes[label])}: {len(ranked):,} trees{more}</h3><div class='trees'>{drawn}</div>")
    intro = (
        f"{len(rows):,} patterns made by <code>{text(manifest['method'])}</code>, {size}. A pattern is a set of trees "
        "that many graphs of a class have; a tree is what a network sees of the node at its root, which is ringed. The "
        "number below is the largest weight of a pattern of this set with the tree: weighted by support, how many "
        "graphs of the class have that pattern."
    )
    if len(classes) > MAX_CLASSES:
        intro += f" The first {MAX_CLASSES} of {len(classes)} classes."
    return section(f"Condensed graphs: {text(name)}", intro, "".join(parts))


def _trees_of(row: Mapping[str, Any]) -> list[DrawnTree]:
    """The trees of a graph whose edges go from child to parent: one at each node without a parent."""
    n_nodes = row["n_nodes"]
    labels = [tuple(one) for one in row["node_labels"] or [[]] * n_nodes]
    below: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in range(n_nodes)]
    edges = row["edge_labels"] or [[]] * len(row["sources"])
    for source, target, edge in zip(row["sources"], row["targets"], edges, strict=True):
        below[target].append((tuple(edge), source))
    roots = set(range(n_nodes)) - set(row["sources"])
    return [rooted(root, below, labels) for root in sorted(roots)]


def _weights(file: Path, n: int) -> Sequence[float]:
    """Of each graph, from a file of safetensors: a length, a header in JSON, and numbers, the lowest byte first.

    Source: https://github.com/huggingface/safetensors, Format; so that no package is needed.
    """
    codes = {"U8": "B", "U16": "H", "U32": "I", "U64": "Q", "F32": "f"}
    try:
        content = file.read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        header: Row = json.loads(content[8 : 8 + length])
        if "weights" not in header:
            return [1.0] * n
        start, end = header["weights"]["data_offsets"]
        found = array(codes[header["weights"]["dtype"]], content[8 + length + start : 8 + length + end]).tolist()
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise DataError(f"{file}: cannot be read ({error}); condense again") from None
    if len(found) != n:
        raise DataError(f"{file}: {len(found)} weights for {n} graphs; condense again")
    return found


def _comparison(figures: Mapping[str, Any]) -> str:
    """A chart for each net, a point an arm; and a table of the same."""
    measure: str = figures["measure"]
    arms: list[tuple[str, str, Mapping[str, Any]]] = [("whole", "everything", figures["whole"])]
    for kind in ("condensed", "coresets"):
        arms += [(kind, name, one) for name, one in figures[kind].items()]
    nets: Sequence[str] = list(figures["whole"]["nets"])
    charts = "".join(
        f"<figure><figcaption>{text(net)}</figcaption>{_chart(arms, net, measure)}</figure>" for net in nets
    )
    legend = "".join(f'<span><i class="{kind}"></i>{said}</span>' for kind, said in KINDS.items())
    head = "<th></th><th></th>" + '<th class="number">bytes</th>' + "".join(f"<th>{text(net)}</th>" for net in nets)
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{KINDS[kind]}</td><td class="number">{one["bytes"]:,}</td>'
        + "".join(f'<td class="number">{_interval(one["nets"][net][measure])}</td>' for net in nets)
        + "</tr>"
        for kind, name, one in arms
    )
    table = f'<table class="facts arms"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    standings = "".join(
        f"<li><code>{text(name)}</code> on {text(net)}: {text(stands)}</li>"
        for name, one in figures["condensed"].items()
        for net, stands in one.get("standing", {}).items()
    )
    intro = (
        f"{MEASURES[measure]} on test graphs against the bytes of what a student was "
        f"trained on, {figures['n_seeds']} seeds each; lines are 95 % intervals. Bytes grow tenfold from mark to mark."
    )
    body = f'<p class="legend">{legend}</p><div class="charts">{charts}</div>{wide(table, "accuracy by size")}'
    return section("What students learn from condensed graphs", intro, f"{body}<ul>{standings}</ul>")


def _interval(of: Mapping[str, float]) -> str:
    return f"{of['mean']:.3f} <small>{of['low']:.3f} to {of['high']:.3f}</small>"


def _chart(arms: Sequence[tuple[str, str, Mapping[str, Any]]], net: str, measure: str) -> str:
    points = [(kind, name, float(one["bytes"]), one["nets"][net][measure]) for kind, name, one in arms]
    first = math.floor(math.log10(max(1.0, min(size for _, _, size, _ in points))))
    last = max(first + 1, math.ceil(math.log10(max(1.0, *(size for _, _, size, _ in points)))))
    low = math.floor(10 * max(0.0, min(of["low"] for *_, of in points))) / 10
    high = max(low + 0.1, math.ceil(10 * min(1.0, max(of["high"] for *_, of in points))) / 10)

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * (math.log10(max(1.0, size)) - first) / (last - first)

    def y(value: float) -> float:
        return 8 + (HEIGHT - BELOW - 8) * (high - min(high, max(low, value))) / (high - low)

    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="y" x="{LEFT - 4}" y="{y(v):.1f}">{v:.1f}</text>'
        for v in (low + i / 10 for i in range(round(10 * (high - low)) + 1))
    )
    marks = "".join(
        f'<text class="x{" last" if power == last else ""}" x="{x(10.0**power):.1f}" y="{HEIGHT - 8}">'
        f"{10**power:,}</text>"
        for power in range(first, last + 1)
    )
    drawn = "".join(
        f'<g class="{kind}"><title>{text(name)}, {size:,.0f} bytes: {of["mean"]:.3f}, {of["low"]:.3f} to '
        f'{of["high"]:.3f}</title><line x1="{x(size):.1f}" x2="{x(size):.1f}" y1="{y(of["low"]):.1f}" '
        f'y2="{y(of["high"]):.1f}"/><circle cx="{x(size):.1f}" cy="{y(of["mean"]):.1f}" r="4"/></g>'
        for kind, name, size, of in points
    )
    said = f"{MEASURES[measure]} by bytes"
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return f'<svg class="scatter" viewBox="{box}" role="img" aria-label="{said}">{grid}{marks}{drawn}</svg>'
