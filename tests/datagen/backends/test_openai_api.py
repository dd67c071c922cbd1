"""openai_api against a real server on loopback.

Oracles: what the server was told to send, the API reference's request written out by hand, and the server's own count
of what it was asked.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.chat_format import error_message, parse_completion, retry_after_s
from datagen.backends.ledger import Ledger
from datagen.backends.openai_api import Config, openai_api
from datagen.contracts.errors import BackendError, ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Message
from tests.chat_server import ChatServer, Fault, answer_to, closed, half, late, reply, running
from tests.waiting import wait_until

KEY = "sk-planted-0123456789/abcdef"
SAMPLING = Sampling(temperature=0.7, max_new_tokens=32, seed=1)


def config(server: ChatServer, **changed: Any) -> Config:
    return Config.model_validate({"backend": "openai_api", "base_url": server.base_url, "model": "m"} | changed)


def ask(text: str, sampling: Sampling = SAMPLING, sample_index: int = 0) -> Request:
    return Request(messages=[Message(role="user", content=text)], sampling=sampling, sample_index=sample_index)


def answers(
    config: Config, ledger: Ledger, requests: Iterable[Request], concurrency: int = 8
) -> tuple[list[Outcome], dict[str, float]]:
    environment = Environment(ledger=ledger, concurrency=concurrency)
    with openai_api(config, environment) as backend:
        return list(backend.generate(requests)), environment.counts


def fault_by_text(faults: dict[str, Fault], times: int = 10**9) -> Any:
    """A fault for each of the first `times` requests whose last message is a key of `faults`."""
    return lambda body, n: faults.get(body["messages"][-1]["content"]) if n <= times else None


def test_answers_in_order_and_from_the_ledger(server: ChatServer, ledger: Ledger):
    """The n-th outcome is the server's answer to the n-th body; a second run asks nothing."""
    requests = [ask(f"number {i}") for i in range(200)]
    server.latency_s = 0.02
    outcomes, counts = answers(config(server), ledger, iter(requests))
    sent = {body["messages"][-1]["content"]: body for body in server.bodies}
    expected = [answer_to(sent[f"number {i}"])["choices"][0]["message"]["content"] for i in range(200)]
    assert [o.answer.text for o in outcomes if isinstance(o.answer, Completion)] == expected
    assert [o.request for o in outcomes] == requests
    assert (counts["requests"], counts["ledger_hits"], server.n_requests, server.peak) == (200, 0, 200, 8)
    assert counts["completion_tokens"] == 3 * 200

    again, counts = answers(config(server), ledger, requests)
    assert [o.answer for o in again] == [o.answer for o in outcomes]
    assert all(o.from_ledger for o in again) and not any(o.from_ledger for o in outcomes)
    assert (counts["ledger_hits"], server.n_requests) == (200, 200)


