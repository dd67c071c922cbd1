"""A request's schema on its way to a server. Oracles: the API reference's body by hand, hashes computed by hand."""

import hashlib
import json
from typing import Any

import pytest

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.batch_api import Config as BatchConfig
from datagen.backends.batch_api import batch_api
from datagen.backends.budget import Budget, BudgetParams, BudgetSpent, most_tokens
from datagen.backends.choices import Groups
from datagen.backends.ledger import Ledger
from datagen.backends.openai_api import Config, openai_api
from datagen.contracts.errors import ParamsError
from tests.batch_server import running_batches
from tests.chat_server import ChatServer, reply

SCHEMA = '{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false}'
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(SCHEMA), "strict": True}}
REFUSALS = {
    "vLLM": "Failed to compile the JSON schema: Unsupported type",
    "LM Studio": "'response_format.type' must be 'json_schema' or 'text'",
    "DeepSeek": "This response_format type is unavailable now",
}


def ask(text: str, schema: str | None = SCHEMA, sample_index: int = 0) -> Request:
    sampling = Sampling(temperature=0.5, max_new_tokens=8, seed=sample_index)
    messages: Any = [{"role": "user", "content": text}]
    return Request(messages=messages, sampling=sampling, sample_index=sample_index, response_schema=schema)


def config(base_url: str, **changed: Any) -> Config:
    return Config.model_validate({"backend": "openai_api", "base_url": base_url, "model": "m"} | changed)


def answers(server: ChatServer, ledger: Ledger, requests: list[Request], **changed: Any) -> list[Outcome]:
    with openai_api(config(server.base_url, **changed), Environment(ledger=ledger)) as backend:
        return list(backend.generate(requests))


def key_of(fields: dict[str, Any]) -> bytes:
    written = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(written.encode()).digest()


def test_the_key_knows_a_schema_only_where_there_is_one():
    """SHA-256 of the JSON as it was before requests had schemas, and of that with one."""
    sampling = {
        "temperature": 0.5, "top_p": 1.0, "max_new_tokens": 8, "stop": [], "seed": 0, "cache_epoch": 0,
    }  # fmt: skip
    fields = {
        "identity": {"model": "m"}, "messages": [{"role": "user", "content": "é"}], "tools": None,
        "sampling": sampling, "sample_index": 0,
    }  # fmt: skip
    assert ask("é", None).key({"model": "m"}) == key_of(fields)
    assert ask("é").key({"model": "m"}) == key_of(fields | {"response_schema": SCHEMA})


def test_the_body_as_the_api_wants_it(server: ChatServer, ledger: Ledger):
    """By hand from the API reference; a request without a schema says nothing of it."""
    answers(server, ledger, [ask("with"), ask("without", None)], extra_body={"top_k": 20})
    with_schema, without = sorted(server.bodies, key=lambda body: body["messages"][0]["content"])
    assert without == {
        "model": "m", "messages": [{"role": "user", "content": "without"}], "temperature": 0.5, "top_p": 1.0,
        "max_tokens": 8, "seed": 0, "top_k": 20,
    }  # fmt: skip
    assert with_schema == without | {"messages": [{"role": "user", "content": "with"}], "response_format": FORM}


def test_in_a_batch_file(ledger: Ledger):
    """The same body; an answer bought there serves openai_api; a row that is refused says why."""
    with running_batches() as server:
        refused = {"response": {"status_code": 400, "body": {"error": {"message": REFUSALS["vLLM"]}}}}
        server.row = lambda body, n: refused if body["messages"][0]["content"] == "bad" else None
        section = {"backend": "batch_api", "base_url": server.base_url, "model": "m", "poll_s": 0.01}
        with batch_api(BatchConfig.model_validate(section), Environment(ledger=ledger)) as backend:
            good, bad = backend.generate([ask("good"), ask("bad")])
        (batch,) = server.batches
        lines = server.files[batch["input_file_id"]].splitlines()
        assert all(json.loads(line)["body"]["response_format"] == FORM for line in lines)
        assert isinstance(good.answer, Completion) and isinstance(bad.answer, Failure)
        assert bad.answer.reason == "schema_refused" and "structured_output=none" in bad.answer.detail
        with openai_api(config(server.base_url), Environment(ledger=ledger)) as backend:
            [again] = backend.generate([ask("good")])
        assert again.from_ledger and again.answer == good.answer


@pytest.mark.parametrize("said", REFUSALS.values(), ids=list(REFUSALS))
def test_a_server_that_refuses_the_schema(server: ChatServer, ledger: Ledger, said: str):
    """The row fails with its words and what to do; it is asked once, and never without the schema."""
    server.fault = lambda body, n: reply({"error": {"message": said}}, 400) if "response_format" in body else None
    refused, free = answers(server, ledger, [ask("with"), ask("without", None)])
    assert isinstance(refused.answer, Failure) and isinstance(free.answer, Completion)
    assert refused.answer.reason == "schema_refused"
    assert refused.answer.detail == f"http_400: {said}; structured_output=none asks without a schema"
    assert server.n_requests == 2 and len(ledger) == 1


def test_other_refusals_stay_as_they_are(server: ChatServer, ledger: Ledger):
    """A 400 about something else, and one about a schema that the row did not bring."""
    faults = {"seed": "bad seed", "tools": "the tool's schema is wrong", "long": "maximum context length is 8, schema"}
    server.fault = lambda body, n: reply({"error": {"message": faults[body["messages"][0]["content"]]}}, 400)
    found = answers(server, ledger, [ask("seed"), ask("tools", None), ask("long")])
    reasons = [one.answer.reason for one in found if isinstance(one.answer, Failure)]
    assert reasons == ["http_400", "http_400", "context_overflow"]


@pytest.mark.parametrize("schema", ["{", '["type"]', "[" * 200_000])
def test_a_schema_that_is_none(server: ChatServer, ledger: Ledger, schema: str):
    with pytest.raises(ParamsError, match="response_schema is no JSON"):
        answers(server, ledger, [ask("a", schema)])
    assert server.n_requests == 0


@pytest.mark.parametrize(
    "given", [{"response_format": {"type": "json_object"}}, {"extra_body": {"response_format": None}}]
)
def test_two_forms_of_an_answer(server: ChatServer, ledger: Ledger, given: dict[str, Any]):
    """The section's own form, or none at all, against the request's: neither wins in silence."""
    with pytest.raises(ParamsError, match="structured_output=none"):
        answers(server, ledger, [ask("a")], **given)
    assert server.n_requests == 0


def test_a_schema_counts_in_the_budget(server: ChatServer, ledger: Ledger):
    """The most that a request can cost grows by the bytes of what is said of the form, in a list."""
    most = most_tokens(ask("a").messages, None, 8).total
    more = len(json.dumps([FORM], ensure_ascii=False).encode())
    environment = Environment(ledger=ledger, budget=Budget(BudgetParams(max_total_tokens=most + more - 1)))
    with openai_api(config(server.base_url), environment) as backend:
        assert isinstance(next(backend.generate([ask("a", None)])).answer, Completion)
        with pytest.raises(BudgetSpent):
            list(backend.generate([ask("a")]))
    assert server.n_requests == 1


def test_samples_of_one_schema_share_a_request():
    """Two of one schema, then one of another and one without."""
    other = SCHEMA.replace("string", "number")
    requests = [ask("a"), ask("a", sample_index=1), ask("a", other), ask("a", None, sample_index=1)]
    with pytest.raises(ParamsError):
        list(Groups(iter(requests), 2))
    assert [len(group) for group in Groups(iter(requests[:3]), 2)] == [2, 1]
