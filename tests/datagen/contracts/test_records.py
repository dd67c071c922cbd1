"""Oracles: a record equals what was written before it went through Parquet; ids by hand from their definition."""

import hashlib
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.records import (
    Constraint,
    Message,
    Prompt,
    Record,
    Rejection,
    Trace,
    Verdict,
    content_id,
    from_row,
    to_row,
)

# Text that UTF-8 can hold, NUL and all; half a surrogate pair is refused where rows come in.
texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={"content": texts, "name": texts, "tool_calls": texts, "tool_call_id": texts},
    ).map(lambda one: Message(**one)),
    max_size=4,
)
constraints = st.lists(st.builds(Constraint, id=texts, kwargs=texts), max_size=3)
prompts = st.builds(
    Prompt,
    id=texts, messages=messages, family=texts, reference=st.none() | texts, constraints=constraints,
    tools=st.none() | texts, tests=st.none() | texts, source=texts, info=st.none() | texts,
)  # fmt: skip
counts = st.none() | st.integers(0, 2**31 - 1)
token_ids = st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=4)
traces = st.builds(
    Trace,
    id=texts, prompt=prompts, sample_index=st.integers(0, 2**31 - 1), completion=texts, reasoning=st.none() | texts,
    tool_calls=st.none() | texts, finish_reason=st.none() | texts, teacher=texts, request_key=texts,
    seed=st.none() | st.integers(0, 2**63 - 1),
    n_prompt_tokens=counts, n_completion_tokens=counts, score=st.none() | st.floats(0, 1),
    best=st.none() | st.booleans(), prompt_token_ids=token_ids, token_ids=token_ids,
)  # fmt: skip
verdicts = st.builds(
    Verdict,
    id=texts, method=texts, status=st.sampled_from(["pass", "fail", "unparsed", "error", "timeout"]),
    score=st.floats(0, 1), answer=st.none() | texts, detail=st.none() | texts,
)  # fmt: skip
rejections = st.builds(Rejection, id=texts, stage=texts, reason=texts, detail=texts)


@given(st.one_of(*(st.lists(kind, max_size=5) for kind in (prompts, traces, verdicts, rejections))))
def test_round_trip_through_parquet(records: list[Record]):
    """What is read is what was written, for every record type and any text."""
    if not records:
        return
    kind = type(records[0])
    file = io.BytesIO()
    pl.DataFrame([to_row(record) for record in records], schema=kind.SCHEMA, orient="row").write_parquet(file)
    file.seek(0)
    assert [from_row(kind, row) for row in pl.read_parquet(file).iter_rows(named=True)] == records


@pytest.mark.parametrize("kind", [Prompt, Trace, Verdict, Rejection])
def test_row_has_the_columns_of_the_schema(kind: type[Record]):
    prompt = Prompt(id="p", messages=[])
    record = {
        Prompt: prompt,
        Trace: Trace(id="t", prompt=prompt, completion=""),
        Verdict: Verdict(id="t", method="m", status="pass", score=1.0),
        Rejection: Rejection(id="t", stage="s", reason="r", detail="d"),
    }[kind]
    assert set(to_row(record)) == set(kind.SCHEMA)


def test_content_id_is_the_start_of_sha256_over_canonical_json():
    """Against the canonical text written out by hand."""
    canonical = '[[{"content":"Grüße","role":"user"}],"42",null]'
    expected = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert content_id([{"role": "user", "content": "Grüße"}], "42", None) == expected


def test_prompt_text_is_the_last_user_message():
    turns: list[Message] = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "last"},
        {"role": "tool", "content": "result"},
    ]
    assert Prompt(id="p", messages=turns).text == "last"
    assert Prompt(id="p", messages=[{"role": "system", "content": "be brief"}]).text == ""