def test_request_as_the_api_wants_it(server: ChatServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Written out by hand from the API reference."""
    monkeypatch.setenv("OTHER_KEY", KEY)
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    request = Request(
        messages=[
            Message(role="system", content="Bé brief."),
            Message(role="user", content="1 + 1?"),
            Message(role="assistant", tool_calls=json.dumps(calls)),
            Message(role="tool", tool_call_id="c1", content="2"),
        ],
        sampling=Sampling(temperature=0.5, top_p=0.9, max_new_tokens=7, stop=("\n",), seed=2**63 - 1),
        tools=json.dumps(tools),
    )
    changed = {"api_key_env": "OTHER_KEY", "logprobs": True, "extra_body": {"top_k": 20, "top_p": None}}
    answers(config(server, **changed), ledger, [request])
    assert server.bodies == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Bé brief."},
                {"role": "user", "content": "1 + 1?"},
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "c1", "content": "2"},
            ],
            "temperature": 0.5,
            "max_tokens": 7,
            "stop": ["\n"],
            "seed": 9223372036854775807,
            "tools": tools,
            "logprobs": True,
            "top_k": 20,
        }
    ]
    assert server.headers["Authorization"] == f"Bearer {KEY}"


def test_every_field_of_a_reply(server: ChatServer, ledger: Ledger):
    """What the server was told to send, read back from the ledger too."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "reasoning_content": "Let me add.", "tool_calls": [call]}
    logprobs = {"content": [{"token": "é", "logprob": -0.25, "bytes": None, "top_logprobs": []}]}
    content = {
        "choices": [{"message": message, "finish_reason": "tool_calls", "logprobs": logprobs}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 9},
    }
    server.fault = lambda body, n: reply(content)
    expected = Completion(
        text="",
        reasoning="Let me add.",
        finish_reason="tool_calls",
        n_prompt_tokens=5,
        n_completion_tokens=9,
        logprobs=[("é", -0.25)],
        tool_calls=json.dumps([call]),
    )
    for _ in range(2):
        outcomes, _ = answers(config(server), ledger, [ask("add")])
        assert outcomes[0].answer == expected
    assert server.n_requests == 1


def good(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


TRANSIENT: dict[str, tuple[Fault, str, str]] = {
    "500": (reply(b"<html>\n<h1>oops</h1>", 500), "http_500", "retries_5xx"),
    "502": (reply(b"<html>bad gateway</html>", 502), "http_502", "retries_5xx"),
    "503": (reply({"error": {"message": "busy"}}, 503, Retry_After="0"), "http_503", "retries_5xx"),
    "closed": (closed, "connection", "retries_connection"),
    "half": (half, "bad_body", "retries_body"),
    "bad json": (reply(b'{"choices": ['), "bad_body", "retries_body"),
    "no choices": (reply({"choices": []}), "bad_body", "retries_body"),
    "not an object": (reply(b"[]"), "bad_body", "retries_body"),
    "content no text": (reply({"choices": [{"message": {"content": 3}}]}), "bad_body", "retries_body"),
    "not utf-8": (reply(b'{"choices": [{"message": {"content": "\xff"}}]}'), "bad_body", "retries_body"),
    "half a pair": (reply(b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "bad_body", "retries_body"),
    "nested": (reply(b'{"choices": ' + b"[" * 200_000), "bad_body", "retries_body"),
    "500 nested": (reply(b"[" * 200_000, 500), "http_500", "retries_5xx"),
    "late": (late(3.0), "timeout", "retries_connection"),
}


def test_transient_faults_are_retried_then_reported(server: ChatServer, ledger: Ledger):
    """One fault each is mended by a retry, counted by kind; without end they fail the row by kind and store nothing."""
    faults = {name: fault for name, (fault, _, _) in TRANSIENT.items()}
    texts = [*TRANSIENT, "plain"]
    settings = {"max_tries": 2, "timeout_s": 1.0}
    server.fault = fault_by_text(faults)
    outcomes, counts = answers(config(server, **settings), ledger, map(ask, texts), concurrency=16)
    reasons = [o.answer.reason if isinstance(o.answer, Failure) else None for o in outcomes]
    assert reasons == [*(reason for _, reason, _ in TRANSIENT.values()), None]
    assert (len(ledger), server.n_requests, counts["requests"]) == (1, 2 * len(TRANSIENT) + 1, server.n_requests)
    for kind in {kind for _, _, kind in TRANSIENT.values()}:
        assert counts[kind] == sum(k == kind for _, _, k in TRANSIENT.values())

    server.asked.clear()
    server.fault = fault_by_text(faults, times=1)
    outcomes, counts = answers(config(server, **settings), ledger, map(ask, texts), concurrency=16)
    assert all(isinstance(o.answer, Completion) for o in outcomes)
    assert counts["ledger_hits"] == 1 and len(ledger) == len(texts)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (reply({"error": {"message": "bad seed"}}, 400), "http_400"),
        (reply({"detail": "unprocessable"}, 422), "http_422"),
        (reply({"error": {"message": "This model's maximum context length is 9"}}, 400), "context_overflow"),
        (reply(good("")), "empty_answer"),
    ],
)
def test_refused_rows_fail_alone_at_once(server: ChatServer, ledger: Ledger, fault: Fault, reason: str):
    """One request each, no retry, nothing stored; the other rows are answered."""
    server.fault = fault_by_text({"bad": fault})
    outcomes, _ = answers(config(server), ledger, map(ask, ["good", "bad", "fine"]))
    assert [getattr(o.answer, "reason", None) for o in outcomes] == [None, reason, None]
    assert (server.n_requests, len(ledger)) == (3, 2)


def test_tools_that_are_no_json_fail_their_row(server: ChatServer, ledger: Ledger):
    """The server sees nothing of it."""
    request = Request(messages=[Message(role="user", content="x")], sampling=SAMPLING, tools="{oops")
    outcomes, _ = answers(config(server), ledger, [request])
    assert getattr(outcomes[0].answer, "reason", None) == "bad_tools"
    assert server.n_requests == 0


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept_and_holds_no_slot(server: ChatServer, ledger: Ledger, form: str):
    """With one slot, the rows behind a refused one are answered before the server's own clock lets it come again."""
    arrivals: list[tuple[str, float]] = []

    def fault(body: dict[str, Any], n: int) -> Fault | None:
        text = body["messages"][-1]["content"]
        arrivals.append((text, time.monotonic()))
        after = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
        return reply({"error": {"message": "slow down"}}, 429, Retry_After=after) if text == "a" and n == 1 else None

    server.fault = fault
    outcomes, counts = answers(config(server, max_tries=1), ledger, map(ask, "abc"), concurrency=1)
    assert all(isinstance(o.answer, Completion) for o in outcomes)
    assert [text for text, _ in arrivals] == ["a", "b", "c", "a"]
    assert 0.95 <= arrivals[3][1] - arrivals[0][1] < 5
    assert counts["retries_429"] == 1


def test_rate_limit_without_end_fails_the_row(server: ChatServer, ledger: Ledger):
    """A day's wait is not waited for."""
    server.fault = fault_by_text({"a": reply({"error": {"message": "daily limit"}}, 429, Retry_After="86400")})
    outcomes, _ = answers(config(server), ledger, map(ask, "ab"))
    assert [getattr(o.answer, "reason", None) for o in outcomes] == ["http_429", None]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (reply({"error": {"message": "no key"}}, 401), r"wants a key: set \$OPENAI_API_KEY"),
        (reply({"error": {"message": "no such model"}}, 404), "has no model 'm'.*it has m, other-model"),
        (reply(b"", 307, Location="http://127.0.0.1:9/"), "is not the API's base_url"),
        (reply({"error": {"message": "Check your plan.", "code": "insufficient_quota"}}, 429), "wants to be paid"),
    ],
)
def test_what_no_retry_can_mend_stops_everything(server: ChatServer, ledger: Ledger, fault: Fault, message: str):
    """One line, and no more requests than there are slots."""
    server.fault = lambda body, n: fault
    with pytest.raises(BackendError, match=message) as raised:
        answers(config(server), ledger, (ask(str(i)) for i in range(10_000)), concurrency=4)
    assert "\n" not in str(raised.value)
    assert server.n_requests <= 4 and len(ledger) == 0


