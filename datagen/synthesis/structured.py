"""Answers of a given shape: asked for by a JSON schema, read strictly, then with patience, then asked for once more.

A shape is a pydantic model. Where the run is guided its schema goes with the request, so the backend holds the answer
to it; whatever comes is read all the same. An answer that is no JSON of that shape is searched for an object that is
(`_json_text` says what it forgives); where there is none the teacher is shown its answer and what is wrong with it, and
the second answer is the last.

Of an answer that was cut, the object counts where each of its fields is there: of a list the elements that came whole,
of anything else all. So nothing is taken for whole that is not, but a list may be shorter than the teacher meant.

Source: the subset of JSON Schema that OpenAI's structured outputs take with `strict`, as its guide lists it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, Field, ValidationError

from datagen.backends.base import Completion
from datagen.contracts.records import Message
from datagen.synthesis._json_text import Broken, Found, find, parse
from datagen.synthesis.flow import Dropped, Flow

MAX_SHOWN_CHARS = 4000  # of an answer that is to be mended
MAX_DETAIL_CHARS = 200
MAX_OBJECTS = 100  # looked at in one answer
START_OF_THOUGHT = "<think>"
END_OF_THOUGHT = "</think>"  # of reasoning that the server left in the answer

Degree = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, json_schema_extra={"multipleOf": 0.1})]
"""In [0, 1], which the schema puts on a grid of 0.1. Off the grid it counts all the same; but a model that is held to
the schema cannot write digits without end."""

T = TypeVar("T", bound=BaseModel)
Kind = Literal["empty", "no_json", "cut", "invalid_json", "wrong_shape"]
"""Why an answer is not what was asked for.

