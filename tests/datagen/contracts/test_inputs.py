"""Oracles: rows, rejections and messages written out by hand, in every format that people have."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.dataset import DatasetWriter, iterate
from datagen.contracts.errors import DataError
from datagen.contracts.inputs import BadRow, InputParams, Rows, to_record
from datagen.contracts.records import Prompt, Rejection, Trace, content_id

ALLOW_ALL = InputParams(max_rejected_share=1)


def jsonl(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    return path


def as_prompt(row: dict[str, Any]) -> Prompt:
    return to_record(row, Prompt, source="f:1")


def as_trace(row: dict[str, Any]) -> Trace:
    return to_record(row, Trace, source="f:1")


def test_a_file_in_gzip_is_read_as_its_content(tmp_path: Path):
    """The same rows and rejections, but for the name of the file; a broken one is named."""
    plain = jsonl(tmp_path / "f.jsonl", {"id": "a", "prompt": "Hi"}, b"no json\n", {"id": "b", "prompt": "Ho"})
    packed = tmp_path / "f.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    expected, found = (list(Rows(file, Prompt, "prompts", ALLOW_ALL)) for file in (plain, packed))
    assert [row.id for row in found] == ["a", "f.jsonl.gz:2", "b"] and len(expected) == 3
    assert isinstance(found[0], Prompt) and found[0].text == "Hi"
    for broken in (packed.read_bytes()[:-12], b"no gzip"):
        packed.write_bytes(broken)
        with pytest.raises(DataError, match=r"f\.jsonl\.gz: not readable as gzip .*; fetch or write it again"):
            Rows(packed, Prompt, "prompts", ALLOW_ALL)


def test_prompt_rows():
    """The interface's own format, with all that it may hold."""
    row = {
        "id": "a", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "x": 1}],
        "reference": 18, "family": "sum", "tools": [{"type": "function"}], "source": "book", "info": {"b": 1, "a": "é"},
        "constraints": [{"id": "keywords:existence", "kwargs": {"keywords": ["x"]}}, {"id": "punctuation:no_comma"}],
    }  # fmt: skip
    assert as_prompt(row) == Prompt(
        id="a",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        family="sum",
        reference="18",
        constraints=[
            {"id": "keywords:existence", "kwargs": '{"keywords": ["x"]}'},
            {"id": "punctuation:no_comma", "kwargs": "{}"},
        ],
        tools='[{"type": "function"}]',
        source="book",
        info='{"a": "é", "b": 1}',
    )


def test_prompt_of_text_alone_gets_an_id_by_content():
    messages: list[Any] = [{"role": "user", "content": "Hi"}]
    assert as_prompt({"prompt": "Hi"}) == Prompt(id=content_id(messages, None, ""), messages=messages, source="f:1")


def test_environment_rows():
    """The answer is the reference."""
    row = as_prompt({"prompt": [{"role": "user", "content": "1+1?"}], "answer": "2", "info": {"level": 3}})
    assert (row.reference, row.info) == ("2", '{"level": 3}')


def test_a_list_of_references_holds_alternatives():
    """As JSON text, numbers as they are written; a single one alone, so that every verifier can read it."""
    assert as_prompt({"prompt": "Who?", "reference": ["JFK", "Köln", 35]}).reference == '["JFK", "Köln", "35"]'
    assert as_prompt({"prompt": "Who?", "answer": ["JFK"]}).reference == "JFK"


def test_sharegpt_rows():
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "1+1?"},
        {"from": "gpt", "value": "2"},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes."},
    ]
    expected: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Sure?"},
    ]
    assert as_prompt({"conversations": turns}).messages == expected
    trace = as_trace({"id": 7, "conversations": turns})
    assert (trace.id, trace.prompt.messages, trace.completion) == ("7", expected, "Yes.")


def test_ifeval_rows(tmp_path: Path):
    """A row of IFEval's input_data.jsonl; in Parquet its kwargs are one struct, null where a row has no such key."""
    row = {
        "key": 1001,
        "prompt": "Write a poem.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"relation": "at least", "num_words": 300}],
    }
    expected = [
        {"id": "punctuation:no_comma", "kwargs": "{}"},
        {"id": "length_constraints:number_words", "kwargs": '{"num_words": 300, "relation": "at least"}'},
    ]
    assert as_prompt(row).id == "1001"
    assert as_prompt(row).constraints == expected
    pl.DataFrame([row]).write_parquet(tmp_path / "ifeval.parquet")
    (read,) = Rows(tmp_path / "ifeval.parquet", Prompt, "test", InputParams())
    assert isinstance(read, Prompt) and read.constraints == expected and read.id == "1001"


