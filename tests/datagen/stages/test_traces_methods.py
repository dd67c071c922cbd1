"""Methods, tool rows and reasoning through whole stages, against a real server on loopback; several teachers under DVC.

Oracles: the server's own count and order of what it was asked, rows written by hand, an unbroken run's bytes.
"""

import contextlib
import hashlib
import json
import os
import re
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
import yaml
from dvc.repo import Repo

from datagen import cli
from tests.chat_server import ChatServer, reply, running
from tests.tiny_model import write_tiny_model

CALLS = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 3, "b": 4}'}}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers, süß.",
            "parameters": {"type": "object", "properties": {"b": {"type": "number"}, "a": {"type": "number"}}},
        },
    }
]
# What a row says, and what the server must therefore see; `content` of a turn that calls may be absent or null.
TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Use the tool.\n"},
    {"role": "user", "content": "What is 3 + 4?"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "7"},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "So? "},
]
PLAIN_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Remember 7."},
    {"role": "assistant", "content": "I do."},
    {"role": "user", "content": "What was it?"},
]
ROWS: list[dict[str, Any]] = [
    {"id": "tools", "messages": TOOL_TURNS, "tools": TOOLS, "reference": "7"},
    {"id": "turns", "messages": PLAIN_TURNS, "reference": "7"},
    {"id": "calls", "messages": TOOL_TURNS[:2], "tools": TOOLS},
    {"id": "last", "messages": TOOL_TURNS[:4], "tools": TOOLS, "reference": "7"},
]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


def arguments(server: ChatServer, prompts: Path, out: Path, *settings: str, concurrency: int = 8) -> list[str]:
    command = f"""traces --prompts {prompts} --out {out} --concurrency {concurrency} --metrics {out}.json
        --set backend=openai_api base_url={server.base_url} model=m"""
    return [*command.split(), *settings]


def run(server: ChatServer, prompts: Path, out: Path, *settings: str, concurrency: int = 8) -> None:
    assert cli.main(arguments(server, prompts, out, *settings, concurrency=concurrency)) == 0


def content(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def needed(i: int) -> int:
    """At which of its requests prompt i is answered well; 9 is more than any budget here."""
    return (1, 1, 2, 1, 3, 9)[i % 6]


def right_at_last(body: dict[str, Any], n_seen: Counter[int]) -> dict[str, Any]:
    """A wrong answer until a prompt has been asked often enough; `n_seen` counts distinct requests by prompt."""
    i = int(body["messages"][0]["content"].split()[-1])
    n_seen[i] += 1
    return {"choices": [{"message": {"content": "7" if n_seen[i] >= needed(i) else "8"}, "finish_reason": "stop"}]}


def test_until_verified_killed_and_run_again(server: ChatServer, tmp_path: Path):
    """SIGKILL half way: no answer that was kept is asked again, no prompt more often than its rule says; equal bytes.

    The answers depend on the request alone, by the order in which one unbroken run first made a prompt's requests.
    """
    concurrency, n_prompts = 16, 120
    prompts = write(
        tmp_path / "p.jsonl", [{"id": f"p{i}", "prompt": f"number {i}", "reference": "7"} for i in range(n_prompts)]
    )
    settings = ("method=until_verified", "verifier=math_answer", "max_attempts=4", "window=32")
    answers: dict[str, dict[str, Any]] = {}
    n_seen = Counter[int]()

    def answer(body: dict[str, Any], n: int) -> Any:
        canonical = json.dumps(body, sort_keys=True)
        if canonical not in answers:
            answers[canonical] = right_at_last(body, n_seen)
        return reply(answers[canonical])

    server.fault = answer
    run(server, prompts, tmp_path / "unbroken", *settings, concurrency=concurrency)
    expected = [(f"p{i}", index) for i in range(n_prompts) for index in range(min(needed(i), 4))]
    kept = pl.read_parquet(tmp_path / "unbroken" / "part-*.parquet")
    assert kept.select("prompt_id", "sample_index").rows() == expected
    assert set(server.asked.values()) == {1} and server.n_requests == len(expected)
    metrics = json.loads((tmp_path / "unbroken.json").read_text())
    assert (metrics["prompts"], metrics["prompts_verified"]) == (n_prompts, n_prompts * 5 // 6)

    server.asked.clear()
    os.rename(tmp_path / "home", tmp_path / "home of the unbroken run")
    command = arguments(server, prompts, tmp_path / "out", *settings, concurrency=concurrency)
    process = subprocess.Popen([sys.executable, "-m", "datagen.cli", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while server.n_requests < len(expected) // 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    run(server, prompts, tmp_path / "out", *settings, concurrency=3)
    assert len(server.asked) == len(expected) and server.n_requests <= len(expected) + concurrency
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


def test_the_wire_stays_full_for_until_verified(server: ChatServer, tmp_path: Path):
    """All slots are in use at once, though every second prompt is asked again."""
    server.latency_s = 0.1
    rows = [{"id": f"p{i}", "prompt": f"number {i}", "reference": "7" if i % 2 else "none"} for i in range(64)]
    run(server, write(tmp_path / "p.jsonl", rows), tmp_path / "out", "method=until_verified", "max_attempts=2")
    assert server.peak == 8


def n_answers(home: Path) -> int:
    """Read with sqlite3 itself."""
    if not (file := home / "ledger.sqlite").exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as ledger:
        return ledger.execute("SELECT count(*) FROM answers").fetchone()[0]


def test_until_verified_on_a_model_of_this_machine_goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """SIGKILL after some batches: blocks hold the same requests again, so only what is missing is asked for.

    A model that was never trained passes no verifier, so every prompt takes its whole budget.
    """
    model, home = write_tiny_model(tmp_path / "tiny", ends=False), tmp_path / "home"
    quoted = [{"id": "startend:quotation", "kwargs": {}}]
    prompts = write(tmp_path / "p.jsonl", [{"id": f"p{i}", "prompt": str(i), "constraints": quoted} for i in range(24)])
    command = f"""traces --prompts {prompts} --metrics {tmp_path}/m.json --set backend=local model={model} batch_size=8
        max_new_tokens=20 method=until_verified verifier=instruction_constraints max_attempts=3 --out""".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "datagen.cli", *command, str(tmp_path / "out")], stderr=subprocess.DEVNULL
    )
    while n_answers(home) < 24 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_stored = n_answers(home)
    assert 24 <= n_stored < 72 and n_stored % 8 == 0 and not (tmp_path / "out").exists()
    assert cli.main([*command, str(tmp_path / "out")]) == 0
    facts = json.loads((tmp_path / "m.run.json").read_text())
    assert (facts["requests"], facts["ledger_hits"]) == (72 - n_stored, n_stored)
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "other home"))
    assert cli.main([*command, str(tmp_path / "unbroken")]) == 0
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


