"""The budget of a run, by itself and as the traces stage keeps it against a real server on loopback.

Oracles: sums and prices by hand, and what the server itself says that it was asked and has billed.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends.base import Completion, Environment, Request, Sampling
from datagen.backends.budget import (
    Budget,
    BudgetParams,
    BudgetSpent,
    Tokens,
    cost,
    estimated_prompt_tokens,
    estimated_text_tokens,
    most_tokens,
)
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger
from datagen.backends.openai_api import Config, openai_api
from datagen.backends.scripted import Config as Scripted
from datagen.backends.scripted import scripted
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Message, Prompt, Trace
from datagen.contracts.stage import main
from datagen.stages.report import STAGE as REPORT
from datagen.stages.verify import STAGE as VERIFY
from tests.chat_server import ChatServer, Fault, late, reply, running
from tests.datagen.conftest import write_pipeline

PRICES = {"price_per_million_prompt_tokens": 0.1, "price_per_million_completion_tokens": 0.3}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


def billed(server: ChatServer) -> int:
    """Tokens, by the rule of the server's own answers: a prompt token a character of the body, 3 an answer."""
    return sum(n * (len(body) + 3) for body, n in server.asked.items())


def ask(text: str, max_new_tokens: int = 32) -> Request:
    return Request(
        messages=[Message(role="user", content=text)], sampling=Sampling(max_new_tokens=max_new_tokens, seed=1)
    )


def test_prices_are_exact():
    """0.1 and 0.3 a million: three and one token cost 0.0000006, where binary fractions give 6.000000000000001e-07."""
    assert cost(Tokens(3, 1), PRICES) == Decimal("0.0000006")
    assert cost(Tokens(3, 1), PRICES, price_share=0.5) == Decimal("0.0000003")
    assert cost(Tokens(3, 1), {}) is None


def test_tokens_by_rule():
    """By hand: é is two bytes, so 9 bytes, 3 tokens and 4; at most 9 and 64 + 16, with tools of 2 bytes 512 more."""
    messages = [Message(role="user", content="Bé brief")]
    assert estimated_prompt_tokens(messages) == 3 + 4
    assert most_tokens(messages, None, 10) == Tokens(9 + 80, 10)
    assert most_tokens(messages, "[]", 10) == Tokens(9 + 80 + 2 + 512, 10)
    assert most_tokens(messages, None, 10, {"max_tokens": 20}, 3).completion == 60
    assert most_tokens(messages, None, 10, {"max_tokens": None, "max_completion_tokens": 7}).completion == 7
    schema = {"max_tokens": 10, "n": 1, "response_format": {"type": "json_object"}}  # [{"type": "json_object"}]
    assert most_tokens(messages, None, 10, schema) == Tokens(9 + 80 + 25, 10)
    assert most_tokens(messages, None, 10, {"tools": [{}]}) == Tokens(9 + 80 + 6 + 512, 10)
    assert (estimated_text_tokens("12345", None, ""), estimated_text_tokens("")) == (2, 0)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=40), st.integers(1, 300))
def test_what_is_spent_never_exceeds_the_bound(attempts: list[tuple[int, int]], bound: int):
    """Any attempts, none above its most: the sum of what they cost, added up beside the budget."""
    budget = Budget(BudgetParams(max_total_tokens=bound))
    spent = 0
    for most, share in attempts:
        taken = budget.take([Tokens(0, most)])
        if not taken:
            assert spent + most > bound
            continue
        taken[0].answered(0, paid := min(most, share), [], None)
        spent += paid
        budget.settle(taken)
    assert budget.spent.total == spent <= bound


def test_a_request_waits_for_what_is_set_aside():
    """Two of 60 under a bound of 100: the second starts once the first has cost 10; a third of 90 is refused."""

    async def run() -> list[str]:
        budget, happened, first_is_in = Budget(BudgetParams(max_total_tokens=100)), list[str](), asyncio.Event()

        async def buy(name: str, most: int, paid: int) -> None:
            async with budget.purchase(Tokens(0, most)) as purchase:
                happened.append(f"{name} starts")
                first_is_in.set()
                await asyncio.sleep(0.01)
                purchase.answered(0, paid, [], None)
                happened.append(f"{name} ends")

        await asyncio.gather(buy("a", 60, 10), buy("b", 60, 10))
        with pytest.raises(BudgetSpent, match="max_total_tokens=100: 0 prompt and 20 completion tokens spent"):
            await buy("c", 90, 10)
        return happened

    assert asyncio.run(run()) == ["a starts", "a ends", "b starts", "b ends"]


def test_what_a_server_adds_is_set_aside_from_then_on():
    """A most of 10, of which two cost 25: 15 more for each later one, so of 100, 50 are left, and two of 25 fit."""
    budget = Budget(BudgetParams(max_total_tokens=100))
    first = budget.take([Tokens(10)] * 2)
    for one in first:
        one.answered(25, 0, [], None)
    budget.settle(first)
    assert [one.most for one in budget.take([Tokens(10)] * 5)] == [Tokens(25)] * 2


