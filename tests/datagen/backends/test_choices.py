"""Several samples from one request to openai_api, against a real server on loopback.

Oracles: the server's own choices, its count of what it was asked and bills, and keys and bodies of the time before.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends import batch_api, openai_api, vllm_server
from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.budget import Budget, BudgetParams, BudgetSpent, Tokens, most_tokens
from datagen.backends.chat_format import request_body
from datagen.backends.choices import Groups, divide, share_usage
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger
from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params, validate
from datagen.contracts.records import Message, Prompt
from datagen.stages.traces import parse
from datagen.traces.n_samples import Config as NSamples
from datagen.traces.n_samples import n_samples
from datagen.traces.until_verified import Config as UntilVerified
from datagen.traces.until_verified import until_verified
from tests.chat_server import ChatServer, answer_to, reply

SAMPLING = Sampling(temperature=0.7, max_new_tokens=32, seed=1)
SECTION = {"backend": "openai_api", "base_url": "http://127.0.0.1:8000/v1", "model": "m"}


def config(server: ChatServer, n: int, **changed: Any) -> openai_api.Config:
    section = SECTION | {"base_url": server.base_url, "choices_per_request": n} | changed
    return openai_api.Config.model_validate(section)


def samples(text: str, n: int, start: int = 0) -> list[Request]:
    """The samples of one conversation, the seed of each being 100 and its index."""
    message = [Message(role="user", content=text)]
    return [
        Request(messages=message, sampling=SAMPLING.model_copy(update={"seed": 100 + i}), sample_index=i)
        for i in range(start, n)
    ]


def answers(
    config: openai_api.Config, ledger: Ledger, requests: Sequence[Request], budget: Budget | None = None
) -> tuple[list[Outcome], Environment]:
    environment = Environment(ledger=ledger, concurrency=4, budget=budget or Budget())
    with openai_api.openai_api(config, environment) as backend:
        return list(backend.generate(iter(requests))), environment


def texts(outcomes: Sequence[Outcome]) -> list[str]:
    """Of answers; a failure's is its reason."""
    return [one.answer.text if isinstance(one.answer, Completion) else f"!{one.answer.reason}" for one in outcomes]


def choice(index: int | None, text: str, **more: Any) -> dict[str, Any]:
    placed = {} if index is None else {"index": index}
    return placed | {"message": {"content": text}, "finish_reason": "stop"} | more


def test_each_choice_goes_to_its_own_sample(server: ChatServer, ledger: Ledger):
    """Six samples by four: two requests a prompt, `n` of 4 and of 2, with the seeds of samples 0 and 4.

    Choices may come in any order. A rerun asks nothing, and another number of choices asks anew.
    """
    requests = [one for text in ("a", "b", "a") for one in samples(text, 6)]

    def backwards(body: dict[str, Any], n: int) -> Any:
        said = answer_to(body)
        return reply(said | {"choices": said["choices"][::-1]})

    server.fault = backwards
    outcomes, environment = answers(config(server, 4), ledger, requests)
    asked = {(one["messages"][0]["content"], one["n"], one["seed"]): one for one in server.bodies}
    assert sorted(asked) == [(text, n, seed) for text in "ab" for n, seed in ((2, 104), (4, 100))]
    assert server.n_requests == environment.counts["requests"] == 4  # the third prompt is the first
    expected = {
        (text, seed - 100 + i): one["message"]["content"]
        for (text, _, seed), body in asked.items()
        for i, one in enumerate(answer_to(body)["choices"])
    }
    assert texts(outcomes) == [expected[text, i] for text in "aba" for i in range(6)]
    assert len(set(expected.values())) == len(ledger) == 12

    again, environment = answers(config(server, 4), ledger, requests)
    assert texts(again) == texts(outcomes) and server.n_requests == 4
    assert environment.counts["ledger_hits"] == 18
    answers(config(server, 2), ledger, requests[:6])
    assert server.n_requests == 7


