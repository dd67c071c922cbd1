"""batch_api against a real server on loopback, and as a process of its own that is killed at every step.

Oracles: the server's count of every answer that was bought, an unbroken run's bytes, and the rows that were put in.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.batch_api import Config, batch_api
from datagen.backends.budget import Budget, BudgetParams, BudgetSpent, most_tokens
from datagen.backends.ledger import Ledger
from datagen.backends.openai_api import Config as OpenAIConfig
from datagen.backends.openai_api import openai_api
from datagen.contracts.errors import BackendError, ParamsError
from datagen.contracts.records import Message
from datagen.contracts.stage import main
from datagen.stages.traces import STAGE
from tests.batch_server import BatchServer, running_batches
from tests.chat_server import answer_to, running

KEY = "sk-planted-0123456789/abcdef"
SAMPLING = Sampling(temperature=0.7, max_new_tokens=32, seed=1)
FAST = {"poll_s": 0.01, "max_poll_s": 0.02, "adopt_wait_s": 0.05}


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with running_batches() as server:
        yield server


def config(server: BatchServer, **changed: Any) -> Config:
    return Config.model_validate({"backend": "batch_api", "base_url": server.base_url, "model": "m"} | FAST | changed)


def ask(text: str, sampling: Sampling = SAMPLING) -> Request:
    return Request(messages=[Message(role="user", content=text)], sampling=sampling)


def answers(
    config: Config, ledger: Ledger, requests: Iterable[Request], budget: Budget | None = None
) -> tuple[list[Outcome], dict[str, float]]:
    environment = Environment(ledger=ledger, budget=budget or Budget())
    with batch_api(config, environment) as backend:
        return list(backend.generate(requests)), environment.counts


def left(ledger: Ledger) -> list[Path]:
    return list((ledger.path.parent / "batches").iterdir())


def reasons(outcomes: Iterable[Outcome]) -> Counter[str]:
    return Counter(o.answer.reason if isinstance(o.answer, Failure) else "answer" for o in outcomes)


def test_answers_in_order_and_from_the_ledger(server: BatchServer, ledger: Ledger):
    """Cut by count into 6 batches; the n-th outcome is the server's answer to the n-th body; a rerun asks nothing."""
    requests = [ask(f"number {i % 60}") for i in range(65)]  # the last five are asked for already
    outcomes, counts = answers(config(server, max_requests_per_batch=10), ledger, iter(requests))
    bodies = [json.loads(line)["body"] for batch in server.batches for line in lines_of(server, batch)]
    assert [len(lines_of(server, batch)) for batch in server.batches] == [10] * 6
    expected = [answer_to(bodies[i % 60])["choices"][0]["message"]["content"] for i in range(65)]
    assert [o.answer.text for o in outcomes if isinstance(o.answer, Completion)] == expected
    assert [o.request for o in outcomes] == requests
    assert [o.from_ledger for o in outcomes] == [False] * 60 + [True] * 5
    assert (counts["requests"], counts["ledger_hits"], counts["completion_tokens"]) == (60, 5, 180)
    assert left(ledger) == []

    again, counts = answers(config(server, max_requests_per_batch=3, poll_s=1), ledger, requests)
    assert [o.answer for o in again] == [o.answer for o in outcomes]
    assert (counts["requests"], counts["ledger_hits"], len(server.batches)) == (0, 65, 6)


def lines_of(server: BatchServer, batch: dict[str, Any]) -> list[bytes]:
    return server.files[batch["input_file_id"]].splitlines()


