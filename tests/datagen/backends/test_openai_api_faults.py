"""openai_api against servers that fail: every row ends as an answer or as a failure with its reason, and in time.

Oracles: what the servers were told to do, their own counts, and clocks.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import web

from datagen.backends import openai_api as openai_api_module
from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.ledger import Ledger
from datagen.backends.openai_api import Config, openai_api
from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Message
from tests.chat_server import ChatServer, Fault, answer_to, closed, half, late, reply, running

SAMPLING = Sampling(temperature=0.7, max_new_tokens=32, seed=1)


@pytest.fixture
def servers() -> Iterator[list[ChatServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running()) for _ in range(2)]


def config(server: ChatServer, **changed: Any) -> Config:
    return Config.model_validate({"backend": "openai_api", "base_url": server.base_url, "model": "m"} | changed)


def ask(text: object) -> Request:
    return Request(messages=[Message(role="user", content=str(text))], sampling=SAMPLING)


def answers(
    config: Config, ledger: Ledger, texts: Any, concurrency: int = 16
) -> tuple[list[Outcome], dict[str, float]]:
    environment = Environment(ledger=ledger, concurrency=concurrency)
    with openai_api(config, environment) as backend:
        return list(backend.generate(map(ask, texts))), environment.counts


def text_of(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def failed(outcomes: list[Outcome]) -> list[str]:
    return [one.answer.reason for one in outcomes if isinstance(one.answer, Failure)]


def cut(request_text: str) -> Fault:
    """An answer that the limit on its length cut."""
    choice = {"message": {"content": request_text}, "finish_reason": "length"}
    return reply({"choices": [choice]})


def test_every_fault_at_once(servers: list[ChatServer], ledger: Ledger):
    """A third of 90 rows meets a fault at first, a third always: 63 answers, 6 of them cut, 27 failures by kind."""
    server = servers[0]
    faults: list[tuple[Fault, str]] = [
        (reply({"error": {"message": "slow down"}}, 429, Retry_After="0"), "http_429"),
        (reply(b"oops", 500), "http_500"),
        (reply(b"<html><h1>502</h1></html>", 502), "http_502"),
        (closed, "connection"),
        (half, "bad_body"),
        (reply(b'{"choices": ['), "bad_body"),
        (reply({"choices": []}), "bad_body"),
        (reply(b'{"choices": [{"message": {"content": "\xff"}}]}'), "bad_body"),
        (late(30.0), "timeout"),
        (cut("cut"), "length"),
    ]

    def fault(body: dict[str, Any], n: int) -> Fault | None:
        i = int(text_of(body))
        is_faulty = (i % 3 == 1 and n == 1) or i % 3 == 2
        return faults[i // 3 % len(faults)][0] if is_faulty else None

    server.fault = fault
    start = time.monotonic()
    settings = {"max_tries": 2, "timeout_s": 2.0, "max_rate_limited_s": 2.0}
    outcomes, counts = answers(config(server, **settings), ledger, range(90))
    assert time.monotonic() - start < 30
    assert [int(one.request.messages[0].get("content") or "") for one in outcomes] == list(range(90))
    expected = [faults[i // 3 % len(faults)][1] for i in range(90) if i % 3 == 2]
    assert failed(outcomes) == [reason for reason in expected if reason != "length"]
    completions = [one.answer for one in outcomes if isinstance(one.answer, Completion)]
    assert sum(answer.finish_reason == "length" for answer in completions) == 6  # cut at first, and always
    assert len(completions) == len(ledger) == 63
    assert counts["requests"] == server.n_requests


def test_a_storm_of_429_ends_with_every_answer(servers: list[ChatServer], ledger: Ledger):
    """The server rejects whatever is beyond 4 in flight of 32 allowed: all are answered, and few are rejected twice."""
    server = servers[0]
    server.latency_s = 0.05
    in_flight = 0

    async def counted(request: web.Request) -> web.StreamResponse:
        nonlocal in_flight
        if in_flight >= 4:
            return await reply({"error": {"message": "slow down"}}, 429, Retry_After="0.3")(request)
        in_flight += 1
        try:
            return await late(0.05)(request)
        finally:
            in_flight -= 1

    server.fault = lambda body, n: counted
    outcomes, counts = answers(config(server), ledger, range(100), concurrency=32)
    assert failed(outcomes) == [] and len(ledger) == 100
    # 32 at once, then bursts of half as many: 28 + 12 + 4 + 0, and now and then one more that tries
    assert counts["retries_429"] == server.n_requests - 100 <= 60
    assert counts["limit_cuts"] <= 12


def test_a_server_that_goes_and_comes_back(servers: list[ChatServer], ledger: Ledger):
    """Half-way all connections are reset for a second and a half; every row is answered all the same."""
    server = servers[0]
    server.latency_s = 0.02
    back_at = 0.0

    def fault(body: dict[str, Any], n: int) -> Fault | None:
        nonlocal back_at
        if server.n_requests >= 50:
            back_at = back_at or time.monotonic() + 1.5
        return closed if time.monotonic() < back_at else None

    server.fault = fault
    outcomes, counts = answers(config(server), ledger, range(100))
    assert failed(outcomes) == [] and len(ledger) == 100
    assert counts["retries_connection"] > 0


def test_an_answer_after_the_timeout_is_asked_again(servers: list[ChatServer], ledger: Ledger):
    """The first attempt's answer comes too late and is dropped; no row waits for it."""
    server = servers[0]
    server.fault = lambda body, n: late(3.0) if n == 1 else None
    start = time.monotonic()
    outcomes, counts = answers(config(server, timeout_s=0.5), ledger, range(4))
    assert failed(outcomes) == [] and counts["retries_connection"] == 4
    assert time.monotonic() - start < 3.0 + 5


