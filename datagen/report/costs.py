"""What a run cost: what each stage asked of teachers, and took of this machine, as its own run's metrics say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datagen.contracts.errors import DataError
from datagen.report.markup import duration, section, text, wide

ASKED = {  # a run's fact to its column
    "requests": "requests",
    "ledger_hits": "answered by the ledger",
    "spent_prompt_tokens": "prompt tokens spent",
    "spent_completion_tokens": "answer tokens spent",
    "spent_cost": "cost",
}

Runs = Mapping[str, Mapping[str, Any]]


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Every stage whose run was measured: name to facts, by name.

    Raises:
        DataError: a file of the folder is no JSON object.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.run.json")):
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file}: not JSON ({error}); run the stage again, or remove it") from None
        if not isinstance(facts, dict):
            raise DataError(f"{file}: expected an object with a run's facts; run the stage again, or remove it")
        found[file.name.removesuffix(".run.json")] = facts
    return found


def cost_section(runs: Runs) -> str:
    """The section, as HTML; empty where no run asked a teacher anything.

    What the ledger answered was paid when it was first asked.
    """
    asked = {name: facts for name, facts in runs.items() if any(facts.get(fact) for fact in ASKED)}
    if not asked:
        return ""
    shown = [fact for fact in ASKED if fact != "spent_cost" or any("spent_cost" in facts for facts in asked.values())]
    head = "".join(f'<th class="number">{ASKED[fact]}</th>' for fact in shown)
    rows = "".join(_row(text(name), facts, shown) for name, facts in asked.items())
    total = {fact: sum(facts.get(fact) or 0 for facts in asked.values()) for fact in shown}
    rows += _row("all", total, shown)
    table = f'<table class="facts"><thead><tr><th>stage</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    times = [sum(facts.get(name) or 0 for facts in runs.values()) for name in ("seconds", "cpu_seconds")]
    said = (
        f"When each of {len(runs):,} stages last ran here, all of them took {duration(times[0])}, "
        f"{duration(times[1])} of processor time. What the ledger answers is not spent again."
    )
    if joules := sum(facts.get("joules") or 0 for facts in runs.values()):
        said += f" The processor drew {joules / 3.6e6:.3g} kWh meanwhile."
    return section("What it cost", said, wide(table, "costs by stage"), id="costs")


def _row(name: str, facts: Mapping[str, Any], shown: list[str]) -> str:
    written = {fact: "{:,.6g}" if fact == "spent_cost" else "{:,}" for fact in shown}
    cells = ("" if facts.get(fact) is None else written[fact].format(facts[fact]) for fact in shown)
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{name}</th>{numbers}</tr>\n'