empty         there is none, or only blanks
no_json       no object begins in it: prose, a refusal
cut           it ends in an object, or came to its length limit
invalid_json  it is not JSON as it stands
wrong_shape   JSON of another shape
"""


class Unreadable(ValueError):
    """An answer without what was asked for: the kind, and a sentence that continues 'the answer ...'."""

    def __init__(self, kind: Kind, said: str) -> None:
        super().__init__(said)
        self.kind: Kind = kind


async def ask_for(
    shape: type[T],
    flow: Flow,
    step: str,
    row_id: str,
    messages: Sequence[Message],
    *,
    max_new_tokens: int | None = None,
) -> T:
    """An answer of that shape.

    Counted: `parse_failures.KIND` for each answer that is not JSON of the shape as it stands, `parse_repairs.tolerant`
    for each of them that was read with patience, `parse_repairs.repair_call` for each row that its second answer saved.

    Args:
        shape: a model that `schema_of` takes.
        flow: of the row's source.
        step: counted by; the second call's is `STEP_repair`.
        row_id: that the answer is for.
        messages: the conversation up to the answer.
        max_new_tokens: in place of the section's.

    Raises:
        Dropped: neither answer can be read, with the second one's kind as the reason; or there is none, as `flow.ask`.
    """
    schema = schema_of(shape)
    answer = await flow.ask(step, row_id, messages, schema=schema, max_new_tokens=max_new_tokens)
    try:
        return _counted(shape, answer, flow)
    except Unreadable as error:
        again = [*messages, *_objection(answer, error)]
    answer = await flow.ask(f"{step}_repair", row_id, again, schema=schema, max_new_tokens=max_new_tokens)
    try:
        value = _counted(shape, answer, flow)
    except Unreadable as error:
        start = " ".join(answer.text[: 2 * MAX_DETAIL_CHARS].split())[:MAX_DETAIL_CHARS]
        raise Dropped(error.kind, f"step {step}: the second answer {error}; it begins {start!r}") from None
    flow.count("parse_repairs.repair_call")
    return value


def _counted(shape: type[T], answer: Completion, flow: Flow) -> T:
    try:
        value, failure = read(shape, answer)
    except Unreadable as error:
        flow.count(f"parse_failures.{error.kind}")
        raise
    if failure:
        flow.count(f"parse_failures.{failure}")
        flow.count("parse_repairs.tolerant")
    return value


def _objection(answer: Completion, error: Unreadable) -> list[Message]:
    shown = answer.text if len(answer.text) <= MAX_SHOWN_CHARS else f"{answer.text[:MAX_SHOWN_CHARS]} [...]"
    asked = f"That answer {error}. Give the whole answer again, as one JSON object in that form and nothing else."
    return [{"role": "assistant", "content": shown.strip() or "(nothing)"}, {"role": "user", "content": asked}]


def read(shape: type[T], answer: Completion) -> tuple[T, Kind | None]:
    """What the answer says, and why it had to be read with patience, where it had.

    The first object that has the shape counts, none within another; a line of thought before it is left out. A thought
    that the chat template began shows no tag: where such an answer was cut, what it drafted may count.

    Raises:
        Unreadable: there is no such object.
    """
    text = answer.text
    if not text.strip():
        raise Unreadable("empty", "is empty")
    try:
        value = parse(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith(START_OF_THOUGHT) and END_OF_THOUGHT not in text:
            raise Unreadable("cut", "ends within a thought") from None
        return _read_with_patience(shape, text.rpartition(END_OF_THOUGHT)[2], answer.finish_reason)
    try:
        return shape.model_validate(value), None
    except ValidationError as error:
        raise Unreadable("wrong_shape", _sentence(error)) from None


def _read_with_patience(shape: type[T], text: str, finish_reason: str | None) -> tuple[T, Kind | None]:
    too_long = finish_reason == "length"
    failure: Unreadable | None = None
    try:
        for found in islice(find(text), MAX_OBJECTS):
            try:
                return _value(shape, found), "cut" if found.is_cut else "invalid_json"
            except Unreadable as error:
                failure = failure or error
    except Broken as error:
        is_cut = error.is_cut or too_long
        said = "was cut before its end; a shorter one would fit" if is_cut else f"is no JSON: {error}"
        failure = failure or Unreadable("cut" if is_cut else "invalid_json", said)
    if failure is None and too_long:
        failure = Unreadable("cut", "came to its length limit without a JSON object; a shorter one would fit")
    raise failure or Unreadable("no_json", "holds no JSON object")


def _value(shape: type[T], found: Found) -> T:
    if found.is_cut and (missing := _properties(shape) - found.value.keys()):
        named = ", ".join(sorted(missing))
        raise Unreadable("cut", f"was cut before its end and lacks {named}; a shorter one would fit")
    try:
        return shape.model_validate(found.value)
    except ValidationError as error:
        raise Unreadable("cut" if found.is_cut else "wrong_shape", _sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "the object"
    more = error.error_count() - 1
    said = " ".join(first["msg"].split())[:MAX_DETAIL_CHARS]
    return f"has another form: at {place[:MAX_DETAIL_CHARS]}: {said}" + (f", and {more} more" if more else "")


@cache
def _properties(shape: type[BaseModel]) -> frozenset[str]:
    return frozenset(json.loads(schema_of(shape))["properties"])


@cache
def schema_of(shape: type[BaseModel]) -> str:
    """The shape's JSON schema as strict structured outputs take it: each object with all its fields and no others.

    Nothing in it refers to another place. Bound texts and lists (`max_length`): a weak model that is held to a schema
    ends only where that ends it. The shape itself may have defaults, which count where the backend holds the answer to
    no schema.

    Raises:
        TypeError: it is no object, holds a dict, a tuple of fixed length or itself, or a field has no type.
    """
    described = shape.model_json_schema()
    strict = _strict(described, described.get("$defs", {}), shape.__name__, ())
    if strict.get("type") != "object":
        _refuse(shape.__name__, "is no object")
    return json.dumps(strict, ensure_ascii=False)


_SAID_ELSEWHERE = {"$defs", "$ref", "title", "default", "discriminator", "oneOf", "uniqueItems"}
_TYPED = {"type", "anyOf", "enum", "const"}


def _strict(
    node: Mapping[str, Any], definitions: Mapping[str, Any], at: str, within: tuple[str, ...]
) -> dict[str, Any]:
    if reference := node.get("$ref"):
        name = reference.rpartition("/")[2]
        if name in within:
            _refuse(at, f"holds itself, {name}")
        node, within = {**definitions[name], **node}, (*within, name)
    strict = {key: value for key, value in node.items() if key not in _SAID_ELSEWHERE}
    if "prefixItems" in node:
        _refuse(at, "is a tuple of fixed length; take a model")
    if node.get("type") == "object":
        if "properties" not in node:
            _refuse(at, "has names that no schema knows; take a list of models with a name")
        strict["properties"] = {
            name: _strict(one, definitions, f"{at}.{name}", within) for name, one in node["properties"].items()
        }
        strict |= {"required": list(strict["properties"]), "additionalProperties": False}
    if "items" in node:
        strict["items"] = _strict(node["items"], definitions, f"{at}[]", within)
    if alternatives := node.get("anyOf") or node.get("oneOf"):
        strict["anyOf"] = [_strict(one, definitions, at, within) for one in alternatives]
    if not strict.keys() & _TYPED:
        _refuse(at, "says nothing of its type")
    return strict


def _refuse(at: str, what: str) -> NoReturn:
    raise TypeError(f"{at} {what}")
