"""`datastill why ROW_ID`: what a row was made of, what was made of it, and where and why it was dropped.

The id is looked for in every table of every dataset directory under --data and --models. A table's columns say what
its rows are: a completion makes it a trace, a status a verdict, a reason a rejection, a pass rate a prompt's scores,
messages alone a prompt, a text a document, which is shown in the prompt's place. The columns of ids are read once, or
twice where the id was cut short; then the rows of one prompt, in the files that hold them.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from datagen.contracts.dataset import content_hash, read_manifest
from datagen.contracts.errors import DataError, ParamsError
from datagen.lineage import by_flow, find_directories, input_hashes

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

N_AMBIGUOUS_SHOWN = 5
_ATTEMPT = re.compile(r"(?P<prompt>.+)#\d+\.[0-9a-f]{8}")  # a trace's id, as datagen.contracts.records makes it
_KINDS = {
    "completion": "trace", "status": "verdict", "detail": "rejection", "pass_rate": "scores", "messages": "prompt",
    "text": "document",
}  # fmt: skip
_IDS = ("id", "prompt_id")
_FILE = "__file"
_PROMPT = (
    "id",
    "family",
    "messages",
    "text",
    "context",
    "character",
    "labels",
    "reason",
    "reference",
    "constraints",
    "tools",
    "tests",
    "source",
    "info",
)
_TRACE = ("id", "sample_index", "teacher", "seed", "request_key", "finish_reason", "n_prompt_tokens",
          "n_completion_tokens", "reasoning", "completion", "tool_calls", "score", "best")  # fmt: skip
_SAMPLING = ("temperature", "top_p", "max_new_tokens")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of a dataset directory; `name` is `part` for its rows, else the side table's."""

    dataset: Path
    name: str
    files: Sequence[Path]
    columns: frozenset[str]

    @property
    def kind(self) -> str:
        """What its rows are."""
        return next((kind for column, kind in _KINDS.items() if column in self.columns), "other")

    def ids(self, condition: Callable[[pl.Expr], pl.Expr]) -> pl.LazyFrame:
        """The ids of rows that have one which meets `condition`, and the file of each."""
        names = [name for name in _IDS if name in self.columns]
        rows = pl.scan_parquet(list(self.files), include_file_paths=_FILE).select(*names, _FILE)
        missing = [pl.lit(None, pl.String).alias(name) for name in _IDS if name not in names]
        return rows.filter(_any(condition, names)).with_columns(missing).select(*_IDS, _FILE)

    def rows(self, files: Iterable[str], condition: Callable[[pl.Expr], pl.Expr]) -> list[Row]:
        """The rows in these files that have an id which meets `condition`, each with the place where it stands."""
        meets = _any(condition, [name for name in _IDS if name in self.columns])
        found = pl.scan_parquet(list(files), parallel="prefiltered").filter(meets).collect()
        place = {"dataset": self.dataset.as_posix(), "table": self.name}
        return [place | row for row in found.iter_rows(named=True)]