def test_an_attempt_without_a_word_counts_with_its_most():
    budget = Budget(BudgetParams.model_validate(PRICES | {"max_cost": 1.0}))
    budget.settle(budget.take([Tokens(5, 7)]))
    free = budget.take([Tokens(5, 7)])
    free[0].free()
    budget.settle(free)
    assert (budget.spent, budget.n_unknown) == (Tokens(5, 7), 1)
    assert budget.facts()["spent_cost"] == 0.0000026


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"max_cost": 1}, "max_cost: .*needs price_per_million_prompt_tokens and"),
        ({"price_per_million_prompt_tokens": 1}, "price_per_million_completion_tokens: .*give both"),
        ({"max_total_tokens": 0}, "max_total_tokens: .*greater than or equal to 1"),
    ],
)
def test_params_that_say_nothing(section: dict[str, Any], said: str):
    with pytest.raises(ParamsError, match=said):
        validate(section, BudgetParams)


def test_bounds_are_in_no_manifest_and_prices_are():
    values = validate(PRICES | {"max_cost": 5, "max_total_tokens": 7}, BudgetParams).values()
    assert values == PRICES


def test_a_budget_needs_a_limit_on_answers(server: ChatServer, tmp_path: Path):
    config = Config.model_validate(
        {"backend": "openai_api", "base_url": server.base_url, "model": "m", "extra_body": {"max_tokens": None}}
    )
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        budget = Budget(BudgetParams(max_total_tokens=10))
        with (
            pytest.raises(ParamsError, match=r"extra_body\.max_tokens"),
            openai_api(config, Environment(ledger=ledger, budget=budget)),
        ):
            pass