def test_trace_rows():
    """The verify stage's own format, TRL's prompt and completion, and a prompt's id beside the trace's."""
    trace = as_trace({"id": "t", "prompt": "1+1?", "completion": "2", "reference": "2", "prompt_id": "p"})
    assert (trace.id, trace.prompt.id, trace.completion, trace.prompt.reference) == ("t", "p", "2", "2")
    turns = {"prompt": [{"role": "user", "content": "1+1?"}], "completion": [{"role": "assistant", "content": "2"}]}
    assert as_trace(turns).completion == "2"
    without_prompt = as_trace({"id": "t", "completion": "2"})
    assert (without_prompt.prompt.id, without_prompt.prompt.messages) == ("t", [])


def test_traces_of_equal_prompts_share_a_prompt():
    """Whatever ids the traces have."""
    rows = [{"id": f"t{i}", "prompt": "1+1?", "completion": f"{i}"} for i in range(2)] + [{"prompt": "2+2?"}]
    a, b, other = (as_trace({"completion": "3"} | row) for row in rows)
    assert (a.id, b.id) == ("t0", "t1")
    assert a.prompt == b.prompt and a.prompt.id == content_id([{"role": "user", "content": "1+1?"}]) != other.prompt.id


def test_an_answer_may_be_tool_calls_alone():
    """As OpenAI and TRL write them, without content, and as a column of ours."""
    calls = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    asked, called = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": None, "tool_calls": calls}
    for row in (
        {"messages": [asked, called]},
        {"prompt": [asked], "completion": [called]},
        {"prompt": "2+2?", "tool_calls": calls},
        {"prompt": "2+2?", "completion": "", "tool_calls": json.dumps(calls)},
    ):
        trace = as_trace(row)
        assert trace.prompt.messages == [asked] and trace.completion == ""
        assert json.loads(trace.tool_calls or "") == calls
    with pytest.raises(BadRow, match="no text in `completion`"):
        as_trace({"messages": [asked, {"role": "assistant", "content": None, "tool_calls": []}]})


def test_other_columns_are_kept():
    """`info` alone stays what it is; `key` is IFEval's id, elsewhere a column like any other; no tools are none."""
    assert as_prompt({"prompt": "Hi", "info": {"level": 3}, "tools": []}).info == '{"level": 3}'
    assert as_prompt({"prompt": "Hi", "info": "text"}).info == "text"
    row = as_prompt({"prompt": "Hi", "key": "c major", "level": 3, "note": None, "tools": []})
    assert (row.info, row.tools) == ('{"key": "c major", "level": 3}', None)
    assert row.id == content_id([{"role": "user", "content": "Hi"}], None, "")
    assert as_prompt({"prompt": "Hi", "info": {"a": 1}, "level": 3}).info == '{"info": {"a": 1}, "level": 3}'


@pytest.mark.parametrize(
    ("row", "reason", "names"),
    [
        ({"question": "Hi"}, "missing_field", "prompt"),
        ({"prompt": ""}, "empty_prompt", "fill it"),
        ({"prompt": " \n"}, "empty_prompt", "fill it"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "empty_prompt", "user"),
        ({"prompt": 3}, "wrong_type", "messages"),
        ({"messages": "Hi"}, None, None),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "wrong_type", "role"),
        ({"messages": ["Hi"]}, "wrong_type", "role"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "wrong_type", "content"),
        ({"conversations": [{"from": "gpt"}]}, "wrong_type", "conversations"),
        ({"prompt": "Hi", "id": ["x"]}, "wrong_type", "`id`"),
        ({"prompt": "Hi", "reference": {"a": 1}}, "wrong_type", "`reference`"),
        ({"prompt": "Hi", "reference": True}, "wrong_type", "`reference`"),
        ({"prompt": "Hi", "reference": []}, "wrong_type", "`reference` is a list, which must hold one text or more"),
        ({"prompt": "Hi", "answer": ["Paris", None]}, "wrong_type", "`answer` is a list, which must hold one text"),
        ({"prompt": "Hi", "reference": [["Paris"]]}, "wrong_type", "`reference`"),
        ({"prompt": "Hi", "constraints": {"id": "x"}}, "wrong_type", "`constraints`"),
        ({"prompt": "Hi", "constraints": [{"name": "x"}]}, "wrong_type", "`constraints`"),
        ({"prompt": "Hi", "instruction_id_list": ["a", "b"], "kwargs": [{}]}, "wrong_type", "2 entries"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], reason: str | None, names: str | None):
    if reason is None:
        as_prompt(row)
        return
    with pytest.raises(BadRow, match=names) as error:
        as_prompt(row)
    assert error.value.reason == reason


