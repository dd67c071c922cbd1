"""The command `datastill`: runs any stage, and says what there is, what is missing and what became of a row.

Stages and methods are found by folder. Nothing that is slow to import is imported before a command needs it.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

# command: module with a `main`, what it does
COMMANDS = {
    "init": ("datagen.init.command", "a new project for your own prompts, in which `dvc repro` runs at once"),
    "plan": ("datagen.plan.command", "what a pipeline would ask, hold, take and cost; --tune: what a server gives"),
    "list": ("datagen.listing", "stages with their inputs, and the methods of each family"),
    "why": ("datagen.why", "a row's whole way: prompt, teacher, sampling, verdict, kept or dropped and why"),
    "lineage": ("datagen.lineage", "what a dataset was made of: rows kept and dropped, by stage and reason"),
    "doctor": ("datagen.doctor", "what is installed and found here, and what to do about what is not"),
    "export": ("datagen.export", "a verified dataset in the column types that TRL's trainers take"),
    "publish": ("datagen.publish.command", "a dataset or a student on the Hugging Face Hub, with its card and licence"),
    "report": ("datagen.report.command", "a run on pages that anybody can open; --compare: two runs side by side"),
    "ledger": ("datagen.ledger", "the paid answers: stats, verify, export, import, prune"),
}
USAGE = """usage: datastill COMMAND ...

  datastill STAGE --help   arguments of a stage; `datastill list` names the stages
  datastill STAGE ...      run a stage on a dataset directory, a .jsonl or a .parquet file
{commands}
  datastill --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 2 where the command line is wrong, else the command's own."""
    command, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if command in ("-h", "--help", ""):
        lines = [f"  datastill {name:<14} {text}" for name, (_, text) in COMMANDS.items()]
        (sys.stdout if command else sys.stderr).write(USAGE.format(commands="\n".join(lines)))
        return 0 if command else 2
    if command in ("-V", "--version"):
        sys.stdout.write(f"datastill {importlib.metadata.version('datastill')}\n")
        return 0
    from datagen.contracts.errors import DatastillError  # these bring polars and pydantic, --version needs neither
    from datagen.contracts.stage import find_stages, load_stage
    from datagen.contracts.stage import main as run_stage

    try:
        if command in COMMANDS:
            return importlib.import_module(COMMANDS[command][0]).main(rest)
        if command in find_stages():
            return run_stage(load_stage(command), rest)
        sys.stderr.write(
            f"datastill: no command or stage {command!r}{_nearest(command, [*COMMANDS, *find_stages()])}\n"
        )
        return 2
    except DatastillError as error:
        sys.stderr.write(f"datastill {command}: {error}\n")
        return error.exit_code


def _nearest(command: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(command, known, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(known)}"
    return f"{hint} `datastill list` says what each does"


if __name__ == "__main__":
    raise SystemExit(main())
