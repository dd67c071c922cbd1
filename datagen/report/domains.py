"""The report's section about domain weights: how they moved, and the gaps that they followed."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from datagen.report.charts import lines_chart
from datagen.report.condensed import written_by
from datagen.report.markup import percent, section, text, wide

Points = list[tuple[float, float]]


def domain_section(weights: Path) -> str:
    """The section, as HTML.

    Args:
        weights: dataset that domain_weights wrote.

    Raises:
        DataError: another stage wrote it.
    """
    manifest = written_by(weights, "domain_weights")
    rows: list[dict[str, Any]] = json.loads((weights / "curves.json").read_text())
    learned: dict[str, float] = json.loads((weights / "weights.json").read_text())["weights"]
    moved, gaps = defaultdict[str, Points](list), defaultdict[str, Points](list)
    for row in rows:
        moved[row["domain"]].append((row["step"], row["weight"]))
        gaps[row["domain"]].append((row["step"], row["gap"]))
    rule = text(manifest["params"]["mixture"])
    intro = (
        f"Shares of {len(learned)} domains in what a student learns, by <code>{rule}</code>. A gap is how many nats a "
        "token the student trails what it is compared with, else its own best, on held-out texts."
    )
    body = ""
    if all(len(points) > 1 for points in moved.values()):
        body += f"<h3>weight, by step</h3>{lines_chart(moved, 'step', 'weight of each domain, by step')}"
    if all(len(points) > 1 and min(y for _, y in points) >= 0 for points in gaps.values()):
        body += f"<h3>gap, by step</h3>{lines_chart(gaps, 'step', 'gap of each domain, by step')}"
    return section("The mix of texts that a student needs", intro, _table(learned, gaps) + body)


def _table(learned: dict[str, float], gaps: dict[str, Points]) -> str:
    head = "".join(f'<th class="number">{one}</th>' for one in ("weight", "first gap", "last gap"))
    lines: list[str] = []
    for name, weight in learned.items():
        ends = [f"{gaps[name][at][1]:.3f}" for at in (0, -1)]
        cells = "".join(f'<td class="number">{one}</td>' for one in (percent(weight), *ends))
        lines.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
    table = f'<table class="facts few"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return wide(table, "weights of the domains")
