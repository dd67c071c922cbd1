"""Answers of a shape, over a real server. Oracles: what it was told to say, its own count, schemas by hand."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from datagen.backends.base import Completion, Environment, Sampling
from datagen.backends.ledger import Ledger
from datagen.backends.openai_api import Config, openai_api
from datagen.contracts.records import Document, Record
from datagen.synthesis.flow import Flow, Setting, Written, run_flows
from datagen.synthesis.structured import Kind, Unreadable, ask_for, read, schema_of
from tests.chat_server import ChatServer, reply, running


class Felt(BaseModel):
    emotion: Literal["joy", "anger"]
    weight: float = Field(ge=0, le=1)


class Said(BaseModel):
    text: str = Field(min_length=1, max_length=40)
    felt: list[Felt] = Field(min_length=1, max_length=3)


GOOD = '{"text": "Hello", "felt": [{"emotion": "joy", "weight": 0.5}]}'
VALUE: dict[str, Any] = {"text": "Hello", "felt": [{"emotion": "joy", "weight": 0.5}]}
DRAFT = '{"text": "Draft", "felt": [{"emotion": "anger", "weight": 1}]}'
REFUSAL = "I'm sorry, but I cannot write that."
BAD: dict[str, tuple[str, str, Kind]] = {  # the answer, its finish_reason, its kind
    "blank": (" \n", "stop", "empty"),
    "refusal": (REFUSAL, "stop", "no_json"),
    "cut": (GOOD[:20], "length", "cut"),
    "cut without a word of it": (GOOD[:20], "stop", "cut"),
    "never begun": ("Let me think. First", "length", "cut"),
    "broken": (GOOD.replace(",", ""), "stop", "invalid_json"),
    "too much": (GOOD.replace("0.5", "1.5"), "stop", "wrong_shape"),
    "negative": (f"Here: {GOOD.replace('0.5', '-0.5')}", "stop", "wrong_shape"),
    "another label": (GOOD.replace("joy", "ennui"), "stop", "wrong_shape"),
    "40 emotions": (json.dumps({"text": "Hello", "felt": VALUE["felt"] * 40}), "stop", "wrong_shape"),
    "a list": (f"[{GOOD}]", "stop", "wrong_shape"),
    "within another": (json.dumps({"answer": VALUE}), "stop", "wrong_shape"),
    "a number": ("3", "stop", "wrong_shape"),
    "half a pair": (GOOD.replace("Hello", "\\ud800"), "stop", "wrong_shape"),
}  # fmt: skip
PATIENT: dict[str, tuple[str, str, Kind]] = {
    "fence": (f"```json\n{GOOD}\n```", "stop", "invalid_json"),
    "text around": (f"Sure {{here}}!\n{GOOD}\nAnything else?", "stop", "invalid_json"),
    "thought": (f"<think>{DRAFT}</think>{GOOD}", "stop", "invalid_json"),
    "the first of two": (f"{GOOD}, or {DRAFT}", "stop", "invalid_json"),
    "another before": ('{"note": 1} ' + GOOD, "stop", "invalid_json"),
    "python": (GOOD.replace('"', "'"), "stop", "invalid_json"),
    "comma": (GOOD.replace("}]}", "},],}"), "stop", "invalid_json"),
    "cut list": (GOOD.replace("]}", ', {"emotion": "an'), "length", "cut"),
}  # fmt: skip


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text=text, finish_reason=finish_reason)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def says(text: str, finish_reason: str = "stop") -> Any:
    return reply({"choices": [{"message": {"content": text}, "finish_reason": finish_reason}]})


def written(server: ChatServer, ledger: Ledger, texts: list[str], *, guided: bool = True) -> list[Written]:
    """One row for each text, which is the question."""

    async def start(source: Document, flow: Flow) -> list[Record]:
        asked: Any = [{"role": "user", "content": source.text}]
        said = await ask_for(Said, flow, "said", source.id, asked, max_new_tokens=50)
        return [Document(id=source.id, text=said.model_dump_json())]

    config = Config.model_validate({"backend": "openai_api", "base_url": server.base_url, "model": "m"})
    setting = Setting(stage="corpus", sampling=Sampling(temperature=0.5), guided=guided)
    with openai_api(config, Environment(ledger=ledger)) as backend:
        sources = [Document(id=f"row {i}", text=text) for i, text in enumerate(texts)]
        return list(run_flows(start, sources, backend.generate, setting))


def counts(rows: list[Written]) -> Counter[str]:
    return sum((Counter(row.counts) for row in rows), Counter())


@pytest.mark.parametrize(("text", "finish_reason", "kind"), BAD.values(), ids=list(BAD))
def test_what_cannot_be_read(text: str, finish_reason: str, kind: Kind):
    with pytest.raises(Unreadable) as caught:
        read(Said, completion(text, finish_reason))
    assert caught.value.kind == kind


@pytest.mark.parametrize(("text", "finish_reason", "kind"), PATIENT.values(), ids=list(PATIENT))
def test_what_is_read_with_patience(text: str, finish_reason: str, kind: Kind):
    said, failure = read(Said, completion(text, finish_reason))
    assert (said.model_dump(), failure) == (VALUE, kind)


NOISE = st.text(st.characters(codec="utf-8", exclude_characters="\"'"), max_size=20)
SAID = st.builds(
    Said,
    text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    felt=st.lists(st.builds(Felt, weight=st.floats(0, 1)), min_size=1, max_size=3),
)


@given(NOISE, SAID, NOISE)
def test_an_answer_in_noise(before: str, said: Said, after: str):
    """Any text without quotation marks around it, braces and brackets too."""
    assert read(Said, completion(f"{before} : {said.model_dump_json()}{after}"))[0] == said


@given(SAID, st.data())
def test_a_cut_answer(said: Said, data: st.DataObject):
    """At any character: nothing, or what was said with a shorter list."""
    text = said.model_dump_json()
    try:
        found, kind = read(Said, completion(text[: data.draw(st.integers(0, len(text) - 1))], "length"))
    except Unreadable as error:
        assert error.kind in ("cut", "empty")
    else:
        assert kind == "cut" and found.text == said.text and found.felt == said.felt[: len(found.felt)]


def test_a_default_is_not_what_a_cut_left_out():
    """Without the cut the same text is whole."""

    class Lenient(BaseModel):
        a: int
        b: int = 7

    assert read(Lenient, completion('{"a": 1,}'))[0] == Lenient(a=1)
    with pytest.raises(Unreadable, match="lacks b") as caught:
        read(Lenient, completion('{"a": 1, "b'))
    assert caught.value.kind == "cut"


def test_one_repair_call(server: ChatServer, ledger: Ledger):
    """Every bad answer is asked for once more, with what was wrong; a good one and a patient one are not."""
    answers = {name: (text, reason) for name, (text, reason, _) in (BAD | PATIENT).items()} | {"good": (GOOD, "stop")}
    del answers["half a pair"]  # which no server can send
    server.fault = lambda body, n: says(
        *(answers[body["messages"][0]["content"]] if len(body["messages"]) == 1 else (GOOD, "stop"))
    )
    rows = written(server, ledger, list(answers))
    assert all(json.loads(row.text) == VALUE for one in rows for row in one.rows if isinstance(row, Document))
    assert [len(one.rows) for one in rows] == [1] * len(answers)
    first, second = ([body for body in server.bodies if len(body["messages"]) == n] for n in (1, 3))
    assert (len(first), len(second), server.n_requests) == (len(answers), len(BAD) - 1, len(answers) + len(BAD) - 1)
    kinds = Counter(kind for name, (_, _, kind) in (BAD | PATIENT).items() if name in answers)
    assert counts(rows) == {
        "calls.said": len(answers), "calls.said_repair": len(BAD) - 1,
        **{f"parse_failures.{kind}": n for kind, n in kinds.items()},
        "parse_repairs.tolerant": len(PATIENT), "parse_repairs.repair_call": len(BAD) - 1,
    }  # fmt: skip
    asked = {body["messages"][0]["content"]: body["messages"][1:] for body in second}
    assert asked["refusal"][0] == {"role": "assistant", "content": REFUSAL}
    assert asked["blank"][0] == {"role": "assistant", "content": "(nothing)"}
    assert asked["too much"][1]["content"].startswith(
        "That answer has another form: at felt.0.weight: Input should be less than or equal to 1. Give the whole"
    )
    assert all(body["max_tokens"] == 50 for body in server.bodies)


def test_the_second_answer_is_the_last(server: ChatServer, ledger: Ledger):
    """The row is dropped with the second answer's kind and how it begins; its neighbour stays; a rerun asks nothing."""
    server.fault = lambda body, n: says(GOOD if body["messages"][0]["content"] == "good" else REFUSAL * 50)
    rows = written(server, ledger, ["bad", "good"])
    [rejection] = rows[0].rejections
    assert (rejection.id, rejection.reason, rows[0].rows) == ("row 0", "no_json", ())
    assert rejection.detail == (
        f"step said: the second answer holds no JSON object; it begins {(REFUSAL * 50)[:200]!r}"
    )
    assert rows[1].rows and not rows[1].rejections
    assert counts(rows)["parse_failures.no_json"] == 2 and "parse_repairs.repair_call" not in counts(rows)
    written(server, ledger, ["bad", "good"])
    assert server.n_requests == 3