BAD_ROWS = [
    (b'{"prompt": "Hi\n', "malformed_json", "each line must be one object"),
    (b"[1]\n", "malformed_json", "expected an object, got list"),
    (b"[" * 100_000 + b"\n", "malformed_json", "each line must be one object"),
    (b'{"id": ' + b"1" * 5000 + b"}\n", "malformed_json", "each line must be one object"),
    (b'{"prompt": "\xff"}\n', "not_utf8", "save the file as UTF-8"),
    (b'{"prompt": "\\ud800"}\n', "not_utf8", "half a surrogate pair"),
    ({"question": "Hi"}, "missing_field", "no `prompt`, `messages` or `conversations`"),
    ({"prompt": ""}, "empty_prompt", "fill it or remove the row"),
    ({"id": "same", "prompt": "Other"}, "duplicate_id", "the id 'same' stands in an earlier row"),
    ({"prompt": "x" * 10_000_000}, "prompt_too_long", "has 10000000 characters, max_prompt_chars is 100000"),
]


@pytest.mark.parametrize(("bad", "reason", "says"), BAD_ROWS)
def test_a_bad_row_is_a_rejection_below_the_bound(tmp_path: Path, bad: object, reason: str, says: str):
    """100 rows of which the 40th is bad: 99 prompts in order, one rejection that names file and line."""
    rows: list[object] = [
        {"id": "same" if index == 0 else f"r{index}", "prompt": f"Say {index}."} for index in range(100)
    ]
    rows[39] = bad
    file = jsonl(tmp_path / "rows.jsonl", *rows)
    read = list(Rows(file, Prompt, "traces", InputParams(max_rejected_share=0.01)))
    rejected = read.pop(39)
    assert [row.id for row in read] == ["same"] + [f"r{index}" for index in range(1, 100) if index != 39]
    assert isinstance(rejected, Rejection)
    assert (rejected.stage, rejected.reason) == ("traces", reason)
    assert rejected.detail.startswith("rows.jsonl:40: ") and says in rejected.detail
    assert rejected.id == ("same" if reason == "duplicate_id" else "rows.jsonl:40")


@pytest.mark.parametrize(("bad", "reason", "says"), BAD_ROWS)
def test_a_bad_row_is_an_error_above_the_bound(tmp_path: Path, bad: object, reason: str, says: str):
    """One line: path and line of the first, what is wrong, what to do, how to allow it; and doing that works."""
    file = jsonl(tmp_path / "rows.jsonl", {"id": "same", "prompt": "Hi"}, bad)
    with pytest.raises(DataError) as error:
        Rows(file, Prompt, "traces", InputParams())
    message = str(error.value)
    assert message.startswith(f"{file}:2: ") and says in message and "\n" not in message
    assert (
        f"(1 of 2 rows cannot be used: {reason} 1; mend the file, or allow them by max_rejected_share=0.51)" in message
    )
    assert len(Rows(file, Prompt, "traces", InputParams(max_rejected_share=0.51))) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.jsonl", None, "no such file or dataset directory"),
        ("rows.csv", b"a,b\n", "expected a dataset directory, a .jsonl or a .parquet file"),
        ("empty.jsonl", b"", "no rows; give at least one"),
        ("blank.jsonl", b"\n\n", "no rows; give at least one"),
        ("rows.parquet", b"PAR1 not so", "not readable as Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_at_all(tmp_path: Path, name: str, content: bytes | None, says: str):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError) as error:
        Rows(file, Prompt, "traces", ALLOW_ALL)
    assert str(error.value).startswith(f"{file}: ") and says in str(error.value) and "\n" not in str(error.value)


def test_a_dataset_of_other_rows(tmp_path: Path):
    with DatasetWriter(tmp_path / "d", Prompt, {}) as writer:
        writer.read()
        writer.write(Prompt(id="p", messages=[{"role": "user", "content": "Hi"}]))
    assert [row.id for row in Rows(tmp_path / "d", Prompt, "traces", ALLOW_ALL)] == ["p"]
    with pytest.raises(DataError, match="holds Prompt rows, verify takes Trace rows"):
        Rows(tmp_path / "d", Trace, "verify", ALLOW_ALL)
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "manifest.json").write_text('{"format": "datastill", "stage": "train_lm"}')
    with pytest.raises(DataError, match="holds no rows, verify takes Trace rows"):
        Rows(tmp_path / "student", Trace, "verify", ALLOW_ALL)


