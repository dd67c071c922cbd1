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
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from datagen.contracts.dataset import content_hash, read_manifest
from datagen.contracts.errors import DataError, ParamsError
from datagen.lineage import by_flow, find_directories, input_hashes

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

N_AMBIGUOUS_SHOWN = 5
KEPT, TRAINED, DROPPED = "kept", "kept and trained on", "dropped"
_ATTEMPT = re.compile(r"(?P<prompt>.+)#\d+\.[0-9a-f]{8}")
KINDS = {  # column to what a row is that has it
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


class Line(NamedTuple):
    """One thing that is told: `style` is the terminal's of `text`, `more` follows it in plain."""

    label: str
    text: str
    style: str = ""
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Directories that stages wrote, each after those that it was made of: name to manifest, and to content hash."""

    manifests: Mapping[str, Row]
    hashes: Mapping[str, str]

    @classmethod
    def of(cls, directories: Iterable[Path]) -> "Flow":
        """Of equal datasets one."""
        names = {one.as_posix(): one for one in by_flow(directories)}
        return cls(
            manifests={name: read_manifest(one) for name, one in names.items()},
            hashes={name: content_hash(one) for name, one in names.items()},
        )


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
        return next((kind for column, kind in KINDS.items() if column in self.columns), "other")

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
    flow = Flow.of([*find_directories(data), *find_directories(models)])
    if not flow.manifests:
        raise DataError(f"{data}: no dataset directory here; name the folder that holds them with --data")
    tables = [table for dataset in flow.manifests for table in tables_of(Path(dataset))]
    id, prompt_id, found = _look_up(id, tables)
    rows: dict[str, list[Row]] = {kind: [] for kind in (*KINDS.values(), "other")}
    of_prompt = _of(prompt_id, id)
    for table, ids in zip(tables, found, strict=True):
        if files := ids.filter(_any(of_prompt, _IDS))[_FILE].unique(maintain_order=True).to_list():
            rows[table.kind] += table.rows(files, of_prompt)
    return tell(id, prompt_id, rows, flow)


def tell(id: str, prompt_id: str, rows: Mapping[str, Sequence[Row]], flow: Flow) -> dict[str, Any]:
    """What `follow` returns, from all rows of one prompt: kind to rows with `dataset` and `table`, by the flow."""
    attempts = dict.fromkeys(
        row["id"]
        for kind in ("trace", "verdict", "rejection")
        for row in rows[kind]
        if kind != "rejection" or is_attempt(row["id"])
    )
    sources = [*rows["prompt"], *rows["document"]]
    prompts = sources or [row | {"id": prompt_id} for row in rows["trace"][:1]]
    used = dict.fromkeys(row["dataset"] for kind in rows.values() for row in kind)
    return {
        "id": id,
        "prompt": {"id": prompt_id} | ({name: prompts[0].get(name) for name in _PROMPT} if prompts else {}),
        "prompt_in": [row["dataset"] for row in sources],
        "repairs": [row for row in rows["other"] if "old_reference" in row],
        "scores": rows["scores"],
        "rejections": [row for row in rows["rejection"] if row["id"] not in attempts],
        "attempts": [_attempt(one, rows, flow) for one in attempts],
        "datasets": {
            name: {key: flow.manifests[name].get(key) for key in ("stage", "method", "params", "teacher")}
            for name in used
        },
    }


def _attempt(id: str, rows: Mapping[str, Sequence[Row]], flow: Flow) -> dict[str, Any]:
    """One answer: what it is, what was found, where it stands, and which students saw it."""
    traces, verdicts, rejections = (
        [row for row in rows[kind] if row["id"] == id] for kind in ("trace", "verdict", "rejection")
    )
    order = list(flow.manifests)
    kept_in = [row["dataset"] for row in traces if row["table"] == "part"]
    hashes = {flow.hashes[dataset] for dataset in kept_in}
    dropped_by = {row["dataset"] for row in rejections}
    return {
        **({name: traces[0].get(name) for name in _TRACE} if traces else {"id": id}),
        "verdicts": _distinct(verdicts),
        "kept_in": kept_in,
        "is_dropped": bool(rejections)
        and max(map(order.index, dropped_by)) > max(map(order.index, kept_in), default=-1),
        "rejections": rejections,
        "trained": [
            name
            for name, manifest in flow.manifests.items()
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


def tables_of(dataset: Path) -> Iterator[Table]:
    """Those of a dataset directory whose rows have ids."""
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
    start = prompt_in(id)
    found = pl.collect_all([table.ids(lambda column: column.str.starts_with(start)) for table in tables])
    whole = _full_id(id, found, tables)
    named = (frame.filter(id=whole)["prompt_id"].drop_nulls() for frame in found)
    prompt_id = next((ids[0] for ids in named if len(ids)), prompt_in(whole))
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
    ids -= {one for one in ids if (prompt := prompt_in(one)) != one and prompt in ids}
    if not ids:
        places = ", ".join(dict.fromkeys(table.dataset.as_posix() for table in tables))
        raise DataError(f"no row {id!r}, and none whose id starts with it, in {places}; --data names another place")
    if len(ids) > 1:
        shown = ", ".join(sorted(ids)[:N_AMBIGUOUS_SHOWN])
        more = f" and {len(ids) - N_AMBIGUOUS_SHOWN} more" if len(ids) > N_AMBIGUOUS_SHOWN else ""
        raise ParamsError(f"{len(ids)} rows start with {id!r}: {shown}{more}; type more of the id")
    return ids.pop()


def is_attempt(id: str) -> bool:
    """Whether it is a trace's id, as datagen.contracts.records makes it."""
    return _ATTEMPT.fullmatch(id) is not None


def prompt_in(id: str) -> str:
    """The prompt that the id of a trace names; any other id is its own."""
    match = _ATTEMPT.fullmatch(id)
    return match["prompt"] if match else id


def _tree(way: Mapping[str, Any]) -> "Tree":
    """The prompt, then its attempts; of those that were not asked for, only how they ended."""
    from rich.tree import Tree

    first, *rest = prompt_lines(way)
    tree = Tree(_written(first), guide_style="dim")
    for line in rest:
        tree.add(_written(line))
    for attempt in way["attempts"]:
        end = ending(attempt)
        style = "bold green" if end in (KEPT, TRAINED) else "bold red"
        branch = tree.add(_written(Line("attempt", attempt["id"], "bold")).append(f"  {end}", style=style))
        if way["id"] in (way["prompt"]["id"], attempt["id"]):
            for line in attempt_lines(attempt, way["datasets"]):
                branch.add(_written(line))
    return tree


def prompt_lines(way: Mapping[str, Any]) -> Iterator[Line]:
    """Of what `follow` found, all that is not an attempt's."""
    prompt, datasets = way["prompt"], way["datasets"]
    yield Line("document" if prompt.get("text") else "prompt", prompt["id"], "bold")
    for name in way["prompt_in"]:
        yield Line("in", f"{name}, made by {datasets[name]['method'] or datasets[name]['stage']}")
    for label in ("source", "family", "context", "character", "text"):
        if prompt.get(label):
            yield Line(label, prompt[label])
    if prompt.get("labels") is not None:
        held = (f"{one['name']} {one['weight']:g}" for one in prompt["labels"])
        yield Line("labels", ", ".join(held) or "none", more=prompt.get("reason") or "")
    for message in prompt.get("messages") or ():
        yield Line(message["role"], message["content"] or message.get("tool_calls") or "")
    for constraint in prompt.get("constraints") or ():
        yield Line("must", f"{constraint['id']} {constraint['kwargs']}")
    if prompt.get("reference") is not None:
        yield Line("reference", prompt["reference"])
    for repair in way["repairs"]:
        yield Line("reference", _repair(repair))
    for row in way["scores"]:
        yield Line("scores", _scores(row))
    for row in way["rejections"]:
        yield _dropped(row)


def _repair(row: Mapping[str, Any]) -> str:
    votes = f"{row['n_majority']} of {row['n_votes']} votes for {row['majority']}" if row["n_votes"] else "no votes"
    second = f", {row['second_source']} says {row['second']}" if row["second"] is not None else ""
    end = f"{row['old_reference']} became {row['new_reference']}" if row["case"] == "repaired" else row["case"]
    return f"{end} in {row['dataset']}: {votes}{second}"


def _scores(row: Mapping[str, Any]) -> str:
    varied = f", coefficient of variation {row['cv']:.3g}" if row["cv"] is not None else ""
    return f"{row['n_passes']} of {row['n_attempts']} attempts pass, mean score {row['mean_score']:.3g}{varied}"


def ending(attempt: Mapping[str, Any]) -> str:
    """What became of an attempt: `DROPPED`, `TRAINED`, `KEPT`, or `judged` and a verdict's status other than pass."""
    if attempt["is_dropped"] and not attempt["trained"]:
        return DROPPED
    if attempt["trained"]:
        return TRAINED
    if attempt["verdicts"] and (found := attempt["verdicts"][-1]["status"]) != "pass":
        return f"judged {found}"
    return KEPT


def teacher_of(attempt: Mapping[str, Any], datasets: Mapping[str, Row]) -> tuple[str | None, Row]:
    """Its teacher's name and the params it was asked with; the stage that asked says so where no answer came, too."""
    places = attempt["kept_in"] or [row["dataset"] for row in attempt["rejections"]]
    origin = datasets[places[0]] if places else {}
    return attempt.get("teacher") or (origin.get("teacher") or {}).get("model"), origin.get("params") or {}


def attempt_lines(attempt: Mapping[str, Any], datasets: Mapping[str, Row]) -> Iterator[Line]:
    """All of one attempt but its id and how it ended."""
    teacher, params = teacher_of(attempt, datasets)
    if teacher or "completion" in attempt:
        sampling = ", ".join(f"{name} {params[name]}" for name in _SAMPLING if name in params)
        yield Line("teacher", ", ".join(filter(None, (teacher or "not named", sampling))))
    if "completion" in attempt:
        if attempt["request_key"]:
            yield Line("request", f"{attempt['request_key'][:16]}…, seed {attempt['seed']}")
        if attempt["reasoning"]:
            yield Line("reasoning", attempt["reasoning"])
        if attempt["tool_calls"]:
            yield Line("called", attempt["tool_calls"])
        n_tokens = f"{n} tokens" if (n := attempt["n_completion_tokens"]) is not None else None
        end = ", ".join(filter(None, (attempt["finish_reason"], n_tokens)))
        yield Line("answer", attempt["completion"], more=f"({end})" if end else "")
    if attempt.get("score") is not None:
        chosen = {True: ", the best of its prompt", False: ", not the best of its prompt"}.get(attempt["best"], "")
        yield Line("score", f"{attempt['score']:g}{chosen}")
    if attempt["kept_in"]:
        yield Line("in", ", ".join(attempt["kept_in"]))
    for verdict in attempt["verdicts"]:
        yield _verdict(verdict)
    said = [verdict["detail"] for verdict in attempt["verdicts"]]
    for row in attempt["rejections"]:
        yield _dropped(row | {"detail": ""} if row["detail"] in said else row)
    for name in attempt["trained"]:
        yield Line("trained", name, "green")


def _verdict(row: Mapping[str, Any]) -> Line:
    style = "green" if row["status"] == "pass" else "red"
    answer = f", took {row['answer']!r} as the answer" if row["answer"] is not None else ""
    told = f"{row['status']} by {row['method']}, score {row['score']:g}{answer}"
    return Line("verdict", told, style, row["detail"] or "")


def _dropped(row: Mapping[str, Any]) -> Line:
    return Line("dropped", f"{row['reason']} in {row['dataset']}", "red", row["detail"] or "")


def _written(line: Line) -> "Text":
    from rich.text import Text

    written = Text(f"{line.label:<10}", style="dim").append(visible(line.text), style=f"not dim {line.style}")
    return written.append(f"  {visible(line.more)}") if line.more else written


def visible(text: str) -> str:
    """Text from models and users without what a terminal would obey, or what turns the writing direction."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