def test_a_long_answer_is_shown_in_part(server: ChatServer, ledger: Ledger):
    """A megabyte of prose: 4,000 characters of it go back."""
    server.fault = lambda body, n: says(GOOD if len(body["messages"]) == 3 else "word " * 200_000)
    [row] = written(server, ledger, ["long"])
    assert row.rows
    assert len(server.bodies[-1]["messages"][1]["content"]) < 4100


def test_the_schema_goes_where_the_run_is_guided(server: ChatServer, ledger: Ledger):
    """To the first call and the second; where the run is not, no body says anything of a form."""
    server.fault = lambda body, n: says(GOOD if len(body["messages"]) == 3 else REFUSAL)
    written(server, ledger, ["a"])
    forms = [body["response_format"]["json_schema"] for body in server.bodies]
    assert [(form["schema"], form["strict"]) for form in forms] == [(json.loads(schema_of(Said)), True)] * 2
    written(server, ledger, ["a"], guided=False)
    assert server.n_requests == 4 and not any("response_format" in body for body in server.bodies[2:])


def test_a_refused_schema_loses_the_row(server: ChatServer, ledger: Ledger):
    """The server's words and what to do; nothing is sent again without the schema."""
    server.fault = lambda body, n: reply({"error": {"message": "response_format is not supported"}}, 400)
    [row] = written(server, ledger, ["a"])
    [rejection] = row.rejections
    assert rejection.reason == "schema_refused"
    assert "response_format is not supported; structured_output=none" in rejection.detail
    assert server.n_requests == 1


