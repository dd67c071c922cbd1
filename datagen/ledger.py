"""`datastill ledger`: what is in the ledger of paid answers, whether it is whole, and taking answers out and in.

stats    answers and bytes, by epoch
verify   every answer against its checksum, and the file's structure; exit code 3 where something is damaged
export   answers to a folder of Parquet shards, for DVC or the Hub
import   answers from such a folder, where the ledger has none; one that stands is never replaced
prune    answers of one epoch go; without --yes it only says what would
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datagen import ledger_upkeep
from datagen.backends.ledger_file import ledger_path
from datagen.contracts.errors import DataError, ParamsError

N_SHOWN = 20


def main(argv: Sequence[str]) -> int:
    """Run one of the five; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.ledger is None:
        arguments.ledger = ledger_path()
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="datastill ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--ledger", type=Path, help="default: ledger.sqlite in $DATASTILL_HOME", metavar="FILE")
    shared.add_argument("--json", action="store_true", help="print JSON instead of a table")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[shared], help=text, description=text)
        made.set_defaults(run=run)
        return made

    command("stats", _stats, "answers and bytes, by epoch")
    command("verify", _verify, "check every answer and the file; exit code 3 where something is damaged")
    export = command("export", _export, "answers to a folder of Parquet shards")
    export.add_argument("out", type=Path, help="folder to write", metavar="DIR")
    export.add_argument("--epoch", type=int, help="this epoch's alone (default: all)", metavar="N")
    command("import", _import, "answers from an exported folder, where the ledger has none").add_argument(
        "folder", type=Path, help="what export wrote", metavar="DIR"
    )
    prune = command("prune", _prune, "delete an epoch's answers; without --yes only say what would go")
    prune.add_argument("--epoch", type=int, required=True, help="the epoch whose answers go", metavar="N")
    prune.add_argument("--yes", action="store_true", help="delete them")
    return parser


def _stats(arguments: argparse.Namespace) -> int:
    epochs = ledger_upkeep.count_by_epoch(arguments.ledger)
    figures: dict[str, Any] = {
        "ledger": str(arguments.ledger),
        "answers": sum(one.n_answers for one in epochs),
        "answer_bytes": sum(one.size_bytes for one in epochs),
        "file_bytes": ledger_upkeep.size_on_disk(arguments.ledger),
        "oldest": _time(min((one.oldest for one in epochs), default=None)),
        "newest": _time(max((one.newest for one in epochs), default=None)),
        "epochs": [asdict(one) | {"oldest": _time(one.oldest), "newest": _time(one.newest)} for one in epochs],
    }
    if not _printed_json(arguments, figures):
        table = Table("epoch", "answers", "bytes", "oldest", "newest", box=None, pad_edge=False)
        for one in figures["epochs"]:
            table.add_row(
                str(one["epoch"]), f"{one['n_answers']:,}", _size(one["size_bytes"]), one["oldest"], one["newest"]
            )
        total = (f"{figures['answers']:,}", _size(figures["answer_bytes"]), figures["oldest"], figures["newest"])
        table.add_row("all", *(cell or "" for cell in total), style="bold")
        _print(table, f"{arguments.ledger}, {_size(figures['file_bytes'])} on disk")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    health = ledger_upkeep.verify(arguments.ledger)
    found = {"ledger": str(arguments.ledger), "answers": health.n_answers, "whole": health.is_whole}
    if not _printed_json(arguments, found | {"damaged": health.damaged, "problems": health.problems}):
        table = Table("what", "where", box=None, pad_edge=False)
        table.add_row("answers read", f"{health.n_answers:,}")
        for kind, lines in (("damaged answer", health.damaged), ("file", health.problems)):
            for line in lines[:N_SHOWN]:
                table.add_row(kind, line, style="red")
            if len(lines) > N_SHOWN:
                table.add_row(kind, f"and {len(lines) - N_SHOWN:,} more; --json names all", style="red")
        _print(table, f"{arguments.ledger} is {'whole' if health.is_whole else 'damaged'}")
    if not health.is_whole:
        sys.stderr.write(
            f"ledger {arguments.ledger}: {len(health.damaged):,} answers damaged, {len(health.problems):,} problems of "
            "the file; nothing was changed. Restore a copy, or move the file away with its -wal and import an export\n"
        )
    return 0 if health.is_whole else DataError.exit_code


def _export(arguments: argparse.Namespace) -> int:
    from datagen.ledger_exchange import export_answers

    manifest = export_answers(arguments.ledger, arguments.out, arguments.epoch)
    figures = {"out": str(arguments.out), "answers": manifest["rows"]["out"], "shards": len(manifest["files"])}
    if not _printed_json(arguments, figures):
        table = Table("answers", "shards", box=None, pad_edge=False)
        table.add_row(f"{figures['answers']:,}", f"{figures['shards']:,}")
        _print(table, f"{arguments.out}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from datagen.ledger_exchange import import_answers

    imported = import_answers(arguments.ledger, arguments.folder)
    figures = {
        "new": imported.n_new,
        "known": imported.n_known,
        "conflicting": imported.n_conflicting,
        "conflicts": imported.conflicts,
    }
    if not _printed_json(arguments, figures):
        table = Table("new", "known", "conflicting", box=None, pad_edge=False)
        table.add_row(*(f"{figures[name]:,}" for name in ("new", "known", "conflicting")))
        _print(table, f"{arguments.folder} into {arguments.ledger}")
        if imported.conflicts:
            shown = ", ".join(imported.conflicts)
            _print(f"another answer stood under these keys and stays, the first of them: {shown}")
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    epochs = {one.epoch: one for one in ledger_upkeep.count_by_epoch(arguments.ledger)}
    going = epochs.get(arguments.epoch)
    if going is None and not arguments.yes:
        raise ParamsError(f"--epoch {arguments.epoch}: no answer has it; there are {sorted(epochs)}")
    before = ledger_upkeep.size_on_disk(arguments.ledger)
    n_deleted = ledger_upkeep.prune(arguments.ledger, arguments.epoch) if arguments.yes else 0
    figures = {
        "epoch": arguments.epoch,
        "answers": n_deleted if arguments.yes else going.n_answers if going else 0,
        "answer_bytes": going.size_bytes if going else 0,
        "kept": sum(one.n_answers for one in epochs.values() if one is not going),
        "deleted": arguments.yes,
        "file_bytes_before": before,
        "file_bytes_after": ledger_upkeep.size_on_disk(arguments.ledger),
    }
    if not _printed_json(arguments, figures):
        table = Table("epoch", "answers", "bytes", "kept", "file before", "file after", box=None, pad_edge=False)
        table.add_row(
            str(arguments.epoch),
            f"{figures['answers']:,}",
            _size(figures["answer_bytes"]),
            f"{figures['kept']:,}",
            _size(before),
            _size(figures["file_bytes_after"]),
        )
        _print(table, "deleted" if arguments.yes else "would go; nothing was deleted, --yes deletes")
    return 0


def _printed_json(arguments: argparse.Namespace, figures: dict[str, Any]) -> bool:
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    return arguments.json


def _print(*parts: Any) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)


def _time(seconds: int | None) -> str | None:
    """ISO 8601, UTC; the bare number where the clock that gave it was beyond the calendar."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"


def _size(n_bytes: int) -> str:
    if n_bytes < 1000:
        return f"{n_bytes} B"
    power = min(3, (len(str(n_bytes)) - 1) // 3)
    return f"{n_bytes / 1000**power:,.1f} {('kB', 'MB', 'GB')[power - 1]}"