def test_one_choice_is_as_it_was(server: ChatServer, ledger: Ledger):
    """Key, body and manifest of the version before choices_per_request; above 1 it is in key and manifest."""
    one = openai_api.Config.model_validate(SECTION | {"choices_per_request": 1})
    request = Request(messages=[Message(role="user", content="Bé brief")], sampling=Sampling(seed=3), sample_index=2)
    with openai_api.openai_api(one, Environment(ledger=ledger)) as backend:
        key = "f8729124d47955f9431ad6b2ccb19b4eaf10c5f6b468e0440b820b3da2724ae5"
        assert request.key(backend.identity).hex() == key
    assert request_body(request, model="m", logprobs=False, extra_body={}) == (
        b'{"model":"m","messages":[{"role":"user","content":"B\xc3\xa9 brief"}],"temperature":0.7,"top_p":1.0,'
        b'"max_tokens":512,"seed":3}'
    )
    held = {
        "backend": "openai_api", "extra_body": {}, "logprobs": False, "model": "m", "provider": None,
        "response_format": None, "return_token_ids": None, "top_logprobs": None,
    }  # fmt: skip
    assert validate(SECTION, openai_api.Config).values() == held
    four = SECTION | {"choices_per_request": 4}
    assert validate(four, openai_api.Config).values() == held | {"choices_per_request": 4}
    with openai_api.openai_api(openai_api.Config.model_validate(four), Environment(ledger=ledger)) as backend:
        assert backend.identity["choices_per_request"] == 4


def test_a_missing_choice_fails_and_is_asked_again(server: ChatServer, ledger: Ledger):
    """Of four choices the third is missing: its sample fails. The rerun asks for all four, and keeps the first three.

    A reply that numbers no choice has those from the first.
    """
    server.fault = lambda body, n: reply({"choices": [choice(i, f"first {i}") for i in (0, 1, 3)]})
    outcomes, _ = answers(config(server, 4), ledger, samples("a", 4))
    assert texts(outcomes) == ["first 0", "first 1", "!missing_choice", "first 3"]
    assert isinstance(failure := outcomes[2].answer, Failure) and "3 of 4 choices" in failure.detail
    assert len(ledger) == 3

    server.fault = lambda body, n: reply({"choices": [choice(None, f"second {i}") for i in range(3)]})
    outcomes, environment = answers(config(server, 4), ledger, samples("a", 4))
    assert texts(outcomes) == ["first 0", "first 1", "second 2", "first 3"]
    assert [one.from_ledger for one in outcomes] == [True, True, False, True]
    assert server.bodies[0] == server.bodies[1] and environment.counts["requests"] == 1
    assert len(ledger) == 4


@pytest.mark.parametrize("indexes", [(0, 1, 2, 3), (0, 1, 1), (0, 1, -1), (0, "1", 2)])
def test_choices_that_were_not_asked_for_are_an_error(server: ChatServer, ledger: Ledger, indexes: tuple[Any, ...]):
    """More than three, one twice, and indexes of none: nothing is stored, and no second attempt is paid."""
    server.fault = lambda body, n: reply({"choices": [choice(i, "text") for i in indexes]})
    outcomes, environment = answers(config(server, 3), ledger, samples("a", 3))
    assert texts(outcomes) == ["!bad_body"] * 3
    assert (server.n_requests, len(ledger), environment.budget.n_unknown) == (1, 0, 1)


def test_a_group_fails_and_is_tried_again_together(server: ChatServer, ledger: Ledger):
    """A 500 and a reply without choices pass; a 400 is each sample's; an empty choice is its own sample's alone."""
    passing = [reply(b"oops", 500), reply({"choices": []})]
    always = {
        "refused": reply({"error": {"message": "no"}}, 400),
        "empty": reply({"choices": [choice(0, ""), choice(1, "said")]}),
    }

    def fault(body: dict[str, Any], n: int) -> Any:
        return always.get(body["messages"][0]["content"]) or (passing[n - 1] if n <= 2 else None)

    server.fault = fault
    requests = [*samples("a", 2), *samples("refused", 2), *samples("empty", 2), *samples("b", 1)]
    outcomes, environment = answers(config(server, 2), ledger, requests)
    assert texts(outcomes)[2:6] == ["!http_400", "!http_400", "!empty_answer", "said"]
    assert not any(text.startswith("!") for text in texts(outcomes)[:2] + texts(outcomes)[6:])
    assert "n" not in next(body for body in server.bodies if body["messages"][0]["content"] == "b")
    assert server.n_requests == environment.counts["requests"] == 3 + 1 + 1 + 3