def test_progress_says_what_people_expect(server: ChatServer, tmp_path: Path):
    """On a terminal: rows, verified rate, in flight, tokens a second, retries by kind, cost."""
    server.latency_s = 0.1

    def answer(body: dict[str, Any], n: int) -> Any:
        if n == 1 and body["seed"] % 4 == 0:
            return reply({"error": {"message": "slow down"}}, 429, Retry_After="0.1")
        return None

    server.fault = answer
    rows = [{"id": f"p{i}", "prompt": f"number {i}", "reference": "7"} for i in range(48)]
    settings = ("method=until_verified", "max_attempts=2")
    settings += ("price_per_million_prompt_tokens=1000", "price_per_million_completion_tokens=1000")
    command = arguments(server, write(tmp_path / "p.jsonl", rows), tmp_path / "out", *settings)
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "datagen.cli", *command], stderr=slave, env=os.environ | {"COLUMNS": "250"}
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's other end is closed
        while more := os.read(master, 65536):
            shown += more
    os.close(master)
    assert process.wait() == 0, shown
    text = shown.decode()
    for pattern in (
        r"[1-9]\d* rows", r"\d+% of prompts verified", r"[1-8] in flight", r"\d+ tokens/s", r"retries 429 [1-9]",
        r"cost \d+\.\d\d", r"\d:\d\d:\d\d",
    ):  # fmt: skip
        assert re.search(pattern, text), (pattern, text)


def asked_for(server: ChatServer) -> dict[str, dict[str, Any]]:
    """Bodies by the row that they are of: its messages tell."""
    ids = {json.dumps(row["messages"], sort_keys=True): row["id"] for row in ROWS}
    return {ids[json.dumps(body["messages"], sort_keys=True)]: body for body in server.bodies}


