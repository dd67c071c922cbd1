"""The traces stage as a process of its own against a real server on loopback: kills, faults, two at once, keys.

Oracles: the server's own count of what it was asked, an unbroken run's bytes, and the rows that were put in.
"""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.chat_server import ChatServer, Fault, closed, half, reply, running

KEY = "sk-planted-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


def write_prompts(path: Path, n_rows: int) -> Path:
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "prompt number {i}"}}\n' for i in range(n_rows)))
    return path


def start(
    server: ChatServer, prompts: Path, out: Path, *changed: str, concurrency: int = 64, **environment: str
) -> subprocess.Popen[str]:
    """The command of the issue, with a ledger beside the prompts."""
    command = f"""{sys.executable} -m datagen.stages.traces --prompts {prompts} --out {out} --concurrency {concurrency}
        --metrics {out}.json --set method=n_samples backend=openai_api base_url={server.base_url} model=m
        samples_per_prompt=1 temperature=0.7 seed=0"""
    inherited = {name: value for name, value in os.environ.items() if name not in {"OPENAI_API_KEY", "DVC_ROOT"}}
    return subprocess.Popen(
        [*command.split(), *changed],
        env={"DATASTILL_HOME": str(prompts.parent / "home"), **inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(server: ChatServer, prompts: Path, out: Path, *changed: str, code: int = 0, **more: Any) -> str:
    process = start(server, prompts, out, *changed, **more)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    return said


def content(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_answers_open_as_a_dataset(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every row once, in order, each with its own answer; another concurrency or time limit asks nothing new."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    from datasets import load_dataset

    prompts = write_prompts(tmp_path / "p.jsonl", 300)
    run(server, prompts, tmp_path / "out")
    rows: list[Any] = list(load_dataset("parquet", data_files=f"{tmp_path}/out/part-*.parquet", split="train"))
    assert [row["prompt_id"] for row in rows] == [f"p{i}" for i in range(300)]
    assert all(row["completion"].endswith(f"for prompt number {i}") for i, row in enumerate(rows))
    assert (server.n_requests, set(server.asked.values())) == (300, {1})

    run(server, prompts, tmp_path / "again", "timeout_s=30", "max_tries=3", concurrency=3)
    assert server.n_requests == 300
    assert json.loads((tmp_path / "again.run.json").read_text())["ledger_hits"] == 300
    assert content(tmp_path / "again") == content(tmp_path / "out")


def test_an_answer_of_tool_calls_alone_is_a_trace(server: ChatServer, tmp_path: Path):
    """The calls that the server was told to make, in the row's own column."""
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    server.fault = lambda body, n: reply({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    run(server, write_prompts(tmp_path / "p.jsonl", 2), tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out" / "part-*.parquet").select("completion", "tool_calls").rows()
    assert [(text, json.loads(made)) for text, made in rows] == [("", calls)] * 2


FAULTS: dict[str, tuple[Fault, str]] = {
    "400": (reply({"error": {"message": "no"}}, 400), "http_400"),
    "429": (reply({"error": {"message": "slow down"}}, 429, Retry_After="9"), "http_429"),
    "500": (reply(b"<html>", 500), "http_500"),
    "closed": (closed, "connection"),
    "half": (half, "bad_body"),
    "json": (reply(b'{"broken'), "bad_body"),
    "empty": (reply({"choices": []}), "bad_body"),
}


def test_every_row_of_a_faulty_server_is_accounted_for(server: ChatServer, tmp_path: Path):
    """Rows with a fault end as rejections by kind, the others as traces; a mended server is asked for those alone."""
    kinds = [*FAULTS, *["fine"] * 93]
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": f"{kind}-{i}", "prompt": kind}) + "\n" for i, kind in enumerate(kinds))
    )
    # equal prompts of different ids have seeds of their own, so each is a request of its own
    server.fault = lambda body, n: FAULTS.get(body["messages"][0]["content"], (None, ""))[0]
    settings = ("max_tries=2", "max_rate_limited_s=5")
    run(server, prompts, tmp_path / "out", *settings)
    rejected = pl.read_parquet(tmp_path / "out" / "rejections.parquet")
    assert Counter(rejected["reason"]) == Counter(reason for _, reason in FAULTS.values())
    assert {id.split("-")[0]: reason for id, reason in rejected.select("id", "reason").iter_rows()} == {
        kind: reason for kind, (_, reason) in FAULTS.items()
    }
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == {"in": 100, "out": 93, "rejected": 7}

    said = run(server, prompts, tmp_path / "out", *settings, "max_failed_share=0.05", code=4)
    assert "7 of 100 requests ended without an answer" in said and "Traceback" not in said

    server.fault = lambda body, n: None
    before = server.n_requests
    run(server, prompts, tmp_path / "out", *settings)
    assert server.n_requests - before == 7
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rows"]["out"] == 100


def test_kill_at_half(server: ChatServer, tmp_path: Path):
    """SIGKILL at 200 of 400 rows, 32 in flight: at most 32 are bought twice, and the bytes are an unbroken run's."""
    server.latency_s = 0.05
    prompts = write_prompts(tmp_path / "p.jsonl", 400)
    process = start(server, prompts, tmp_path / "out", concurrency=32)
    deadline = time.monotonic() + 30
    while server.n_requests < 200 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 200 <= server.n_requests < 400 and not (tmp_path / "out").exists()

    run(server, prompts, tmp_path / "out", concurrency=32)
    assert len(server.asked) == 400 and 400 < server.n_requests <= 432
    run(server, prompts, tmp_path / "unbroken", DATASTILL_HOME=str(tmp_path / "home2"))
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


def test_kill_with_several_choices_a_request(server: ChatServer, tmp_path: Path):
    """SIGKILL at half of 100 requests for four answers each: all or none of each four are kept, 8 are in flight.

    At most those are bought twice, and the bytes are an unbroken run's.
    """
    server.latency_s = 0.05
    settings = ("samples_per_prompt=8", "choices_per_request=4")
    prompts = write_prompts(tmp_path / "p.jsonl", 50)
    process = start(server, prompts, tmp_path / "out", *settings, concurrency=8)
    deadline = time.monotonic() + 30
    while server.n_requests < 50 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 50 <= server.n_requests < 100 and not (tmp_path / "out").exists()
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite")) as ledger:
        (n_kept,) = ledger.execute("SELECT count(*) FROM answers").fetchone()
    assert n_kept % 4 == 0 and 0 <= server.n_requests - n_kept // 4 <= 8
    n_twice = server.n_requests - n_kept // 4

    run(server, prompts, tmp_path / "out", *settings, concurrency=8)
    assert len(server.asked) == 100 and server.n_requests == 100 + n_twice
    run(server, prompts, tmp_path / "unbroken", *settings, concurrency=3, DATASTILL_HOME=str(tmp_path / "home2"))
    assert server.n_requests == 200 + n_twice
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")
    rows = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    billed = [len(body) for body in server.asked]
    assert len(rows) == 400 and rows["n_prompt_tokens"].sum() == sum(billed)
    assert rows["n_completion_tokens"].to_list() == [3] * 400
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["params"]["choices_per_request"] == manifest["teacher"]["choices_per_request"] == 4


def test_two_at_once_with_several_choices_a_request(server: ChatServer, tmp_path: Path):
    """No group is asked for twice, neither complains, and both write the same."""
    server.latency_s = 0.05
    settings = ("samples_per_prompt=4", "choices_per_request=4")
    prompts = write_prompts(tmp_path / "p.jsonl", 100)
    processes = [start(server, prompts, tmp_path / name, *settings, concurrency=8) for name in ("one", "two")]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert (server.n_requests, len(server.asked)) == (100, 100)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_two_at_once_on_one_ledger(server: ChatServer, tmp_path: Path):
    """No answer is asked for twice, neither complains, and both write the same."""
    server.latency_s = 0.05
    prompts = write_prompts(tmp_path / "p.jsonl", 400)
    processes = [start(server, prompts, tmp_path / name, concurrency=16) for name in ("one", "two")]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert (server.n_requests, len(server.asked)) == (400, 400)
    assert "lock" not in "".join(said)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    asked = [json.loads((tmp_path / f"{name}.run.json").read_text())["requests"] for name in ("one", "two")]
    assert sum(asked) == 400 and min(asked) > 0


def test_key_is_nowhere(server: ChatServer, tmp_path: Path):
    """A planted key, which the server echoes in answers and errors, is in no file and in nothing that was said."""
    echo = {"error": {"message": f"Authorization: Bearer {KEY}"}}
    answer = {"choices": [{"message": {"content": f"you are {KEY}"}}]}
    faults = [reply(echo, 400), reply(echo, 500), reply(answer)]
    server.fault = lambda body, n: faults[int(body["messages"][0]["content"].split()[-1]) % 3]
    prompts = write_prompts(tmp_path / "p.jsonl", 9)
    settings = ("max_tries=1", "max_failed_share=1")
    said = run(server, prompts, tmp_path / "out", *settings, OPENAI_API_KEY=KEY)
    assert server.headers["Authorization"] == f"Bearer {KEY}"
    server.fault = lambda body, n: reply(echo, 401)
    said += run(server, prompts, tmp_path / "out", *settings, code=4, OPENAI_API_KEY=KEY)
    assert "refuses the key in $OPENAI_API_KEY" in said and "Traceback" not in said
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"manifest.json", "ledger.sqlite", "rejections.parquet"} <= {file.name for file in files}
    assert KEY not in said and not any(KEY.encode() in file.read_bytes() for file in files)
    texts = pl.read_parquet(tmp_path / "out" / "part-*.parquet")["completion"].to_list()
    details = pl.read_parquet(tmp_path / "out" / "rejections.parquet")["detail"].to_list()
    assert len(texts) == 3 and len(details) == 6 and not any(KEY in text for text in texts + details)


@pytest.mark.parametrize(
    ("changed", "fault", "code", "message"),
    [
        ((), reply({"error": {"message": "key?"}}, 401), 4, "wants a key: set $OPENAI_API_KEY"),
        (("model=mm",), reply({"error": {"message": "unknown"}}, 404), 4, "has no model 'mm'"),
        (("base_url=http://u:p4ss@127.0.0.1/v1",), None, 2, "base_url: holds a key"),
        (("modle=x",), None, 2, "modle: unknown parameter; did you mean model?"),
    ],
)
def test_one_line_for_what_the_user_can_mend(
    server: ChatServer, tmp_path: Path, changed: tuple[str, ...], fault: Fault | None, code: int, message: str
):
    """No traceback, no output, no more requests than slots."""
    server.fault = lambda body, n: fault
    said = run(server, write_prompts(tmp_path / "p.jsonl", 100), tmp_path / "out", *changed, code=code, concurrency=4)
    errors = [line for line in said.splitlines() if line.startswith("traces: ")]
    assert len(errors) == 1 and message in errors[0] and "Traceback" not in said and "p4ss" not in said
    assert not (tmp_path / "out").exists() and server.n_requests <= 4