def test_the_files_are_as_the_api_wants_them(server: BatchServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Written out by hand from the API reference; the key is in the header and nowhere else."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    request = ask("Bé brief.")
    answers(config(server, extra_body={"top_k": 20}, completion_window="12h"), ledger, [request])
    (line,) = lines_of(server, server.batches[0])
    body = {
        "model": "m", "messages": [{"role": "user", "content": "Bé brief."}], "temperature": 0.7, "top_p": 1.0,
        "max_tokens": 32, "seed": 1, "top_k": 20,
    }  # fmt: skip
    key = json.loads(line).pop("custom_id")
    assert json.loads(line) == {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert ledger.get_many([bytes.fromhex(key)])
    assert server.batches[0]["completion_window"] == "12h"
    assert server.headers["Authorization"] == f"Bearer {KEY}"
    assert not any(KEY.encode() in content for content in server.files.values())


def test_an_answer_serves_openai_api_and_batch_api(server: BatchServer, ledger: Ledger):
    """Bought by either, asked for by the other: neither server is asked twice."""
    first, second = [ask(f"first {i}") for i in range(5)], [ask(f"second {i}") for i in range(5)]
    with running() as chat:
        environment = Environment(ledger=ledger)
        shared = {"base_url": chat.base_url, "model": "m", "provider": "p", "extra_body": {"top_k": 3}}
        with openai_api(OpenAIConfig.model_validate({"backend": "openai_api"} | shared), environment) as backend:
            bought = list(backend.generate(first))
            batched, counts = answers(config(server, **shared | {"base_url": server.base_url}), ledger, first + second)
            assert (counts["requests"], counts["ledger_hits"]) == (5, 5)
            assert [o.answer for o in batched[:5]] == [o.answer for o in bought]
            assert [o.answer for o in backend.generate(second)] == [o.answer for o in batched[5:]]
        assert chat.n_requests == 5


def test_a_batch_is_cut_by_size(server: BatchServer, ledger: Ledger):
    """No input file is above the bound, all are as full as they can be, and a request that fits none is a failure."""
    requests = [ask("x" * (100 + i)) for i in range(20)] + [ask("y" * 5000)]
    outcomes, _ = answers(config(server, max_bytes_per_batch=2000), ledger, requests)
    sizes = [len(server.files[batch["input_file_id"]]) for batch in server.batches]
    assert max(sizes) <= 2000 and len(sizes) < 20
    for batch, following in zip(server.batches, server.batches[1:], strict=False):
        first = len(lines_of(server, following)[0]) + 1
        assert len(server.files[batch["input_file_id"]]) + first > 2000
    assert reasons(outcomes) == {"answer": 20, "too_large": 1}


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "400": ({"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, "http_400"),
    "long": (
        {"response": {"status_code": 400, "body": {"error": {"message": "maximum context length is 8"}}}},
        "context_overflow",
    ),
    "500": ({"response": {"status_code": 500, "body": {"error": {"message": "oh"}}}}, "http_500"),
    "expired": ({"error": {"code": "batch_expired", "message": "too late"}}, "batch_expired"),
    "moderated": ({"error": {"code": "moderation-blocked", "message": "no"}}, "moderation_blocked"),
    "empty": (
        {"response": {"status_code": 200, "body": {"choices": [{"message": {"content": ""}}]}}}, "empty_answer"
    ),
    "broken": ({"response": {"status_code": 200, "body": {"choices": []}}}, "bad_body"),
    "absent": ({}, "no_row"),
    "garbled": ({"response": 7}, "no_row"),
}  # fmt: skip
PASSING = {"500", "expired", "broken", "absent", "garbled"}


def test_every_row_of_a_batch_is_accounted_for(server: BatchServer, ledger: Ledger):
    """Rows by what their file says: those that may pass are in three batches, the others in one."""
    server.row = lambda body, n: ROWS[kind][0] if (kind := body["messages"][-1]["content"]) in ROWS else None
    requests = [ask(text) for text in (*ROWS, *(f"fine {i}" for i in range(20)))]
    outcomes, counts = answers(config(server), ledger, requests)
    found = {o.request.messages[0].get("content"): o.answer for o in outcomes}
    assert {kind: found[kind].reason for kind in ROWS} == {kind: reason for kind, (_, reason) in ROWS.items()}  # type: ignore[union-attr]
    assert reasons(outcomes)["answer"] == 20 and len(outcomes) == len(requests)
    times = {json.loads(line)["body"]["messages"][0]["content"]: 0 for line in lines_of(server, server.batches[0])}
    for batch in server.batches:
        for line in lines_of(server, batch):
            times[json.loads(line)["body"]["messages"][0]["content"]] += 1
    assert {kind for kind, n in times.items() if n == 3} == PASSING
    assert {n for kind, n in times.items() if kind not in PASSING} == {1}
    assert (counts["rows_asked_again"], counts["requests"]) == (2 * len(PASSING), 29 + 2 * len(PASSING))
    assert left(ledger) == []


def test_expired_and_cancelled_batches_are_accounted_for(server: BatchServer, ledger: Ledger):
    """Half of the rows came before the end: of an expired batch the others are asked again, of a cancelled one not."""
    half = lambda body, n: {} if n == 1 and body["seed"] == 2 else None  # noqa: E731
    server.row = half
    server.status_of = lambda index: ["expired", "completed", "cancelled"][index]
    odd = SAMPLING.model_copy(update={"seed": 2})
    requests = [ask(f"{i}", odd if i % 2 else SAMPLING) for i in range(10)]
    outcomes, _ = answers(config(server), ledger, requests)
    assert reasons(outcomes) == {"answer": 10} and len(lines_of(server, server.batches[1])) == 5
    requests = [ask(f"more {i}", odd if i % 2 else SAMPLING) for i in range(10)]
    outcomes, _ = answers(config(server), ledger, requests)
    assert reasons(outcomes) == {"answer": 5, "batch_cancelled": 5} and len(server.batches) == 3
    assert set(server.bought.values()) == {1} and server.bought.total() == 15


def test_a_refused_batch(server: BatchServer, ledger: Ledger):
    """With a line, that row is a failure and the others are asked again; without, it is an error."""
    server.status_of = lambda index: "failed" if index in (0, 2) else "completed"
    server.errors = [{"code": "invalid_request", "message": "bad row", "line": 2}]
    outcomes, _ = answers(config(server), ledger, [ask(f"{i}") for i in range(4)])
    assert [o.answer.reason if isinstance(o.answer, Failure) else "" for o in outcomes] == [
        "",
        "invalid_request",
        "",
        "",
    ]
    server.errors = [{"code": "token_limit_exceeded", "message": "enqueued token limit reached", "line": None}]
    with pytest.raises(BackendError, match=r"refused .token_limit_exceeded.*max_requests_per_batch"):
        answers(config(server), ledger, [ask("another")])
    assert left(ledger) == [] and server.bought.total() == 3


@pytest.mark.parametrize("call", ["POST files", "POST batches", "GET batches", "GET files"])
@pytest.mark.parametrize("status", [429, 503, 600])
def test_a_call_that_fails_is_made_again(server: BatchServer, ledger: Ledger, call: str, status: int):
    """Each kind once, 600 being done and then a lost connection: all is answered, and bought once."""
    server.fault = lambda made, n: status if made == call and n == 1 else None
    outcomes, _ = answers(config(server), ledger, [ask(f"{i}") for i in range(6)])
    assert reasons(outcomes) == {"answer": 6}
    assert (len(server.batches), set(server.bought.values())) == (1, {1})


def test_a_server_that_stays_away_loses_nothing(server: BatchServer, ledger: Ledger):
    """One line that says how to go on; the next run adopts the batch."""
    server.fault = lambda call, n: 503 if call == "GET batches" else None
    with pytest.raises(BackendError, match=r"2 attempts failed.*run again to go on"):
        answers(config(server, max_tries=2), ledger, [ask(f"{i}") for i in range(6)])
    assert len(left(ledger)) == 1
    server.fault = lambda call, n: None
    outcomes, counts = answers(config(server), ledger, [ask(f"{i}") for i in range(7)])
    assert reasons(outcomes) == {"answer": 7}
    assert [o.from_ledger for o in outcomes] == [True] * 6 + [False]
    assert (counts["batches_adopted"], set(server.bought.values()), left(ledger)) == (1, {1}, [])


def test_errors_name_the_remedy(server: BatchServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BackendError, match=r"still in_progress after max_wait_s=0\.01.*run again"):
        server.n_looks = 10**6
        answers(config(server, max_wait_s=0.01), ledger, [ask("a")])
    server.batches.clear()
    with pytest.raises(BackendError, match=r"batch_0 with 1 requests is not at the server.*remove .*\.json to buy"):
        answers(config(server), ledger, [ask("a")])
    server.fault = lambda call, n: 401
    with pytest.raises(BackendError, match=r"wants a key: set \$OPENAI_API_KEY"):
        answers(config(server), ledger, [ask("b")])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(BackendError, match=r"refuses the key in \$OPENAI_API_KEY"):
        answers(config(server), ledger, [ask("b")])
    with pytest.raises(ParamsError, match="a parameter holds the key"):
        answers(config(server, extra_body={"note": KEY}), ledger, [ask("b")])


def test_batches_of_other_prompts_are_fetched_too(server: BatchServer, ledger: Ledger):
    """A run of other prompts ends with the earlier run's answers in the ledger, for which nothing is asked."""
    server.fault = lambda call, n: 503 if call == "GET batches" else None
    with pytest.raises(BackendError, match="attempts failed"):
        answers(config(server, max_tries=1), ledger, [ask(f"{i}") for i in range(6)])
    server.fault = lambda call, n: None
    server.n_looks = 0
    answers(config(server), ledger, [ask("other")])
    assert (len(ledger), left(ledger)) == (7, [])


def test_a_batch_at_another_address_is_not_bought_again(server: BatchServer, ledger: Ledger):
    """`provider` gives both addresses the same keys: nothing is asked of the second one that the first has sold."""
    server.fault = lambda call, n: 503 if call == "GET batches" else None
    with pytest.raises(BackendError, match="attempts failed"):
        answers(config(server, max_tries=1, provider="p"), ledger, [ask("a")])
    server.fault = lambda call, n: None
    with running_batches() as other:
        with pytest.raises(BackendError, match=rf"1 requests are in a batch at {server.base_url}.*base_url back") as e:
            answers(config(other, provider="p"), ledger, [ask("a"), ask("b")])
        assert str(left(ledger)[0]) in str(e.value) and not other.bought
        outcomes, _ = answers(config(other, provider="p"), ledger, [ask("b")])
        assert reasons(outcomes) == {"answer": 1} and len(left(ledger)) == 1
    outcomes, _ = answers(config(server, provider="p"), ledger, [ask("a"), ask("b")])
    assert [o.from_ledger for o in outcomes] == [True, True] and set(server.bought.values()) == {1}


def test_the_budget_is_never_exceeded(server: BatchServer, ledger: Ledger):
    """Room for a few at their most: batches shrink to what fits, the run ends resumable, and a rerun asks the rest."""
    requests = [ask(f"number {i}") for i in range(30)]
    assert most_tokens(requests[0].messages, None, 32).total == 8 + 80 + 32
    budget = Budget(BudgetParams(max_total_tokens=3000))
    with pytest.raises(BudgetSpent, match=r"max_total_tokens=3000.*spent by this run.*run again"):
        answers(config(server), ledger, requests, budget)
    n_bought = server.bought.total()
    assert 0 < n_bought < 30 and len(ledger) == n_bought and left(ledger) == []
    outcomes, _ = answers(config(server), ledger, requests)
    assert reasons(outcomes) == {"answer": 30} and set(server.bought.values()) == {1}


def test_answers_without_usage_are_estimated(server: BatchServer, ledger: Ledger):
    """Counted by hand from the rule: 8 bytes are 2 tokens and 4 for the message; the answer's bytes in fours."""
    server.has_usage = False
    budget = Budget()
    outcomes, _ = answers(config(server), ledger, [ask("12345678")], budget)
    (answer,) = [o.answer for o in outcomes if isinstance(o.answer, Completion)]
    assert (budget.spent.prompt, budget.spent.completion) == (6, -(-len(answer.text) // 4))
    assert budget.n_estimated == 1 and "1 answers by estimate" in budget.spending()


# A process of its own, killed.


def arguments(server: BatchServer, folder: Path, *changed: str) -> list[str]:
    settings = [f"{name}={value}" for name, value in FAST.items()]
    command = f"""--prompts {folder}/p.jsonl --out {folder}/out --metrics {folder}/out.json --set backend=batch_api
        base_url={server.base_url} model=m provider=p seed=0 max_requests_per_batch=10 max_batches=3"""
    return [*command.split(), *settings, *changed]


def start(server: BatchServer, folder: Path, *changed: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    return subprocess.Popen(
        [sys.executable, "-m", "datagen.stages.traces", *arguments(server, folder, *changed)],
        env=inherited | {"DATASTILL_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


def run_here(server: BatchServer, folder: Path) -> None:
    """The stage in this process, which has loaded everything already."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATASTILL_HOME", str(folder / "home"))
        environment.delenv("DVC_ROOT", raising=False)
        assert main(STAGE, arguments(server, folder)) == 0


def write_prompts(folder: Path, n_rows: int = 25) -> None:
    folder.mkdir()
    (folder / "p.jsonl").write_text("".join(f'{{"id": "p{i}", "prompt": "prompt {i}"}}\n' for i in range(n_rows)))


def content(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run that nobody kills writes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    write_prompts(folder)
    with running_batches() as server:
        refuse_number_7(server)
        run_here(server, folder)
    return content(folder / "out")


def refuse_number_7(server: BatchServer) -> None:
    server.row = lambda body, n: ROWS["400"][0] if body["messages"][-1]["content"] == "prompt 7" else None


@pytest.mark.parametrize("place", ["uploaded", "creating", "created", "looked at", "downloading"])
def test_a_kill_at_any_step_loses_and_rebuys_nothing(
    server: BatchServer, tmp_path: Path, unbroken: dict[str, str], place: str
):
    """SIGKILL while the server holds its answer back: the rerun ends with an unbroken run's bytes, all bought once.

    `creating` is the worst: the batch comes to be after its creator's death, while the next run looks for it.
    """
    folder = tmp_path / "run"
    write_prompts(folder)
    refuse_number_7(server)
    server.stop_at(place)
    process = start(server, folder)
    assert server.reached.wait(120)
    process.kill()
    process.wait()
    assert not (folder / "out").exists()
    process = start(server, folder, "adopt_wait_s=2") if place == "creating" else None
    while process and not server.calls["GET batches"] and process.poll() is None:
        time.sleep(0.01)
    server.go_on.set()
    if process:
        finish(process)
    else:
        run_here(server, folder)
    assert set(server.bought.values()) == {1} and server.bought.total() == 24
    rows, rejected = pl.read_parquet(folder / "out/part-*.parquet"), pl.read_parquet(folder / "out/rejections.parquet")
    assert [*rows["prompt_id"]] == [f"p{i}" for i in range(25) if i != 7]
    assert [*rejected["reason"]] == ["http_400"]
    assert list((folder / "home/batches").iterdir()) == []
    assert content(folder / "out") == unbroken


def test_two_processes_buy_nothing_twice(server: BatchServer, tmp_path: Path):
    """Started together on one ledger: every answer is bought once, and both end with all rows."""
    write_prompts(tmp_path / "a")
    write_prompts(tmp_path / "b")
    (tmp_path / "b/home").symlink_to(tmp_path / "a/home")
    (tmp_path / "a/home").mkdir()
    for process in [start(server, tmp_path / "a"), start(server, tmp_path / "b", "max_requests_per_batch=4")]:
        finish(process)
    assert set(server.bought.values()) == {1} and server.bought.total() == 25
    assert content(tmp_path / "a/out") == content(tmp_path / "b/out")