@pytest.mark.parametrize("slow", [None, late(5.0), reply(b"", 504)])
def test_openai_api_counts_attempts_as_they_end(server: ChatServer, tmp_path: Path, slow: Fault | None):
    """An answer by the server's count, a 500 and a 400 for nothing, one that timed out with its most; by hand."""
    times_out = slow is not None
    faults = {
        "bad": reply({"error": {"message": "no"}}, 400), "busy": reply(b"", 500), "slow": slow,
        "silent": reply({"choices": [{"message": {"content": "12345"}}]}),
    }  # fmt: skip
    server.fault = lambda body, n: faults.get(body["messages"][-1]["content"]) if n == 1 else None
    config = Config.model_validate(
        {"backend": "openai_api", "base_url": server.base_url, "model": "m", "max_tries": 2, "timeout_s": 1}
    )
    requests = [ask(text) for text in ("fine", "bad", "busy", "silent", *(["slow"] if times_out else []))]
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        environment = Environment(ledger=ledger)
        with openai_api(config, environment) as backend:
            list(backend.generate(requests))
            list(backend.generate(requests[:1]))  # the ledger's are free
    budget = environment.budget
    by_text = {json.loads(body)["messages"][-1]["content"]: len(body) for body in server.asked}
    twice = most_tokens(requests[-1].messages, None, 32) + Tokens(by_text["slow"], 3) if times_out else Tokens()
    silent = Tokens(-(-len("silent") // 4) + 4, 2)
    assert budget.spent == Tokens(by_text["fine"], 3) + Tokens(by_text["busy"], 3) + silent + twice
    assert (budget.n_estimated, budget.n_unknown) == (1, int(times_out))


def test_a_forecast_counts_what_the_ledger_lacks(tmp_path: Path):
    """Three requests, one of them answered and one asked for twice: two to buy, their tokens by the rule."""
    requests = [ask("12345678", 10), ask("1234", 20), ask("1234", 20), ask("x", 30)]
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.put(requests[3].key({"m": 1}), Completion(text="y").to_bytes())
        forecast = Forecast(ledger, {"m": 1})
        outcomes = list(forecast.generate(iter(requests)))
    assert [isinstance(o.answer, Completion) for o in outcomes] == [False, False, False, True]
    assert (forecast.n_requests, forecast.n_answered) == (2, 2)
    assert forecast.tokens == Tokens(2 + 4 + 1 + 4, 30)
    budget = Budget(BudgetParams.model_validate(PRICES), price_share=0.5)
    assert forecast.facts(budget)["forecast_cost"] == pytest.approx((11 * 0.1 + 30 * 0.3) / 1e6 / 2, rel=1e-12)
    assert "cost of at most about 0.000005" in forecast.describe(budget)


def test_a_batch_is_asked_whole_or_not_at_all(tmp_path: Path):
    """The scripted backend, 4 at a time: 3 words a prompt and 8 an answer, so a batch costs 44 and may cost 432."""
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        environment = Environment(ledger=ledger, concurrency=4, budget=Budget(BudgetParams(max_total_tokens=550)))
        said = r"max_total_tokens=550: 36 prompt and 96 completion tokens spent"
        requests = (ask(f"one two {i:03}", 17) for i in range(40))
        with scripted(Scripted(backend="scripted"), environment) as backend, pytest.raises(BudgetSpent, match=said):
            list(backend.generate(requests))
        assert len(ledger) == 12


# The stage, as a process of its own.


def run_stage(server: ChatServer, folder: Path, *changed: str, code: int = 0) -> str:
    command = f"""{sys.executable} -m datagen.stages.traces --prompts {folder}/p.jsonl --out {folder}/out
        --metrics {folder}/out.json --concurrency 8 --set backend=openai_api base_url={server.base_url} model=m
        max_new_tokens=32"""
    inherited = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    done = subprocess.run(
        [*command.split(), *changed],
        env=inherited | {"DATASTILL_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def test_the_stage_stops_at_its_budget_and_goes_on(server: ChatServer, tmp_path: Path):
    """Exit code 4 with one line, the server has billed no more than the bound, and more room buys the rest alone.

    The bytes are then those that a run without a bound gives.
    """
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "p{i}", "prompt": "number {i}"}}\n' for i in range(60)))
    prices = [f"{name}={value}" for name, value in PRICES.items()]
    server.latency_s = 0.01
    said = run_stage(server, tmp_path, *prices, "max_total_tokens=5000", code=4)
    assert "max_total_tokens=5000" in said and "run again" in said and "Traceback" not in said
    assert "60 requests" in said and "cost of at most about" in said  # the forecast
    n_bought = server.n_requests
    assert 0 < n_bought < 60 and 4000 < billed(server) <= 5000
    assert not (tmp_path / "out").exists()
    said = run_stage(server, tmp_path, *prices, "max_cost=0.01")
    assert f"{60 - n_bought} requests" in said and f"{n_bought} more in the ledger" in said
    assert (server.n_requests, set(server.asked.values())) == (60, {1})
    facts = json.loads((tmp_path / "out.run.json").read_text())
    assert facts["forecast_requests"] == 60 - n_bought == facts["requests"]
    assert facts["spent_completion_tokens"] == 3 * (60 - n_bought)
    manifest = (tmp_path / "out/manifest.json").read_bytes()
    run_stage(server, tmp_path, *prices)
    assert (tmp_path / "out/manifest.json").read_bytes() == manifest
    assert json.loads((tmp_path / "out.run.json").read_text())["spent_cost"] == 0


# What the rows cost, in verify's metrics and in the report.


def write_traces(folder: Path, params: dict[str, Any]) -> Path:
    """Two right answers, one of which has no usage, and a wrong one."""
    manifest = {"stage": "traces", "method": "n_samples", "params": params, "inputs": {}, "teacher": {"model": "m"}}
    prompt = Prompt(id="p", messages=[Message(role="user", content="What is 3 + 4?")], reference="7")
    counts = [("#### 7", 1000, 200), ("#### 8", 1000, 200), ("#### 7", None, None)]
    with DatasetWriter(folder, Trace, manifest) as writer:
        for i, (answer, n_prompt, n_completion) in enumerate(counts):
            writer.read()
            writer.write(
                Trace(
                    id=f"p#{i}", prompt=prompt, sample_index=i, completion=answer, teacher="m",
                    n_prompt_tokens=n_prompt, n_completion_tokens=n_completion,
                )
            )  # fmt: skip
    return folder


def test_the_cost_of_a_verified_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By hand, at half the price: 2,000 and 4 + 4 prompt tokens, 400 and 2 of answers; two rows are kept."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    traces = write_traces(tmp_path / "traces", PRICES | {"batch_price_share": 0.5})
    arguments = ["--traces", str(traces), "--out", str(tmp_path / "out"), "--metrics", str(tmp_path / "verify.json")]
    assert main(VERIFY, [*arguments, "--set", "method=math_answer"]) == 0
    total = (2008 * 0.1 + 402 * 0.3) / 1e6 / 2
    figures = json.loads((tmp_path / "verify.json").read_text())["cost"]
    assert figures == pytest.approx(
        {"total": total, "per_verified_row": total / 2, "answers_with_estimated_usage": 1}, rel=1e-12
    )
    facts = json.loads((tmp_path / "verify.run.json").read_text())
    assert {name: facts[f"cost_{name}"] for name in figures} == figures
    arguments[1] = str(write_traces(tmp_path / "free", {}))
    assert main(VERIFY, [*arguments, "--set", "method=math_answer"]) == 0
    assert "cost" not in json.loads((tmp_path / "verify.json").read_text())


def test_the_report_shows_the_cost_of_a_verified_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    write_pipeline(tmp_path)
    inputs = [word for name in ("prompts", "traces", "verified") for word in (f"--{name}", f"{tmp_path}/data/{name}")]
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    for shown in (True, False):
        (metrics / "verify.run.json").write_text(
            json.dumps(
                {"seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_bytes": 1}
                | ({"cost_per_verified_row": 0.0125} if shown else {})
            )
        )
        assert main(REPORT, [*inputs, "--run-metrics", str(metrics), "--out", str(tmp_path / "report")]) == 0
        page = (tmp_path / "report/index.html").read_text()
        assert ("<dd>0.0125</dd><dt>cost of a verified answer</dt>" in page) is shown
