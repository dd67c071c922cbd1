"""`datastill report --compare EXP`: two runs side by side, by the metrics and params that DVC keeps of them.

DVC finds the runs: a name of an experiment, a branch, a tag or a commit, and `workspace` for what lies here. It also
says what differs; the page puts that beside each other.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.errors import DataError, MissingError
from datagen.report.markup import css, plain, section, text, wide
from datagen.report.page import document

HERE = "workspace"
OUT = Path("compare.html")  # not in report/, which is an output that DVC keeps as the stage wrote it

_WORD = re.compile(r"[a-z0-9]+")
_SHARES = frozenset(["accuracy", "auc", "f1", "family", "precision", "probability", "rate", "recall", "share"])
_NO_SHARES = frozenset(["learning", "loss", "n", "seconds", "std", "threshold", "tokens"])  # a learning rate is none

Differences = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""File to name to `old`, `new` and, of numbers, `diff`, as DVC prints them."""


def main(argv: Sequence[str]) -> int:
    """Write the page of two runs."""
    parser = argparse.ArgumentParser(
        prog="datastill report --compare",
        description="Two runs side by side: the metrics and params that DVC keeps of them, and how they differ.",
    )
    parser.add_argument(
        "--compare", required=True, metavar="EXP", help="an experiment (`dvc exp list`), branch, tag or commit"
    )
    parser.add_argument(
        "--with", dest="other", default=HERE, metavar="REV", help="what it stands beside (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="PATH", help="the page, or its folder (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    metrics = _ask_dvc("metrics", arguments.other, arguments.compare, "--all")
    if not any(metrics.values()):
        raise DataError(
            f"{arguments.other} and {arguments.compare} have no metrics that DVC knows; name them under `metrics` in "
            "dvc.yaml, and run `dvc repro` or `dvc exp run`"
        )
    params = _ask_dvc("params", arguments.other, arguments.compare)
    page: Path = arguments.out if arguments.out.suffix == ".html" else arguments.out / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(arguments.other, arguments.compare, metrics, params), encoding="utf-8")
    sys.stdout.write(f"{page}\n")
    return 0


def render(old: str, new: str, metrics: Differences, params: Differences) -> str:
    """The whole page."""
    changed = sum(_differs(one) for figures in metrics.values() for one in figures.values())
    total = sum(map(len, metrics.values()))
    set_otherwise = sum(map(len, params.values()))
    header = (
        f'<header class="rows-head">\n<p class="brand">datastill</p>\n<h1>{text(old)} → {text(new)}</h1>\n'
        f'<p class="lead">{changed:,} of {total:,} figures differ; params that differ: {set_otherwise:,}.</p>\n'
        "</header>\n"
    )
    settings = {f"{file}: {name}": one for file, found in sorted(params.items()) for name, one in sorted(found.items())}
    body = header
    if settings:
        body += section(
            "What was set otherwise", "Params that differ.", _table("param", old, new, settings), id="params"
        )
    same: list[str] = []
    for file, figures in sorted(metrics.items()):
        found = {name: one for name, one in figures.items() if _differs(one)}
        if found:
            name = Path(file).stem.replace("_", " ")
            rest = f"; {len(figures) - len(found):,} more are equal" if len(found) < len(figures) else ""
            said = f"<code>{text(file)}</code>: {len(found):,} figures differ{rest}."
            body += section(text(name), said, _table("figure", old, new, found))
        else:
            same.append(file)
    if same:
        listed = ", ".join(f"<code>{text(file)}</code>" for file in same)
        body += section("Equal in both", "Every figure in these files.", f"<p>{listed}</p>", id="equal")
    style = Path(__file__).with_name("rows.css").read_text(encoding="utf-8")
    footer = "As <code>dvc metrics diff</code> and <code>dvc params diff</code> say; lists are not compared."
    return document(f"datastill: {text(old)} and {text(new)}", body, footer, style=style)


def _differs(one: Mapping[str, Any]) -> bool:
    return one.get("old") != one.get("new")


def _table(kind: str, old: str, new: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    names = (text(old), text(new), "difference", "")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    lines = "".join(_row(name, one) for name, one in rows.items())
    table = f'<table class="facts"><thead><tr><th>{kind}</th>{head}</tr></thead><tbody>{lines}</tbody></table>'
    return wide(table, f"{kind}s side by side")


def _row(name: str, one: Mapping[str, Any]) -> str:
    old, new = one.get("old"), one.get("new")
    cells = (text(_value(old)), text(_value(new)), *_difference(old, new))
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{text(name)}{_bars(name, old, new)}</th>{numbers}</tr>\n'


def _value(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if _is_number(value) else plain(value)


def _difference(old: Any, new: Any) -> tuple[str, str]:
    """Absolute, and as a share of the old one; empty where either is no number."""
    if not (_is_number(old) and _is_number(new)):
        return "", ""
    share = f"{100 * (new - old) / abs(old):+.1f}\u202f%" if old else ""
    return f"{new - old:+,.6g}", share


def _bars(name: str, old: Any, new: Any) -> str:
    """Two shares of one as bars, where the name says that they are; nothing of losses, seconds or other values."""
    words = frozenset(_WORD.findall(name.lower()))
    if words.isdisjoint(_SHARES) or not words.isdisjoint(_NO_SHARES):
        return ""
    if not all(isinstance(value, float) and 0 <= value <= 1 for value in (old, new)):
        return ""
    fills = (
        f'<i class="fill {who}" style="width:{css(share)}"></i>' for who, share in (("before", old), ("after", new))
    )
    return "".join(f'<span class="bar" aria-hidden="true"><span class="track">{fill}</span></span>' for fill in fills)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ask_dvc(what: str, old: str, new: str, *flags: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What `dvc metrics diff` or `dvc params diff` prints."""
    if importlib.util.find_spec("dvc") is None:
        raise MissingError("report --compare needs DVC, which is not installed here; pip install 'dvc>=3.60'")
    for name in (old, new):
        if name.startswith("-"):
            raise DataError(f"{name!r} names no run; give an experiment, a branch, a tag or a commit")
    command = [sys.executable, "-m", "dvc", what, "diff", *flags, "--json", old, new]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = " ".join(line.removeprefix("ERROR: ") for line in ran.stderr.splitlines() if line.startswith("ERROR"))
        raise DataError(
            f"DVC cannot compare {old} with {new} in {Path.cwd()}: {said or ran.stderr.strip() or 'it says nothing'}. "
            "Run this where `git init` and `dvc init` were run; `dvc exp list` names the experiments"
        )
    return json.loads(ran.stdout or "{}")
