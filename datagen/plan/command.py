r"""`datastill plan`: what a pipeline would ask, hold, take and cost, stage by stage, before it runs.

It needs no GPU. Every section of the params file is checked; rows, requests, tokens and steps follow from params and
what is there; memory from the models' configs; time from earlier runs in this folder (metrics/NAME.run.json), or from
rates that are given. Each figure says where it is from, and what is not known is left out. The Hub and servers are not
asked. Exit code 2 where a section is wrong.

    datastill plan --params params.full.yaml --rows prompts=N --rates tune.json

With --tune it measures a server: tokens a second, and the cost of a million tokens of verified answers, over a grid.

    datastill plan --tune --base-url http://127.0.0.1:8000/v1 --model NAME --prompts prompts.jsonl \
        --price-per-hour 2.5 --concurrency 8 32 128 --choices 1 4 --out tune.json
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datagen import doctor
from datagen.contracts.dataset import write_json
from datagen.contracts.errors import ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.params import load_file, parse_assignments
from datagen.contracts.records import Prompt
from datagen.contracts.stage import check_sections
from datagen.plan.estimates import Estimate, Known, estimate
from datagen.plan.pipeline import read_pipeline
from datagen.plan.tune import Grid, best_of, measure

_WIDTH = 160  # of a table that goes into a file or a log
_CELL = (
    "base_url", "concurrency", "choices_per_request", "max_new_tokens", "completion_tokens_per_second",
    "verified_tokens_per_second", "prompts_repeated", "drafts_accepted_share", "cost_per_million_verified_tokens",
    "failed",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Print the plan, or measure; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="datastill plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--pipeline", type=Path, default=Path("dvc.yaml"), metavar="FILE")
    parser.add_argument("--rows", nargs="+", action="extend", default=[], metavar="STAGE=N", help="rows that it makes")
    parser.add_argument("--prompt-tokens", type=float, metavar="MEAN", help="of a prompt, where there are none yet")
    parser.add_argument("--rates", type=Path, metavar="FILE", help="what --tune --out wrote")
    parser.add_argument("--flops", type=float, metavar="N", help="what the training device does a second, sustained")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    parser.add_argument("--tune", action="store_true", help="measure a server")
    tune = parser.add_argument_group("with --tune")
    tune.add_argument("--base-url", nargs="+", default=[], metavar="URL", help="one or several, to compare them")
    tune.add_argument("--model", metavar="NAME")
    tune.add_argument("--prompts", type=Path, metavar="PATH", help="dataset of Prompts, .jsonl or .parquet file")
    tune.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 16], metavar="N")
    tune.add_argument("--choices", nargs="+", type=int, default=[1], metavar="N", help="answers that share a request")
    tune.add_argument("--max-new-tokens", nargs="+", type=int, default=[256], metavar="N")
    tune.add_argument("--prompts-a-cell", type=int, default=32, metavar="N")
    tune.add_argument("--samples", type=int, default=4, metavar="N", help="answers to each prompt")
    tune.add_argument("--price-per-hour", type=float, metavar="PRICE", help="of a server")
    tune.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as of traces")
    tune.add_argument("--verify", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as of verify")
    arguments = parser.parse_args(argv)
    return _tune(arguments) if arguments.tune else _plan(arguments)


def _plan(arguments: argparse.Namespace) -> int:
    known = Known(
        rows=_row_counts(arguments.rows),
        prompt_tokens=arguments.prompt_tokens,
        tokens_per_second=_read_rates(arguments.rates) if arguments.rates else {},
        flops=arguments.flops,
        concurrency=int(os.environ.get("DATASTILL_CONCURRENCY", Known.concurrency)),
    )
    found = list(doctor.examine(os.environ))
    has_cuda = any(one.name == "cuda" and one.state == "ok" for one in found)
    steps = read_pipeline(arguments.pipeline)
    if unknown := known.rows.keys() - {step.name for step in steps}:
        names = ", ".join(step.name for step in steps)
        raise ParamsError(f"--rows: no stage {min(unknown)!r} in {arguments.pipeline}; there are {names}")
    root = arguments.pipeline.parent
    sections = load_file(arguments.params)
    estimates = estimate(steps, sections, root, known, has_cuda=has_cuda)
    wrong = [line for one in estimates for line in one.problems]
    wrong += [line for line in check_sections(sections) if line not in wrong]
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(_table(estimates))
    here = [f"{one.name}: {one.found}; {one.remedy}" for one in found if one.state == "missing"]
    for title, lines in (
        ("wrong", wrong),
        ("missing on this machine", [*here, *(f"{one.name}: {line}" for one in estimates for line in one.missing)]),
        ("not known", [f"{one.name}: {line}" for one in estimates for line in one.notes]),
        ("time from", _by_reason((one.name, one.seconds_from) for one in estimates if one.seconds is not None)),
        ("time not known", _by_reason((one.name, one.seconds_from) for one in estimates if one.seconds is None)),
    ):
        if lines:
            console.print(f"\n[bold]{title}[/]")
            console.print("\n".join(f"  {line}" for line in dict.fromkeys(lines)), markup=False, soft_wrap=True)
    if arguments.out:
        stages = [one.to_json() for one in estimates]
        write_json(arguments.out, {"stages": stages, "missing": here, "wrong": wrong})
    return 2 if wrong else 0


def _table(estimates: Sequence[Estimate]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in (
        "stage",
        "params",
        "rows",
        "requests",
        "prompt tokens",
        "completion",
        "steps",
        "memory",
        "time",
        "cost",
    ):
        table.add_column(name, justify="left" if name in ("stage", "params") else "right", overflow="fold")
    for one in estimates:
        table.add_row(
            one.name, "wrong" if one.problems else "valid", _count(one.rows), _count(one.requests),
            _count(one.prompt_tokens), _count(one.completion_tokens), _count(one.steps), _bytes(one.memory_bytes),
            "" if one.seconds is None else _duration(one.seconds), "" if one.cost is None else f"{one.cost:.2f}",
        )  # fmt: skip
    timed = [one.seconds for one in estimates if one.seconds is not None]
    costs = [one.cost for one in estimates if one.cost is not None]
    table.add_row(
        f"{len(estimates)} stages", "", "", _total(one.requests for one in estimates),
        _total(one.prompt_tokens for one in estimates), _total(one.completion_tokens for one in estimates), "", "",
        f"{_duration(sum(timed))} of {len(timed)}" if timed else "",
        f"{sum(costs):.2f} of {len(costs)}" if costs else "", style="bold",
    )  # fmt: skip
    return table


def _tune(arguments: argparse.Namespace) -> int:
    if not arguments.base_url or not arguments.model or arguments.prompts is None:
        raise ParamsError("--tune measures a server: name it by --base-url URL, --model NAME and --prompts FILE")
    grid = Grid(
        base_urls=[url.rstrip("/") for url in arguments.base_url], concurrency=arguments.concurrency,
        choices=arguments.choices, max_new_tokens=arguments.max_new_tokens, n_prompts=arguments.prompts_a_cell,
        n_samples=arguments.samples,
    )  # fmt: skip
    prompts = [row for row in Rows(arguments.prompts, Prompt, "plan", InputParams()) if isinstance(row, Prompt)]
    section = {**parse_assignments(arguments.set), "model": arguments.model}
    verifier = {"method": "by_row", **parse_assignments(arguments.verify)}
    cells = measure(
        grid, prompts, section, verifier, arguments.price_per_hour,
        tell=_tell,
    )  # fmt: skip
    best = best_of(cells)
    shown = [name for name in _CELL if any(name in cell for cell in cells)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in shown:
        table.add_column(name.replace("_", " "), overflow="fold")
    for cell in cells:
        style = "bold green" if cell is best else ""
        table.add_row(*(str(cell.get(name, "")) for name in shown), style=style)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    if arguments.out:
        write_json(arguments.out, {"model": arguments.model, "best": best, "cells": cells})
    return 0


def _tell(cell: Mapping[str, Any]) -> None:
    sys.stderr.write(f"{json.dumps(cell)}\n")


def _row_counts(assignments: Iterable[str]) -> dict[str, int]:
    counts = parse_assignments(assignments)
    for name, value in counts.items():
        if not isinstance(value, int) or value < 0:
            raise ParamsError(f"--rows {name}: expected a whole number (got {value!r})")
    return counts


def _read_rates(path: Path) -> Mapping[str, float]:
    """The best cell's, by the model's name."""
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        return {told["model"]: float(told["best"]["completion_tokens_per_second"])}
    except OSError as error:
        raise ParamsError(f"--rates {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ParamsError(f"--rates {path}: not what `datastill plan --tune --out` writes") from None


def _by_reason(named: Iterable[tuple[str, str]]) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, reason in named:
        names.setdefault(reason, []).append(name)
    return [f"{reason}: {', '.join(those)}" for reason, those in names.items()]


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _total(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known):,} of {len(known)}" if known else ""  # stages, as the others' are not known


def _bytes(parts: Mapping[str, int]) -> str:
    return f"{sum(parts.values()) / 2**30:.1f} GiB" if parts else ""


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
