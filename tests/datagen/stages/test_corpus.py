"""The corpus stage as a process against a real server on loopback: its rows, kills, refusals, bad narratives.

Oracles: the server's own count of what it was asked, an unbroken run's bytes, rows counted by hand.
"""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiohttp import web

from benchmarks.schema_answers import schema_answer
from datagen.contracts.dataset import read_manifest
from tests.chat_server import ChatServer, Fault, reply, running
from tests.tiny_model import write_tiny_model

STEPS = ("actors", "context", "labels", "reveal", "rewrite", "utterances")
TABLES = ("actors", "contexts", "label_map", "rewrites", "soft_labels", "utterances")


def answering(text: str) -> Fault:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return reply({"object": "chat.completion", "model": "m", "choices": [choice], "usage": {"completion_tokens": 9}})


def slowly(body: dict[str, Any], n: int) -> Fault:
    async def respond(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return await answering(schema_answer(body))(request)

    return respond


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Answers by instances of the schemas that it is sent."""
    with running() as server:
        server.fault = lambda body, n: answering(schema_answer(body))
        yield server


def write_narratives(path: Path, n: int) -> Path:
    rows = ({"id": f"n{i}", "text": f"On day {i} the miller met a goose."} for i in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


EMO_PILLARS = "method=emo_pillars n_actors=1 n_utterances=2 n_neutral=0 max_cosine=1 n_measured=0 language=null"


def start(
    server: ChatServer, narratives: Path, out: Path, *changed: str, method: str = EMO_PILLARS
) -> "subprocess.Popen[str]":
    command = f"""{sys.executable} -m datagen.stages.corpus --narratives {narratives} --out {out} --concurrency 8
        --metrics {out}.json --set {method} backend=openai_api base_url={server.base_url} model=m"""
    inherited = {name: value for name, value in os.environ.items() if name not in {"OPENAI_API_KEY", "DVC_ROOT"}}
    return subprocess.Popen(
        [*command.split(), *changed],
        env={"DATASTILL_HOME": str(out.parent / "home"), **inherited},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(server: ChatServer, narratives: Path, out: Path, *changed: str, code: int = 0, **more: str) -> dict[str, Any]:
    process = start(server, narratives, out, *changed, **more)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return {"said": said} | (json.loads(out.with_name(f"{out.name}.json").read_text()) if code == 0 else {})


def content(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_every_step_is_a_table_and_every_row_is_counted(server: ChatServer, tmp_path: Path):
    metrics = run(server, write_narratives(tmp_path / "n.jsonl", 12), tmp_path / "out")
    assert (
        metrics["rows"]["in"] == metrics["rows"]["out"] + metrics["rows"]["rejected"] == 48
    )  # two a row, four a source
    assert metrics["steps"]["calls.actors"] == metrics["steps"]["calls.utterances"] == 12
    assert {name.removeprefix("calls.") for name in metrics["steps"] if name.startswith("calls.")} == set(STEPS)
    assert server.n_requests == sum(n for name, n in metrics["steps"].items() if name.startswith("calls."))
    manifest = read_manifest(tmp_path / "out")
    assert manifest["record"] == "Example" and manifest["rows"] == metrics["rows"]
    tables = {name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in TABLES}
    for name, table in tables.items():
        assert table["id"].is_unique().all(), name
    ids = {"": {f"n{i}" for i in range(12)}, **{name: set(table["id"]) for name, table in tables.items()}}
    parents = {"actors": "", "utterances": "actors", "soft_labels": "utterances", "contexts": "utterances"}
    for name, above in parents.items():
        assert set(tables[name]["parent"]) <= ids[above]
    rows = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    plain = rows.filter(pl.col("family") == "contextless").join(tables["utterances"], on="id")
    assert len(plain) == 24 and (plain["text"] == plain["text_right"]).all() and (rows["teacher"] == "m").all()
    assert all(0 < one["weight"] <= 1 for labels in rows["labels"] for one in labels)
    sent = {body["response_format"]["json_schema"]["schema"]["required"][0] for body in server.bodies}
    assert sent == {"actors", "utterances", "labels", "context", "sentences", "utterance"}


def test_a_killed_run_goes_on_to_the_same_bytes(server: ChatServer, tmp_path: Path):
    """SIGKILL at three moments, of which each rerun asks for the rest; at most what was in flight is asked twice."""
    narratives = write_narratives(tmp_path / "n.jsonl", 12)
    (tmp_path / "a").mkdir()
    run(server, narratives, tmp_path / "a" / "out")
    n_calls = server.n_requests
    server.asked.clear()
    server.fault = slowly
    (tmp_path / "b").mkdir()
    for share in (0.1, 0.4, 0.8):
        process = start(server, narratives, tmp_path / "b" / "out")
        while server.n_requests < share * n_calls and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    run(server, narratives, tmp_path / "b" / "out")
    assert content(tmp_path / "b" / "out") == content(tmp_path / "a" / "out")
    assert server.n_requests - len(server.asked) <= 3 * 8 and len(server.asked) == n_calls


def test_a_changed_step_asks_again_for_what_follows_alone(server: ChatServer, tmp_path: Path):
    narratives = write_narratives(tmp_path / "n.jsonl", 5)
    first = run(server, narratives, tmp_path / "out")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "rewrite.txt").write_text("Say $utterance in $context otherwise.")
    before = server.n_requests
    again = run(server, narratives, tmp_path / "other", f"templates={tmp_path / 'templates'}")
    made_with = [read_manifest(tmp_path / out)["made_with"] for out in ("out", "other")]
    assert (
        made_with[0]["taxonomy"] == made_with[1]["taxonomy"] and made_with[0]["templates"] != made_with[1]["templates"]
    )
    assert server.n_requests - before == first["steps"]["calls.rewrite"] == again["steps"]["calls.rewrite"] > 0


def test_without_schemas_a_refused_call_loses_its_row(server: ChatServer, tmp_path: Path):
    """No request bears a schema; prose where an object was asked for is asked about once more, and then dropped."""
    server.fault = lambda body, n: answering("I am sorry, but I cannot do that.")
    narratives = write_narratives(tmp_path / "n.jsonl", 3)
    said = run(server, narratives, tmp_path / "out", "structured_output=none", code=4)["said"]
    assert "no row was written, 3 were dropped (no_json 3)" in said
    assert server.n_requests == 6 and not [body for body in server.bodies if "response_format" in body]


def test_bad_narratives_are_rejected_and_the_others_written(server: ChatServer, tmp_path: Path):
    narratives = tmp_path / "n.jsonl"
    lines = [
        json.dumps({"id": "good", "text": "A goose met a miller."}),
        json.dumps({"id": "empty", "text": "  "}),
        json.dumps({"id": "long", "text": "x" * 2**20}),
        "{cut",
        json.dumps({"id": "last", "text": "A miller met a goose."}),
    ]
    narratives.write_text("\n".join(lines) + "\n")
    run(server, narratives, tmp_path / "out", "max_rejected_share=1")
    dropped = pl.read_parquet(tmp_path / "out" / "rejections.parquet")
    reasons = dict(zip(dropped["id"], dropped["reason"], strict=True))
    assert reasons["empty"] == "empty_text" and reasons["long"] == "narrative_too_long"
    assert reasons["n.jsonl:4"] == "malformed_json"
    assert set(pl.read_parquet(tmp_path / "out" / "part-*.parquet")["source"]) == {"good", "last"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["taxonomy=missing.yaml"], "missing.yaml"),
        (["method=no_such"], "there are emo_pillars, rationale, rephrase"),
        (["n_actors=0"], "n_actors"),
        (["choices_per_request=2"], "every step is a request of its own"),
    ],
)
def test_bad_parameters_are_told_before_anything_is_asked(
    server: ChatServer, tmp_path: Path, changed: list[str], said: str
):
    assert said in run(server, write_narratives(tmp_path / "n.jsonl", 1), tmp_path / "out", *changed, code=2)["said"]
    assert not server.n_requests


@pytest.mark.parametrize("method", ["rationale", "rephrase"])
def test_the_other_methods_go_through_the_same_functions(server: ChatServer, tmp_path: Path, method: str):
    narratives = write_narratives(tmp_path / "n.jsonl", 4)
    run(server, narratives, tmp_path / "out", method=f"method={method}")
    n = len(pl.read_parquet(tmp_path / "out" / "part-*.parquet"))
    assert n == {"rationale": 8, "rephrase": 16}[method]


def test_a_student_learns_labels_and_reasons(server: ChatServer, tmp_path: Path):
    """train_lm takes what rationale wrote; the loss falls on both tasks, which are half of the rows each."""
    run(server, write_narratives(tmp_path / "n.jsonl", 6), tmp_path / "out", method="method=rationale")
    model = write_tiny_model(tmp_path / "model")
    settings = f"student={model} max_tokens=512 epochs=4 batch_size=6 learning_rate=0.01 n_threads=1"
    arguments = f"--data {tmp_path}/out --out {tmp_path}/student --metrics {tmp_path}/train.json --set {settings}"
    environment = os.environ | {"DATASTILL_HOME": str(tmp_path / "home"), "DATASTILL_DEVICE": "cpu"}
    command = [sys.executable, "-m", "trainers.stages.train_lm", *arguments.split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "train.json").read_text())
    assert trained["rows"] == {"in": 12, "out": 12, "rejected": 0}
    assert trained["loss_last_epoch"] < trained["loss_first_step"]