class Tone(Enum):
    CALM = "calm"
    LOUD = "loud"


class Everything(BaseModel):
    """What a shape may hold."""

    tone: Tone
    day: date | None = None
    felt: Felt = Field(description="how it is meant")
    others: list[Felt]


def test_schemas_as_strict_mode_takes_them():
    """By hand, from the guide: no reference, all fields required, no others, no titles or defaults."""
    felt = {
        "type": "object",
        "properties": {
            "emotion": {"type": "string", "enum": ["joy", "anger"]},
            "weight": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["emotion", "weight"],
        "additionalProperties": False,
    }
    assert json.loads(schema_of(Everything)) == {
        "type": "object",
        "description": "What a shape may hold.",
        "properties": {
            "tone": {"type": "string", "enum": ["calm", "loud"]},
            "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
            "felt": felt | {"description": "how it is meant"},
            "others": {"type": "array", "items": felt},
        },
        "required": ["tone", "day", "felt", "others"],
        "additionalProperties": False,
    }


class Chain(BaseModel):
    next: "Chain | None"


class Weights(BaseModel):
    weights: dict[str, float]


class Pair(BaseModel):
    pair: tuple[int, str]


class Anything(BaseModel):
    thing: Any


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Chain, "Chain.next holds itself, Chain"),
        (Weights, "Weights.weights has names that no schema knows"),
        (Pair, "Pair.pair is a tuple"),
        (Anything, "Anything.thing says nothing of its type"),
        (RootModel[list[int]], "is no object"),
    ],
)
def test_shapes_that_strict_mode_does_not_take(shape: type[BaseModel], said: str):
    with pytest.raises(TypeError, match=said.replace("[", r"\[")):
        schema_of(shape)