def main(argv: Sequence[str]) -> int:
    """Print the way of one row."""
    parser = argparse.ArgumentParser(prog="datastill why", description="Tell a row's whole way.")
    parser.add_argument("id", help="of a prompt, a trace or a dropped row; its start will do", metavar="ROW_ID")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="datasets, or one (default: %(default)s)", metavar="DIR"
    )
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="students (default: %(default)s)", metavar="DIR"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args(argv)
    way = follow(arguments.id, arguments.data, arguments.models)
    if arguments.json:
        sys.stdout.write(json.dumps(way, indent=2, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        Console(highlight=False).print(_tree(way))
    return 0


def follow(id: str, data: Path, models: Path) -> dict[str, Any]:
    """Everything known of the row: its prompt, every attempt at it, their verdicts, and where each of them ended.

    Raises:
        DataError: no dataset directory under `data`, or none holds the id.
        ParamsError: rows of several prompts, or several traces of one, start with it.
    """
    datasets = by_flow([*find_directories(data), *find_directories(models)])
    if not datasets:
        raise DataError(f"{data}: no dataset directory here; name the folder that holds them with --data")
    tables = [table for dataset in datasets for table in _tables(dataset)]
    id, prompt_id, found = _look_up(id, tables)
    rows: dict[str, list[Row]] = {kind: [] for kind in (*_KINDS.values(), "other")}
    of_prompt = _of(prompt_id, id)
    for table, ids in zip(tables, found, strict=True):
        if files := ids.filter(_any(of_prompt, _IDS))[_FILE].unique(maintain_order=True).to_list():
            rows[table.kind] += table.rows(files, of_prompt)
    attempts = dict.fromkeys(
        row["id"]
        for kind in ("trace", "verdict", "rejection")
        for row in rows[kind]
        if kind != "rejection" or _ATTEMPT.fullmatch(row["id"])
    )
    sources = rows["prompt"] + rows["document"]
    prompts = sources or [row | {"id": prompt_id} for row in rows["trace"][:1]]
    manifests = {dataset.as_posix(): read_manifest(dataset) for dataset in datasets}
    used = dict.fromkeys(row["dataset"] for kind in rows.values() for row in kind)
    return {
        "id": id,
        "prompt": {"id": prompt_id} | ({name: prompts[0].get(name) for name in _PROMPT} if prompts else {}),
        "prompt_in": [row["dataset"] for row in sources],
        "repairs": [row for row in rows["other"] if "old_reference" in row],
        "scores": rows["scores"],
        "rejections": [row for row in rows["rejection"] if row["id"] not in attempts],
        "attempts": [_attempt(one, rows, manifests) for one in attempts],
        "datasets": {
            name: {key: manifests[name].get(key) for key in ("stage", "method", "params", "teacher")} for name in used
        },
    }


def _attempt(id: str, rows: Mapping[str, list[Row]], manifests: Mapping[str, Row]) -> dict[str, Any]:
    """One answer: what it is, what was found, where it stands, and which students saw it."""
    traces, verdicts, rejections = (
        [row for row in rows[kind] if row["id"] == id] for kind in ("trace", "verdict", "rejection")
    )
    flow = list(manifests)
    kept_in = [row["dataset"] for row in traces if row["table"] == "part"]
    hashes = {content_hash(Path(dataset)) for dataset in kept_in}
    dropped_by = {row["dataset"] for row in rejections}
    return {
        **({name: traces[0].get(name) for name in _TRACE} if traces else {"id": id}),
        "verdicts": _distinct(verdicts),
        "kept_in": kept_in,
        "is_dropped": bool(rejections) and max(map(flow.index, dropped_by)) > max(map(flow.index, kept_in), default=-1),
        "rejections": rejections,
        "trained": [
            name
            for name, manifest in manifests.items()
            if "record" not in manifest and hashes & set(input_hashes(manifest).values()) and name not in dropped_by
        ],
    }


def _distinct(verdicts: Iterable[Row]) -> list[Row]:
    """Without those that select took over as they were."""
    found: dict[str, Row] = {}
    for row in verdicts:
        said = {key: value for key, value in row.items() if key not in ("dataset", "table")}
        found.setdefault(json.dumps(said), row)
    return list(found.values())


def _tables(dataset: Path) -> Iterator[Table]:
    files: dict[str, list[Path]] = {}
    for file in sorted(dataset.glob("*.parquet")):
        files.setdefault("part" if file.stem.startswith("part-") else file.stem, []).append(file)
    for name, parts in files.items():
        columns = frozenset(pl.read_parquet_schema(parts[0]))
        if not columns.isdisjoint(_IDS):
            yield Table(dataset=dataset, name=name, files=parts, columns=columns)


def _look_up(id: str, tables: Sequence[Table]) -> tuple[str, str, list[pl.DataFrame]]:
    """The whole id, the prompt that it belongs to, and of each table the ids that start with the prompt's.

    A start of an id stands for the one that has it; of a prompt and its traces, for the prompt. The prompt of a trace
    is what its row says, that of a failed request what its id says.
    """
    start = _prompt_in(id)
    found = pl.collect_all([table.ids(lambda column: column.str.starts_with(start)) for table in tables])
    whole = _full_id(id, found, tables)
    named = (frame.filter(id=whole)["prompt_id"].drop_nulls() for frame in found)
    prompt_id = next((ids[0] for ids in named if len(ids)), _prompt_in(whole))
    if not prompt_id.startswith(start):  # the id was cut behind the prompt's: its other attempts start otherwise
        found = pl.collect_all([table.ids(_of(prompt_id, whole)) for table in tables])
    return whole, prompt_id, found


def _any(condition: Callable[[pl.Expr], pl.Expr], columns: Iterable[str]) -> pl.Expr:
    return pl.any_horizontal(condition(pl.col(name)) for name in columns)


def _of(prompt_id: str, id: str) -> Callable[[pl.Expr], pl.Expr]:
    """Whether an id is the prompt's, one of its attempts' as their ids name it, or this one."""
    return lambda column: column.is_in([prompt_id, id]) | column.str.starts_with(f"{prompt_id}#")


def _full_id(id: str, found: Iterable[pl.DataFrame], tables: Iterable[Table]) -> str:
    ids = {one for frame in found for name in _IDS for one in frame[name] if one is not None and one.startswith(id)}
    if id in ids:
        return id
    ids -= {one for one in ids if (prompt := _prompt_in(one)) != one and prompt in ids}
    if not ids:
        places = ", ".join(dict.fromkeys(table.dataset.as_posix() for table in tables))
        raise DataError(f"no row {id!r}, and none whose id starts with it, in {places}; --data names another place")
    if len(ids) > 1:
        shown = ", ".join(sorted(ids)[:N_AMBIGUOUS_SHOWN])
        more = f" and {len(ids) - N_AMBIGUOUS_SHOWN} more" if len(ids) > N_AMBIGUOUS_SHOWN else ""
        raise ParamsError(f"{len(ids)} rows start with {id!r}: {shown}{more}; type more of the id")
    return ids.pop()


def _prompt_in(id: str) -> str:
    """The prompt that the id of a trace names; any other id is its own."""
    match = _ATTEMPT.fullmatch(id)
    return match["prompt"] if match else id


def _tree(way: Mapping[str, Any]) -> "Tree":
    """The prompt, then its attempts; of those that were not asked for, only how they ended."""
    from rich.tree import Tree

    prompt, datasets = way["prompt"], way["datasets"]
    kind = "document" if prompt.get("text") else "prompt"
    tree = Tree(_line(kind, prompt["id"], style="bold"), guide_style="dim")
    for name in way["prompt_in"]:
        tree.add(_line("in", f"{name}, made by {datasets[name]['method'] or datasets[name]['stage']}"))
    for label in ("source", "family", "context", "character", "text"):
        if prompt.get(label):
            tree.add(_line(label, prompt[label]))
    if prompt.get("labels") is not None:
        held = (f"{one['name']} {one['weight']:g}" for one in prompt["labels"])
        tree.add(_line("labels", ", ".join(held) or "none").append(f"  {_visible(prompt.get('reason') or '')}"))
    for message in prompt.get("messages") or ():
        tree.add(_line(message["role"], message["content"] or message.get("tool_calls") or ""))
    for constraint in prompt.get("constraints") or ():
        tree.add(_line("must", f"{constraint['id']} {constraint['kwargs']}"))
    if prompt.get("reference") is not None:
        tree.add(_line("reference", prompt["reference"]))
    for repair in way["repairs"]:
        tree.add(_line("reference", _repair(repair)))
    for row in way["scores"]:
        tree.add(_line("scores", _scores(row)))
    for row in way["rejections"]:
        tree.add(_dropped(row))
    for attempt in way["attempts"]:
        branch = tree.add(_ending(attempt))
        if way["id"] in (prompt["id"], attempt["id"]):
            for line in _story(attempt, datasets):
                branch.add(line)
    return tree


def _repair(row: Mapping[str, Any]) -> str:
    votes = f"{row['n_majority']} of {row['n_votes']} votes for {row['majority']}" if row["n_votes"] else "no votes"
    second = f", {row['second_source']} says {row['second']}" if row["second"] is not None else ""
    end = f"{row['old_reference']} became {row['new_reference']}" if row["case"] == "repaired" else row["case"]
    return f"{end} in {row['dataset']}: {votes}{second}"


def _scores(row: Mapping[str, Any]) -> str:
    varied = f", coefficient of variation {row['cv']:.3g}" if row["cv"] is not None else ""
    return f"{row['n_passes']} of {row['n_attempts']} attempts pass, mean score {row['mean_score']:.3g}{varied}"


def _ending(attempt: Mapping[str, Any]) -> "Text":
    if attempt["is_dropped"] and not attempt["trained"]:
        end, style = "dropped", "bold red"
    elif attempt["trained"]:
        end, style = "kept and trained on", "bold green"
    elif attempt["verdicts"] and (found := attempt["verdicts"][-1]["status"]) != "pass":
        end, style = f"judged {found}", "bold red"
    else:
        end, style = "kept", "bold green"
    return _line("attempt", attempt["id"], style="bold").append(f"  {end}", style=style)


def _story(attempt: Mapping[str, Any], datasets: Mapping[str, Row]) -> Iterator["Text"]:
    places = attempt["kept_in"] or [row["dataset"] for row in attempt["rejections"]]
    origin = datasets[places[0]] if places else {}
    teacher = attempt.get("teacher") or (origin.get("teacher") or {}).get("model")
    if teacher or "completion" in attempt:  # the stage that asked names its teacher where no answer came, too
        params = origin.get("params") or {}
        sampling = ", ".join(f"{name} {params[name]}" for name in _SAMPLING if name in params)
        yield _line("teacher", ", ".join(filter(None, (teacher or "not named", sampling))))
    if "completion" in attempt:
        if attempt["request_key"]:
            yield _line("request", f"{attempt['request_key'][:16]}…, seed {attempt['seed']}")
        if attempt["reasoning"]:
            yield _line("reasoning", attempt["reasoning"])
        if attempt["tool_calls"]:
            yield _line("called", attempt["tool_calls"])
        n_tokens = f"{n} tokens" if (n := attempt["n_completion_tokens"]) is not None else None
        end = ", ".join(filter(None, (attempt["finish_reason"], n_tokens)))
        yield _line("answer", attempt["completion"]).append(f"  ({end})" if end else "", style="dim")
    if attempt.get("score") is not None:
        chosen = {True: ", the best of its prompt", False: ", not the best of its prompt"}.get(attempt["best"], "")
        yield _line("score", f"{attempt['score']:g}{chosen}")
    if attempt["kept_in"]:
        yield _line("in", ", ".join(attempt["kept_in"]))
    for verdict in attempt["verdicts"]:
        yield _verdict(verdict)
    said = [verdict["detail"] for verdict in attempt["verdicts"]]
    for row in attempt["rejections"]:
        yield _dropped(row | {"detail": ""} if row["detail"] in said else row)
    for name in attempt["trained"]:
        yield _line("trained", name, style="green")


def _verdict(row: Mapping[str, Any]) -> "Text":
    style = "green" if row["status"] == "pass" else "red"
    answer = f", took {row['answer']!r} as the answer" if row["answer"] is not None else ""
    line = _line("verdict", f"{row['status']} by {row['method']}, score {row['score']:g}{answer}", style=style)
    return line.append(f"  {_visible(row['detail'])}" if row["detail"] else "")


def _dropped(row: Mapping[str, Any]) -> "Text":
    return _line("dropped", f"{row['reason']} in {row['dataset']}", style="red").append(f"  {_visible(row['detail'])}")


def _line(label: str, text: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(f"{label:<10}", style="dim").append(_visible(text), style=f"not dim {style}")


def _visible(text: str) -> str:
    """Text from models and users without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