@pytest.mark.parametrize(
    ("choices", "usage", "expected"),
    [
        # 10 tokens over 4, 2 and 1 bytes: 5.71, 2.86 and 1.43; the largest fraction has the one that remains twice
        ([choice(0, "four"), choice(1, "é"), choice(2, "x")], (7, 10), [(7, 6), (0, 3), (0, 1)]),
        # reasoning counts too, an empty choice has none, and the first that says something bears the prompt
        ([choice(0, ""), choice(1, "a"), choice(2, "a")], (7, 5), [None, (7, 3), (0, 2)]),
        ([choice(i, "a", token_ids=[1] * (i + 1)) for i in range(3)], (7, 6), [(7, 1), (0, 2), (0, 3)]),
        ([choice(i, "a", token_ids=[1] * (i + 1)) for i in range(3)], (7, 9), [(7, 3), (0, 3), (0, 3)]),
        ([choice(i, "a", token_ids=[1] * (i + 1)) for i in range(3)], None, [(None, 1), (0, 2), (0, 3)]),
        ([choice(i, "a") for i in range(3)], None, [(None, None), (0, None), (0, None)]),
    ],
)
def test_rows_add_up_to_the_bill(
    server: ChatServer, ledger: Ledger, choices: list[Any], usage: tuple[int, int] | None, expected: list[Any]
):
    """By hand, as the ledger keeps them; where the server counts, the run has spent just that."""
    said = {} if usage is None else {"usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))}
    server.fault = lambda body, n: reply({"choices": choices} | said)
    answers(config(server, 3), ledger, samples("a", 3))
    outcomes, environment = answers(config(server, 3), ledger, samples("a", 3))
    counted = [
        (one.answer.n_prompt_tokens, one.answer.n_completion_tokens) if isinstance(one.answer, Completion) else None
        for one in outcomes
    ]
    assert counted == expected
    if None not in expected:  # else the second run asked again
        assert environment.counts["requests"] == 0


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**5), min_size=1, max_size=9))
def test_parts_are_whole_and_add_up(n: int, weights: list[int]):
    """Each is the exact part rounded down or up."""
    parts = divide(n, weights)
    assert sum(parts) == n
    if any(weights):
        assert all(abs(part * sum(weights) - n * one) < sum(weights) for part, one in zip(parts, weights, strict=True))


def test_a_missing_choice_has_no_part():
    """Its place stays empty, and the others have all."""
    one = Completion(text="a", n_prompt_tokens=4, n_completion_tokens=4)
    first, second, third = share_usage([None, one, one])
    assert first is None and second and third
    assert [(two.n_prompt_tokens, two.n_completion_tokens) for two in (second, third)] == [(4, 2), (0, 2)]


def test_a_budget_pays_the_prompt_once(server: ChatServer, ledger: Ledger):
    """By the server's own rule: a prompt token a character of the body, 3 an answer. The next group would be too much.

    Without the server's count, the prompt is estimated once, and the answers by their bytes together.
    """
    requests = [*samples("a", 4), *samples("b", 4)]
    most = most_tokens(requests[0].messages, None, 32, n_answers=4)
    assert most == Tokens(most_tokens(requests[0].messages, None, 32).prompt, 4 * 32)
    budget = Budget(BudgetParams(max_total_tokens=most.total + 1))
    with pytest.raises(BudgetSpent):
        answers(config(server, 4), ledger, requests, budget)
    (body,) = server.asked
    assert budget.spent == Tokens(len(body), 12)

    server.fault = lambda body, n: reply({"choices": [choice(i, "12345") for i in range(4)]})
    _, environment = answers(config(server, 4), ledger, samples("c", 4))
    assert environment.budget.spent == Tokens(1 + 4, 5) and environment.budget.n_estimated == 4


def test_a_forecast_counts_a_group_once(ledger: Ledger):
    """Three groups of two, one of them half answered and one answered: two requests of four answers."""
    identity = {"choices_per_request": 2}
    requests = [*samples("1234", 4), *samples("12345678", 2)]
    for one in requests[:3]:
        ledger.put(one.key(identity), Completion(text="y").to_bytes())
    forecast = Forecast(ledger, identity)
    outcomes = list(forecast.generate(iter(requests)))
    assert [isinstance(one.answer, Completion) for one in outcomes] == [True] * 3 + [False] * 3
    assert (forecast.n_requests, forecast.n_answered) == (2, 3)
    assert forecast.tokens == Tokens(1 + 4 + 2 + 4, 4 * 32)