def test_equal_rows_without_ids_get_ids_of_their_own(tmp_path: Path):
    """The first keeps the hash of its content, later ones add -2, -3; a row that took such an id already is told."""
    name = content_id([{"role": "user", "content": "Hi"}], None, "")
    rows = [
        {"prompt": "Hi"},
        {"prompt": "Hi"},
        {"prompt": "Hi", "id": None},
        {"prompt": "Ho", "id": f"{name}-4"},
        {"prompt": "Hi"},
    ]
    read = list(Rows(jsonl(tmp_path / "rows.jsonl", *rows), Prompt, "traces", ALLOW_ALL))
    assert [row.id for row in read[:4]] == [name, f"{name}-2", f"{name}-3", f"{name}-4"]
    assert isinstance(read[4], Rejection) and read[4].reason == "duplicate_id"


def test_a_blank_line_is_no_row_and_lines_are_counted_as_an_editor_does(tmp_path: Path):
    file = jsonl(tmp_path / "rows.jsonl", b"\xef\xbb\xbf", {"prompt": "Hi"}, b"\n", b'{"prompt": ""}\r\n')
    rows = Rows(file, Prompt, "traces", ALLOW_ALL)
    _, rejected = rows
    assert len(rows) == 2
    assert isinstance(rejected, Rejection) and rejected.id == "rows.jsonl:3"


def test_it_can_be_iterated_again(tmp_path: Path):
    rows = Rows(jsonl(tmp_path / "r.jsonl", *({"prompt": f"{i}"} for i in range(5))), Prompt, "traces", ALLOW_ALL)
    assert list(rows) == list(rows) and len(rows) == 5


@given(
    st.dictionaries(
        st.sampled_from(["id", "key", "prompt", "messages", "conversations", "completion", "reference", "answer",
                         "constraints", "instruction_id_list", "kwargs", "tools", "info", "family", "source"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "id", "kwargs"]), inner, max_size=3),
            max_leaves=6,
        ),
    )
)  # fmt: skip
def test_any_row_is_a_record_or_a_bad_row(row: dict[str, Any]):
    """Nothing else is raised, whatever JSON stands in the fields."""
    for read, record in ((as_prompt, Prompt), (as_trace, Trace)):
        try:
            assert isinstance(read(row), record)
        except BadRow as bad:
            assert bad.reason and str(bad)


def test_every_row_read_can_be_written(tmp_path: Path):
    """Rows in = rows out + rejections, and the prompts are those of the file."""
    rows = [{"prompt": f"Say {index}."} if index % 3 else {"prompt": ""} for index in range(30)]
    with DatasetWriter(tmp_path / "d", Prompt, {}) as writer:
        for row in Rows(jsonl(tmp_path / "rows.jsonl", *rows), Prompt, "prompts", ALLOW_ALL):
            writer.read()
            writer.put(row)
    assert [row["messages"][0]["content"] for row in iterate(tmp_path / "d")] == [
        r["prompt"] for r in rows if r["prompt"]
    ]
    assert [row["id"] for row in iterate(tmp_path / "d", "rejections")] == [f"rows.jsonl:{n}" for n in range(1, 31, 3)]