def test_turns_and_tools_pass_through_every_stage(server: ChatServer, tmp_path: Path):
    """The server sees each row's turns and tools as they stand there; traces, verify and export give them back."""

    def answer(body: dict[str, Any], n: int) -> Any:
        calls = len(body["messages"]) == 2
        message: dict[str, Any] = {"role": "assistant", "content": None if calls else "It is 7.", "reasoning": "Hm."}
        if calls:
            message["tool_calls"] = CALLS
        return reply({"choices": [{"message": message, "finish_reason": "tool_calls" if calls else "stop"}]})

    server.fault = answer
    prompts = write(tmp_path / "p.jsonl", ROWS)
    run(server, prompts, tmp_path / "traces")
    bodies = asked_for(server)
    assert bodies.keys() == {"tools", "turns", "calls", "last"}
    assert all(bodies[row["id"]].get("tools") == row.get("tools") for row in ROWS)

    assert cli.main(f"verify --traces {tmp_path}/traces --out {tmp_path}/verified --set threshold=0".split()) == 0
    kept = pl.read_parquet(tmp_path / "verified" / "part-*.parquet")
    assert kept["prompt_id"].to_list() == ["tools", "turns", "calls", "last"]
    verdicts = pl.read_parquet(tmp_path / "verified" / "verdicts.parquet")["status"].to_list()
    assert verdicts == ["pass", "pass", "error", "pass"]  # a call has no reference to be judged by

    assert cli.main(f"export {tmp_path}/verified --format sft --out {tmp_path}/sft".split()) == 0
    exported = pl.read_parquet(tmp_path / "sft" / "part-*.parquet").to_dicts()
    for row, given in zip(exported, ROWS, strict=True):
        answered = {"role": "assistant", "reasoning_content": "Hm."}
        answered |= {"tool_calls": CALLS} if given["id"] == "calls" else {"content": "It is 7."}
        turns = [{key: value for key, value in turn.items() if value not in (None, "")} for turn in row["messages"]]
        expected = [{k: v for k, v in turn.items() if v not in (None, "")} for turn in given["messages"]]
        assert turns == [*expected, answered]
        assert (json.loads(row["tools"]) if row["tools"] else None) == given.get("tools")

    # what export wrote is a prompt again: the last turn, which answered, is left out, and the rest is asked as before
    again = [
        {"id": row["id"], "messages": given["messages"]} | ({"tools": row["tools"]} if row["tools"] else {})
        for row, given in zip(exported, ROWS, strict=True)
    ]
    n_asked = len(server.asked)
    run(
        server,
        write(tmp_path / "again.jsonl", [r | {"id": g["id"]} for r, g in zip(again, ROWS, strict=True)]),
        tmp_path / "t2",
    )
    assert len(server.asked) == n_asked


def test_reasoning_in_tags_is_split_again_without_asking(server: ChatServer, tmp_path: Path):
    """Three answers, with tags, cut inside them, without: other tags or rules change the rows and ask nothing."""
    said = ["[R]add[/R]7", "[R]add", "7"]
    server.fault = lambda body, n: reply(
        {"choices": [{"message": {"content": said[int(body["messages"][0]["content"])]}, "finish_reason": "stop"}]}
    )
    prompts = write(tmp_path / "p.jsonl", [{"id": str(i), "prompt": str(i), "reference": "7"} for i in range(3)])

    def rows(*settings: str) -> list[tuple[str | None, str]]:
        run(server, prompts, tmp_path / "out", *settings)
        return pl.read_parquet(tmp_path / "out" / "part-*.parquet").select("reasoning", "completion").rows()

    tags = "reasoning_tags=['[R]', '[/R]']"
    assert rows() == [(None, text) for text in said]
    assert rows(tags) == [("add", "7"), ("add", ""), (None, "7")]
    assert rows(tags, "without_reasoning=reject", "without_answer=reject") == [("add", "7")]
    rejected = pl.read_parquet(tmp_path / "out" / "rejections.parquet")
    assert rejected.select("id", "reason").with_columns(pl.col("id").str.slice(0, 1)).rows() == [
        ("1", "reasoning_only"),
        ("2", "no_reasoning"),
    ]
    assert server.n_requests == 3
    assert (
        cli.main(f"verify --traces {tmp_path}/out --out {tmp_path}/verified --metrics {tmp_path}/v.json".split()) == 0
    )
    # of three prompts one passed; that two answers were no use is no reason to leave their prompts out
    assert json.loads((tmp_path / "v.json").read_text())["pass_at_k"]["overall"]["1"] == {"rate": 0.3333, "prompts": 3}


def test_several_teachers_by_foreach(tmp_path: Path):
    """DVC runs one stage a teacher: each gets the same prompts, and has requests and answers of its own."""
    prompts = [{"id": f"p{i}", "prompt": f"number {i}", "reference": "7"} for i in range(5)]
    write(tmp_path / "prompts.jsonl", prompts)
    pipeline = {
        "stages": {
            "traces": {
                "foreach": {"one": {"words": 3}, "two": {"words": 5}},
                "do": {
                    "cmd": f"{sys.executable} -m datagen.stages.traces --prompts prompts.jsonl --out traces/${{key}}"
                    " --set backend=scripted method=n_samples samples_per_prompt=2 n_words=${item.words}",
                    "deps": ["prompts.jsonl"],
                    "outs": ["traces/${key}"],
                },
            }
        }
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    Repo.init(str(tmp_path), no_scm=True).close()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=tmp_path, env=os.environ | {"DVC_NO_ANALYTICS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    columns = ("prompt_id", "sample_index", "messages", "seed", "completion", "request_key")
    one, two = (
        pl.read_parquet(tmp_path / "traces" / name / "part-*.parquet").select(columns) for name in ("one", "two")
    )
    assert one["prompt_id"].to_list() == [f"p{i}" for i in range(5) for _ in range(2)]
    assert one.drop("completion", "request_key").rows() == two.drop("completion", "request_key").rows()
    assert {len(text.split()) for text in one["completion"]} == {3}
    assert {len(text.split()) for text in two["completion"]} == {5}
    assert not set(one["request_key"]) & set(two["request_key"])