def test_a_group_is_left_to_whoever_has_a_part_of_it(server: ChatServer, ledger: Ledger):
    """Another owner of the ledger file holds one key: nothing of the group is held here, until it lets go."""
    requests = samples("a", 3)
    with openai_api.openai_api(config(server, 3), Environment(ledger=ledger)) as backend:
        keys = [one.key(backend.identity) for one in [*requests, *samples("b", 1)]]
        with Ledger.open(ledger.path) as other:
            assert other.claim([keys[1]]).granted == [keys[1]]
            outcomes = backend.generate(iter([*samples("b", 1), *requests]))
            assert isinstance(next(iter(outcomes)).answer, Completion)
            deadline = time.monotonic() + 10
            granted: set[bytes] = set()
            while len(granted) < 2 and time.monotonic() < deadline:
                granted |= set(other.claim([keys[0], keys[2]]).granted)
            assert granted == {keys[0], keys[2]} and server.n_requests == 1
            other.put(keys[1], Completion(text="theirs").to_bytes())
            other.release(granted)
            rest = list(outcomes)
    assert rest[1].answer == Completion(text="theirs") and server.n_requests == 2
    assert texts(rest)[::2] == [answer_to(server.bodies[1])["choices"][i]["message"]["content"] for i in (0, 2)]


def test_samples_of_a_group_must_come_at_once(server: ChatServer, ledger: Ledger):
    """Sample 1 without sample 0; conversations, settings and gaps part groups, whatever the order of drawing."""
    with pytest.raises(ParamsError, match=r"choices_per_request: sample 1 is asked for without .* 4 share a request"):
        answers(config(server, 4), ledger, samples("a", 4, start=1))
    assert server.n_requests == 0
    warmer = [
        Request(messages=one.messages, sampling=SAMPLING.model_copy(update={"temperature": 1.0}))
        for one in samples("a", 1)
    ]
    requests = [*samples("a", 2), *samples("b", 1), *samples("b", 5), *warmer, *samples("a", 1)]
    assert [len(group) for group in Groups(iter(requests), 4)] == [2, 1, 4, 1, 1, 1]


def test_until_verified_asks_by_rounds(server: ChatServer, ledger: Ledger):
    """No answer passes: five attempts at each of 20 prompts in rounds of 4 by 2, so 2 + 1 requests of 2, 2 and 1."""
    prompts = [
        Prompt(id=f"p{i}", messages=[Message(role="user", content=f"number {i}")], reference="100") for i in range(20)
    ]
    rule = UntilVerified(verifier="math_answer", max_attempts=5, round_size=4)
    with openai_api.openai_api(config(server, 2), Environment(ledger=ledger, concurrency=3)) as backend:
        attempts = list(until_verified(rule, SAMPLING, prompts, backend.generate))
        assert len(attempts) == 100 and server.n_requests == 60
        assert sorted(body.get("n", 1) for body in server.bodies) == [1] * 20 + [2] * 40
        plain = list(n_samples(NSamples(samples_per_prompt=5), SAMPLING, prompts, backend.generate))
    assert [one.outcome.answer for one in plain] == [one.outcome.answer for one in attempts]
    assert server.n_requests == 60

    section = SECTION | {"method": "until_verified", "choices_per_request": 4, "max_attempts": 8}
    with pytest.raises(ParamsError, match="choices_per_request: 4 attempts share a request, and round_size=1"):
        parse(section)
    parse(section | {"round_size": 8})
    parse(section | {"choices_per_request": 1})


@pytest.mark.parametrize("backend", [openai_api, batch_api, vllm_server])
@pytest.mark.parametrize(("name", "value"), [("n", 2), ("best_of", 4), ("n", "2")])
def test_answers_that_would_be_lost_are_not_asked_for(backend: Any, name: str, value: Any):
    """`n` and `best_of` in extra_body, for all who send it; 1 and null ask for no more."""
    section = {"backend": backend.__name__.rpartition(".")[2], "model": "m"}
    section |= {} if backend is vllm_server else {"base_url": SECTION["base_url"]}
    kind: type[Params] = backend.Config
    with pytest.raises(ParamsError, match=rf"extra_body: .*{name}={value!r} buys .* set choices_per_request"):
        validate(section | {"extra_body": {name: value}}, kind)
    validate(section | {"extra_body": {"n": 1, "best_of": None}}, kind)


def test_a_batch_has_one_answer_a_row():
    """batch_api knows no choices_per_request."""
    with pytest.raises(ParamsError, match="choices_per_request: unknown parameter"):
        validate(SECTION | {"backend": "batch_api", "choices_per_request": 2}, batch_api.Config)


def test_n_is_ours_above_one(server: ChatServer, ledger: Ledger):
    """An `n` of 1 or null in extra_body does not take it away."""
    for extra in ({"n": 1}, {"n": None}):
        outcomes, _ = answers(config(server, 2, extra_body=extra), ledger, samples(json.dumps(extra), 2))
        assert server.bodies[-1]["n"] == 2 and len(set(texts(outcomes))) == 2