def test_server_that_is_not_there(ledger: Ledger):
    """A port that nothing listens on: one line, soon."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = ChatServer()
        nowhere.base_url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        start = time.monotonic()
        with pytest.raises(BackendError, match="start the server or mend base_url"):
            answers(config(nowhere), ledger, [ask("a")])
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("status", [401, 400, 500])
def test_key_is_never_shown(server: ChatServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, status: int):
    """A server that echoes the Authorization header, plainly and as JSON escapes it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    echo = json.dumps({"error": {"message": f"bad header: Bearer {KEY}"}})
    for body in (echo, echo.replace("/", "\\/")):
        server.fault = lambda _, n, body=body: reply(body.encode(), status)
        try:
            outcomes, _ = answers(config(server, max_tries=1), ledger, [ask("a")])
            shown = repr(outcomes)
            assert "bad header: Bearer [key]" in shown
        except BackendError as error:
            shown = str(error)
            assert "refuses the key in $OPENAI_API_KEY" in shown
        assert KEY not in shown and "0123456789" not in shown


def test_key_in_an_answer_is_not_stored(server: ChatServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """The ledger's file is searched byte by byte."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.fault = lambda body, n: reply(good(f"you sent {KEY}"))
    outcomes, _ = answers(config(server), ledger, [ask("a")])
    assert getattr(outcomes[0].answer, "text", None) == "you sent [key]"
    assert not any(KEY.encode() in file.read_bytes() for file in ledger.path.parent.glob("ledger*"))


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "http://me:sk-secret@127.0.0.1/v1"},
        {"base_url": "http://127.0.0.1/v1?api_key=sk-secret"},
        {"base_url": "https://127.0.0.1/v1?sig=sk-secret"},
        {"api_key_env": "sk-secret"},
        {"api_key_env": "secret0123456789abcdef"},
        {"extra_body": {"api_key": "sk-secret"}},
        {"extra_body": {"headers": [{"Authorization": "Bearer sk-secret"}]}},
        {"extra_body": {"tokens": {"access_token": "sk-secret"}}},
        {"api_key": "sk-secret"},
    ],
)
def test_keys_in_params_are_refused_unseen(given: dict[str, Any]):
    """The message names the parameter and holds nothing of the value."""
    section = {"backend": "openai_api", "base_url": "http://127.0.0.1/v1", "model": "m"} | given
    with pytest.raises(ParamsError) as raised:
        validate(section, Config)
    assert next(iter(given)) in str(raised.value) and "secret" not in str(raised.value)


def test_options_of_servers_are_no_keys():
    """Names from the references of OpenAI's API and of vLLM."""
    options = {"max_completion_tokens": 9, "stop_token_ids": [2], "min_tokens": 1, "skip_special_tokens": False}
    more = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"}
    section = {"backend": "openai_api", "base_url": "http://127.0.0.1/v1", "model": "m", "extra_body": options | more}
    assert validate(section, Config)[Config].extra_body == options | more


def test_key_elsewhere_in_params_is_refused(server: ChatServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """The environment's key inside extra_body would land in the manifest."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ParamsError, match="holds the key") as raised:
        answers(config(server, extra_body={"user": KEY}), ledger, [])
    assert KEY not in str(raised.value)


def test_equal_requests_in_flight_are_asked_once(server: ChatServer, ledger: Ledger):
    """By the server's count."""
    server.latency_s = 0.1
    outcomes, _ = answers(config(server), ledger, [ask("same")] * 20 + [ask("other")] + [ask("same")])
    assert server.n_requests == 2
    assert len({o.answer.text for o in outcomes if isinstance(o.answer, Completion)}) == 2
    assert [o.from_ledger for o in outcomes] == [False] + [True] * 19 + [False, True]


def test_what_makes_a_request_new(server: ChatServer, ledger: Ledger):
    """By the server's count: everything that can change an answer does, and nothing else."""
    base = {"base_url": server.base_url, "model": "m"}
    same = [{"timeout_s": 5.0}, {"connect_timeout_s": 5.0}, {"max_tries": 1}, {"max_rate_limited_s": 1.0}]
    localhost = server.base_url.replace("127.0.0.1", "localhost")
    new = [{"base_url": localhost}, {"model": "other-model"}, {"logprobs": True}, {"extra_body": {"top_k": 1}}]
    for changed, n_expected in [({}, 1), *((c, 0) for c in same), *((c, 1) for c in new)]:
        before = server.n_requests
        answers(config(server, **base | changed), ledger, [ask("a")], concurrency=1 + n_expected)
        assert server.n_requests - before == n_expected, changed

    sampled = [{"temperature": 0.8}, {"top_p": 0.5}, {"max_new_tokens": 33}, {"stop": ("x",)}, {"seed": 2}]
    for update in [*sampled, {"cache_epoch": 1}]:
        before = server.n_requests
        answers(config(server), ledger, [ask("a", SAMPLING.model_copy(update=update))])
        assert server.n_requests - before == 1, update
    before = server.n_requests
    answers(config(server), ledger, [ask("a", sample_index=1), ask("b"), ask("a")])
    assert server.n_requests - before == 2


def test_provider_stands_for_the_address(server: ChatServer, ledger: Ledger):
    """The same provider behind another port asks nothing new; another provider does."""
    answers(config(server, provider="acme"), ledger, [ask("a")])
    with running() as moved:
        answers(config(moved, provider="acme"), ledger, [ask("a")])
        assert moved.n_requests == 0
        answers(config(moved, provider="other"), ledger, [ask("a")])
        assert moved.n_requests == 1


def test_slow_first_row_stops_no_other(server: ChatServer, ledger: Ledger):
    """The first answer waits until four slots had 200 others answered; no more are drawn than the window holds."""

    async def after_200(request: web.Request) -> web.StreamResponse:
        deadline = time.monotonic() + 20
        while server.n_requests < 200 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return await late(0)(request)

    server.fault = fault_by_text({"0": after_200})
    n_drawn = 0

    def requests() -> Iterator[Request]:
        nonlocal n_drawn
        for i in range(1000):
            n_drawn += 1
            yield ask(str(i))

    environment = Environment(ledger=ledger, concurrency=4)
    with openai_api(config(server), environment) as backend:
        outcomes = backend.generate(requests())
        next(outcomes)
        assert server.n_requests >= 200 and n_drawn <= 4 * 64 + 1
        outcomes.close()  # type: ignore[attr-defined]  # a generator
    assert len(ledger) >= 190


def test_answers_claimed_elsewhere_are_waited_for(server: ChatServer, ledger: Ledger):
    """Another owner of the same ledger file holds two keys: it answers one and gives up the other."""
    requests = [ask("a"), ask("b"), ask("c")]
    with openai_api(config(server), Environment(ledger=ledger)) as backend:
        keys = [request.key(backend.identity) for request in requests]
        with Ledger.open(ledger.path) as other:
            assert other.claim(keys[:2]).granted == keys[:2]
            outcomes = backend.generate([requests[2], *requests[:2]])
            assert isinstance(next(outcomes).answer, Completion) and server.n_requests == 1
            other.put(keys[0], Completion(text="theirs").to_bytes())
            assert next(outcomes).answer == Completion(text="theirs") and server.n_requests == 1
            other.release([keys[1]])
            assert isinstance(next(outcomes).answer, Completion) and server.n_requests == 2
            assert list(outcomes) == []


def test_requests_that_raise_pass_their_error_on(server: ChatServer, ledger: Ledger):
    """The consumer sees what its own iterator raised."""

    def requests() -> Iterator[Request]:
        yield ask("a")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        answers(config(server), ledger, requests())


def test_consumer_that_raises_leaves_nothing_running(server: ChatServer, ledger: Ledger):
    """Threads are as before, and what was claimed can be claimed again, once what came is on the disk."""
    server.latency_s = 0.05
    n_threads = threading.active_count()
    requests = [ask(str(i)) for i in range(50)]
    with pytest.raises(KeyError, match="mine"), openai_api(config(server), Environment(ledger=ledger)) as backend:
        for _ in backend.generate(requests):
            raise KeyError("mine")
    assert threading.active_count() == n_threads
    keys = [request.key(backend.identity) for request in requests]

    def are_free() -> bool:
        claimed = ledger.claim(keys)
        ledger.release(claimed.granted)
        return not claimed.taken

    assert wait_until(are_free)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:29 GMT"}, 30.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None):
    """RFC 9110, section 10.2.3, with its example date."""
    assert retry_after_s(headers) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "a\\n b", "code": 1}}', "a b"),
        (b'{"error": "plain"}', "plain"),
        (b'{"detail": [{"loc": 1}]}', "[{'loc': 1}]"),
        (b"<h1>\n502 </h1>", "<h1> 502 </h1>"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 1000, "x" * 297 + "..."),
        (b"[1]", "[1]"),
        (b'{"error": null}', '{"error": null}'),
    ],
)
def test_error_message(body: bytes, expected: str):
    """The forms of OpenAI, FastAPI and proxies, by hand."""
    assert error_message(body) == expected


def test_parse_without_usage():
    """Servers may leave out everything but the text."""
    assert parse_completion(b'{"choices": [{"message": {"content": "hi"}}]}') == Completion(text="hi")