def test_silence_has_a_limit_of_its_own(servers: list[ChatServer], ledger: Ledger):
    """Half a reply and then nothing, with an hour for the whole; a slow reply of many pieces is taken."""
    server = servers[0]

    async def stalled(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        await asyncio.sleep(30)
        return response

    async def slow(request: web.Request) -> web.StreamResponse:
        content = json.dumps(answer_to(await request.json())).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        for start in range(0, len(content), 40):
            await asyncio.sleep(0.25)
            await response.write(content[start : start + 40])
        return response

    server.fault = lambda body, n: stalled if text_of(body) == "stalled" else slow
    limits = {"timeout_s": 3600.0, "first_byte_timeout_s": 1.0, "max_tries": 1}
    outcomes, _ = answers(config(server, **limits), ledger, ["stalled", "slow"])
    assert failed(outcomes) == ["timeout"] and isinstance(outcomes[1].answer, Completion)


def test_two_servers_share_the_work_and_one_key(servers: list[ChatServer], ledger: Ledger):
    """By their own counts; afterwards either alone, and one more, answers from the ledger."""
    a, b = servers
    a.latency_s, b.latency_s = 0.01, 0.4
    both = {"base_urls": [b.base_url], "provider": "acme"}
    outcomes, _ = answers(config(a, **both), ledger, range(200))
    assert failed(outcomes) == [] and a.n_requests + b.n_requests == 200
    assert a.n_requests > 1.5 * b.n_requests > 0
    assert max(a.peak, b.peak) <= 16
    _, counts = answers(config(b, provider="acme"), ledger, range(200))
    assert counts["ledger_hits"] == 200


def test_a_server_that_dies_leaves_its_rows_to_the_other(servers: list[ChatServer], ledger: Ledger):
    """One server closes for good after 20 requests: all rows are answered, without a second's wait for each."""
    a, b = servers
    a.latency_s = b.latency_s = 0.02
    a.fault = lambda body, n: closed if a.n_requests > 20 else None
    start = time.monotonic()
    outcomes, _ = answers(config(a, base_urls=[b.base_url], provider="acme"), ledger, range(200))
    assert failed(outcomes) == [] and len(ledger) == 200
    assert a.n_requests < 60 and time.monotonic() - start < 20


def test_a_wrong_address_among_right_ones(servers: list[ChatServer], ledger: Ledger):
    """Nothing listens on one of two ports."""
    gone = "http://127.0.0.1:9/v1"
    outcomes, _ = answers(config(servers[0], base_urls=[gone], provider="acme"), ledger, range(50))
    assert failed(outcomes) == [] and servers[0].n_requests == 50


def test_addresses_need_a_common_name():
    """The key cannot depend on which of them answered."""
    section = {"backend": "openai_api", "base_url": "http://a/v1", "model": "m", "base_urls": ["http://b/v1"]}
    with pytest.raises(ParamsError, match=r"base_urls: .*needs provider"):
        validate(section, Config)
    with pytest.raises(ParamsError, match="base_urls: holds a key") as raised:
        validate(section | {"provider": "p", "base_urls": ["http://me:sk-secret@b/v1"]}, Config)
    assert "sk-secret" not in str(raised.value)


def test_named_options_are_those_of_extra_body(servers: list[ChatServer], ledger: Ledger):
    """The same body and the same key, however they are given; what is not given changes neither."""
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    named = {"top_logprobs": 2, "response_format": schema, "return_token_ids": True}
    answers(config(servers[0], logprobs=True, **named), ledger, ["a"])
    _, counts = answers(config(servers[0], logprobs=True, extra_body=named), ledger, ["a"])
    assert counts["ledger_hits"] == servers[0].n_requests == 1
    assert {name: servers[0].bodies[0][name] for name in named} == named
    assert config(servers[0]).extra_body == {}


def test_top_logprobs_and_token_ids_are_kept(servers: list[ChatServer], ledger: Ledger):
    """As OpenAI's reference and vLLM's write them, and read back from the ledger."""
    token = {"token": "é", "logprob": -0.25, "bytes": None}
    top = [token, {"token": "e", "logprob": -1.5, "bytes": None}]
    content = {
        "prompt_token_ids": [1, 2],
        "choices": [
            {
                "message": {"content": "é"},
                "finish_reason": "stop",
                "logprobs": {"content": [token | {"top_logprobs": top}]},
                "token_ids": [7],
            }
        ],
    }
    servers[0].fault = lambda body, n: reply(content)
    for _ in range(2):
        outcomes, _ = answers(config(servers[0], logprobs=True, top_logprobs=2), ledger, ["a"])
        answer = outcomes[0].answer
        assert isinstance(answer, Completion)
        assert answer.logprobs == [("é", -0.25)] and answer.top_logprobs == [[("é", -0.25), ("e", -1.5)]]
        assert (answer.prompt_token_ids, answer.token_ids) == ([1, 2], [7])
    assert servers[0].n_requests == 1


@pytest.mark.parametrize("n_lost", [0, 2])  # aiohttp itself makes a second attempt at a lost GET
def test_vllm_metrics_lower_the_limit(
    servers: list[ChatServer], ledger: Ledger, monkeypatch: pytest.MonkeyPatch, n_lost: int
):
    """A server that calls itself uvicorn and says that its cache is full is asked for less at once.

    So is one that lost its first connections for metrics, as a server that is started again does.
    """
    monkeypatch.setattr(openai_api_module, "METRICS_EVERY_S", 0.01)
    server = servers[0]
    server.n_metrics_lost, server.latency_s = n_lost, 0.05
    server.metrics = 'vllm:num_requests_waiting{engine="0"} 0.0\nvllm:kv_cache_usage_perc{engine="0"} 0.99\n'
    server.fault = lambda body, n: reply(answer_to(body), Server="uvicorn")
    outcomes, counts = answers(config(server), ledger, range(50))
    assert failed(outcomes) == []
    assert counts["limit_cuts"] >= 1 and threading.active_count() < 20
