"""`datastill export`: a verified dataset in the column types that TRL's trainers take.

sft                each kept trace as one conversation: messages                           SFTTrainer
prompt_completion  the same, the answer apart: prompt, completion                          SFTTrainer
preference         each kept trace with a failed one of its prompt: chosen, rejected       DPOTrainer
unpaired           each trace that passed or failed: prompt, completion, label             KTOTrainer
prompt_only        each prompt once: prompt, answer, pass_rate, constraints, tests         GRPOTrainer, RLOOTrainer

Types: https://huggingface.co/docs/trl/dataset_formats. Conversations are lists of messages; the teacher's reasoning is
`reasoning_content` of the assistant's message, where chat templates look for it; tool calls are structures with their
arguments as JSON text, and `tools` and `tests` are JSON text. Optional keys stand only in a dataset that uses them,
since templates ask whether a key is there. A trace without a finding (error, timeout, unparsed) is no bad example, nor
is one that was good enough and dropped for the other attempts at its prompt, so these are left out.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from datagen.contracts.dataset import FORMAT_VERSION, content_hash, read_manifest, replace_directory, write_json
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.licences import made_of
from datagen.contracts.stage import check_out, locked

REASONS = {
    "no_prompt": "the row has no prompt",
    "no_failed_trace": "no trace of its prompt failed, so there is none to prefer it to",
    "no_finding": "the verifier came to no finding, so it is neither a good nor a bad example",
    "no_agreement": "it passed, too few other attempts at its prompt did, so it is neither a good nor a bad example",
    "not_best": "it passed, another attempt at its prompt was chosen, so it is neither a good nor a bad example",
}
_SET_ASIDE = (  # reasons of verify and select to drop what a verifier lets pass
    "no_agreement", "not_best", "few_attempts", "too_hard", "too_easy", "little_variation", "not_most_varied",
    "not_among_first", "other_teacher", "not_drawn",
)  # fmt: skip
_ROW_GROUP = 2048
_TOOLS = cs.by_name("tools", require_all=False)
_TESTS = cs.by_name("tests", require_all=False)
_TOOL_CALLS = pl.List(
    pl.Struct({"id": pl.String, "type": pl.String, "function": pl.Struct({"name": pl.String, "arguments": pl.String})})
)


def main(argv: Sequence[str]) -> int:
    """Export one dataset and print where its rows went."""
    parser = argparse.ArgumentParser(
        prog="datastill export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, help="what the verify stage wrote", metavar="DIR")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", type=Path, required=True, help="what to write", metavar="DIR2")
    arguments = parser.parse_args(argv)
    manifest = export(arguments.dataset, arguments.format, arguments.out)
    sys.stdout.write(json.dumps({"rows": manifest["rows"], "rejected": manifest["rejected"]}) + "\n")
    return 0


def export(path: Path, format: str, out: Path) -> dict[str, Any]:
    """Write the dataset directory `path` to `out` in one of FORMATS; returns the new manifest.

    Rows in, each of which is a row out or a rejection with its reason, are the kept traces for sft, prompt_completion
    and preference, all traces for unpaired, the prompts for prompt_only.

    Raises:
        ParamsError: no such format, or `out` must not be replaced, as with a stage.
        LockedError: another process writes `out`.
        DataError: `path` was not written by the verify stage, or a message's tool calls are not OpenAI's.
    """
    if format not in FORMATS:
        raise ParamsError(f"no format {format!r}; there are {', '.join(FORMATS)}")
    if read_manifest(path).get("record") != "Trace" or not (path / "rejected.parquet").is_file():
        raise DataError(f"{path}: not written by the verify stage, which gives every trace its verdict; run it first")
    out = check_out(out, [path])
    manifest = {"stage": "export", "method": format, "record": format, **made_of({"dataset": path})}
    with locked(out):
        return _write(FORMATS[format](_traces(path)), out, manifest)


def sft(traces: pl.LazyFrame) -> pl.LazyFrame:
    """Kept traces, one conversation each."""
    return _kept(traces).select("id", _TOOLS, "reason", messages=pl.concat_list("prompt", "completion"))


def prompt_completion(traces: pl.LazyFrame) -> pl.LazyFrame:
    """Kept traces, the answer apart."""
    return _kept(traces).select("id", "prompt", "completion", _TOOLS, "reason")


def preference(traces: pl.LazyFrame) -> pl.LazyFrame:
    """Kept traces, each with a failed one of its prompt; where those are fewer, they come again."""
    failed = traces.filter(pl.col("good").not_()).group_by("prompt_id", maintain_order=True)
    failed = failed.agg(rejected=pl.col("completion"), rejected_id=pl.col("id"))
    turn = pl.int_range(pl.len()).over("prompt_id") % pl.col("rejected").list.len()
    pairs = (
        _kept(traces)
        .join(failed, on="prompt_id", how="left", maintain_order="left")
        .with_columns(pl.col("rejected", "rejected_id").list.get(turn))
    )
    reason = pl.coalesce("reason", _reason("no_failed_trace", pl.col("rejected_id").is_null()))
    return pairs.select("id", "prompt", "rejected", "rejected_id", _TOOLS, chosen="completion", reason=reason)


def unpaired(traces: pl.LazyFrame) -> pl.LazyFrame:
    """Traces that passed or failed, with a label that says which."""
    reason = pl.coalesce(_reason_no_prompt(), "set_aside", _reason("no_finding", pl.col("good").is_null()))
    return traces.select("id", "prompt", "completion", _TOOLS, label="good", reason=reason)


def prompt_only(traces: pl.LazyFrame) -> pl.LazyFrame:
    """Prompts, with the share of their judged traces that was kept."""
    row = cs.by_name("prompt", "family", "constraints", "reference") | _TOOLS | _TESTS
    prompts = traces.group_by("prompt_id", maintain_order=True).agg(
        row.first(), pass_rate=pl.col("good").mean(), set_aside=pl.col("set_aside").drop_nulls().first()
    )
    unknown = pl.coalesce("set_aside", pl.lit("no_finding"))
    reason = pl.coalesce(_reason_no_prompt(), pl.when(pl.col("pass_rate").is_null()).then(unknown))
    columns = ("prompt", "pass_rate", "family", "constraints", _TOOLS, _TESTS)
    return prompts.select(*columns, id="prompt_id", answer="reference", reason=reason)


FORMATS = {
    "sft": sft,
    "prompt_completion": prompt_completion,
    "preference": preference,
    "unpaired": unpaired,
    "prompt_only": prompt_only,
}


def _traces(path: Path) -> pl.LazyFrame:
    """Kept and dropped traces in input order, with prompt and completion as lists of messages.

    `good` is True for a kept trace, False for one that failed, null for one that was dropped without a finding, or for
    the other attempts at its prompt; then `set_aside` is the reason, else null.
    """
    kept = pl.scan_parquet(path / "part-*.parquet").with_columns(kept=True)
    dropped = pl.scan_parquet(path / "rejected.parquet").with_columns(kept=False)
    verdicts = pl.scan_parquet(path / "verdicts.parquet").select("id", "status").with_row_index("position")
    aside = pl.scan_parquet(path / "rejections.parquet").filter(pl.col("reason").is_in(_SET_ASIDE))
    aside = aside.select("id", set_aside=pl.col("reason"))
    traces = pl.concat([kept, dropped]).join(verdicts, on="id", how="left").join(aside, on="id", how="left")
    traces = traces.sort("position")
    message = pl.element().struct
    values = {
        "role": message.field("role"),
        "content": message.field("content"),
        "name": message.field("name"),
        "tool_calls": message.field("tool_calls").map_elements(_tool_calls, return_dtype=_TOOL_CALLS),
        "tool_call_id": message.field("tool_call_id"),
    }
    turns = traces.select(pl.col("messages").explode()).unnest("messages")
    used = {"role", "content"} | {key for key in values if _any(turns, key)}
    answer = {"role": pl.lit("assistant"), "content": pl.col("completion")}
    if _any(traces, "reasoning"):
        answer["reasoning_content"] = pl.col("reasoning")
    if _any(traces, "tool_calls"):
        answer["tool_calls"] = pl.col("tool_calls").map_elements(_tool_calls, return_dtype=_TOOL_CALLS)
    traces = traces.with_columns(
        prompt=pl.col("messages").list.eval(_struct({key: values[key] for key in values if key in used})),
        completion=pl.concat_list(_struct(answer)),
        good=pl.when("kept").then(True).when(pl.col("set_aside").is_null() & (pl.col("status") == "fail")).then(False),
    )
    columns = traces.collect_schema().names()
    return traces.drop(name for name in ("tools", "tests") if name in columns and not _any(traces, name))


def _struct(fields: Mapping[str, pl.Expr]) -> pl.Expr:
    return pl.struct([value.alias(name) for name, value in fields.items()])


def _any(rows: pl.LazyFrame, column: str) -> bool:
    return rows.select(pl.col(column).is_not_null().any()).collect().item()


def _tool_calls(text: str) -> list[dict[str, Any]]:
    """OpenAI's tool calls as structures; arguments that are no text become JSON text, as a column has one type."""
    try:
        calls = [(call, call["function"]["name"], call["function"]["arguments"]) for call in json.loads(text)]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"tool calls must be a list of OpenAI's {{function: {{name, arguments}}}} (got {text})"
        ) from None
    return [
        {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for call, name, given in calls
    ]


def _kept(traces: pl.LazyFrame) -> pl.LazyFrame:
    return traces.filter("kept").with_columns(reason=_reason_no_prompt())


def _reason_no_prompt() -> pl.Expr:
    return _reason("no_prompt", pl.col("prompt").list.len() == 0)


def _reason(code: str, condition: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(pl.lit(code))


def _write(rows: pl.LazyFrame, out: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Rows without a reason become the part, the others rejections; beside `out` until both are complete."""
    writing = out.with_name(f".{out.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    _sink(rows, every := writing / ".all.parquet")
    rows = pl.scan_parquet(every)
    detail = pl.col("reason").replace_strict(REASONS, return_dtype=pl.String)
    rejections = rows.filter(pl.col("reason").is_not_null()).select(
        "id", "reason", stage=pl.lit("export"), detail=detail
    )
    _sink(rows.filter(pl.col("reason").is_null()).drop("reason"), part := writing / "part-00000.parquet")
    _sink(rejections.select("id", "stage", "reason", "detail"), dropped := writing / "rejections.parquet")
    n_rows = _length(every)
    every.unlink()
    reasons = pl.read_parquet(dropped, columns=["reason"])["reason"].value_counts().sort("reason")
    manifest |= {
        "format": "datastill",
        "version": FORMAT_VERSION,
        "rows": {"in": n_rows, "out": _length(part), "rejected": _length(dropped)},
        "rejected": dict(reasons.iter_rows()),
        "schema": {name: str(dtype) for name, dtype in pl.read_parquet_schema(part).items()},
        "files": {file.name: content_hash(file) for file in (part, dropped)},
    }
    write_json(writing / "manifest.json", manifest)
    replace_directory(writing, out)
    return manifest


def _sink(rows: pl.LazyFrame, file: Path) -> None:
    rows.sink_parquet(file, compression="zstd", row_group_size=_ROW_GROUP, maintain_order=True)


def _length(file: Path) -> int:
    return pl.scan_parquet(file).select(pl.len()).collect().item()
