"""The extract stage as a process of its own: a local model, a server, kills, what no row comes of.

Oracles: the bytes of an unbroken run, the ledger's own count, the server's own answers, scripts whose turns are known.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import answer_to, running
from tests.datagen.stages.conftest import hashes, n_answers, table
from tests.tiny_model import write_tiny_model
from tests.waiting import wait_until


def start(home: Path, out: Path, *settings: str) -> subprocess.Popen[str]:
    command = f"{sys.executable} -m datagen.stages.extract --out {out} --metrics {out}.json --set"
    inherited = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", "OPENAI_API_KEY")}
    return subprocess.Popen(
        [*command.split(), *settings],
        env=inherited | {"DATASTILL_HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def run(tmp_path: Path, name: str, *settings: str, code: int = 0) -> str:
    return finish(start(tmp_path / "home", tmp_path / name, *settings), code)


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(out.with_name(f"{out.name}.json").read_text())


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path: Path):
    """SIGKILL after some batches of a real model: the rerun asks for what the ledger lacks, nothing else."""
    model = write_tiny_model(tmp_path / "tiny", silent=True)
    settings = ("n_samples=96", f"model={model}", "batch_size=8", "max_new_tokens=400", "max_prompt_tokens=500")
    settings = (*settings, "cut_answers=keep", "temperature=1.0", "seed=0")
    finish(start(tmp_path / "unbroken_home", tmp_path / "unbroken", *settings))
    home, out = tmp_path / "home", tmp_path / "out"
    process = start(home, out, *settings)
    wait_until(lambda: n_answers(home) >= 16, timeout_s=300)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_kept = n_answers(home)
    assert 16 <= n_kept < n_answers(tmp_path / "unbroken_home") and not out.exists()
    finish(start(home, out, *settings))
    assert hashes(out) == hashes(tmp_path / "unbroken")
    assert n_answers(home) == n_answers(tmp_path / "unbroken_home")
    facts = json.loads((tmp_path / "out.run.json").read_text())
    assert facts["ledger_hits"] >= n_kept
    assert facts["requests"] + n_kept <= n_answers(home) + 8  # a batch that was on its way at most
    rows = metrics(out)["rows"]
    assert rows["in"] == 96 == rows["out"] + rows["rejected"] and rows["out"] > 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["template"]["prefix"], manifest["template"]["system_prompt"]) == ("<s>user: ", "")


def test_a_server_is_asked_with_the_literal_texts(tmp_path: Path):
    """Two requests a sample at the completions API, prompts by hand; rows are the server's own words; asked once."""
    prefix = "Two people talk. The first of them has a question: <|user|>"  # the server repeats its first 40 letters
    texts = (f"prefix={json.dumps(prefix)}", "between=<|end|><|assistant|>")
    with running() as server:
        settings = ("backend=openai_api", f"base_url={server.base_url}", "model=m", "n_samples=20", *texts)
        said = run(tmp_path, "out", *settings)
        bodies = {body["prompt"]: body for body in server.bodies[20:]}
        first = [answer_to(body)["choices"][0]["text"] for body in server.bodies[:20]]
        assert {body["prompt"] for body in server.bodies[:20]} == {prefix}
        run(tmp_path, "again", *settings)
        assert (server.n_requests, set(server.asked.values())) == (40, {1})
    assert repr(prefix) in said
    assert hashes(tmp_path / "again") == hashes(tmp_path / "out")
    rows = table(tmp_path / "out")
    assert {row["messages"][0]["content"] for row in rows} == {text.strip() for text in first}
    for row in rows:
        raw = json.loads(row["info"])["raw"]
        question = raw.partition("<|end|>")[0]
        answer = answer_to(bodies[f"{prefix}{question}<|end|><|assistant|>"])["choices"][0]["text"]
        assert (raw, row["completion"]) == (f"{question}<|end|><|assistant|>{answer}", answer.strip())
        assert [one["role"] for one in row["messages"]] == ["user"]


def test_what_no_row_comes_of_is_accounted_for(tmp_path: Path):
    """A script of two answers that differ in white space: one row for each pair of turns, the others are duplicates."""
    script = 'answers=["one  two", "one two\\n", "special <|end|>", "three"]'
    texts = ("prefix=<|user|>", "between=<|end|><|assistant|>")
    run(tmp_path, "out", "backend=scripted", "n_samples=60", script, *texts)
    rows = [(row["messages"][0]["content"], row["completion"]) for row in table(tmp_path / "out")]
    plain = [tuple(" ".join(text.split()) for text in row) for row in rows]
    assert sorted(plain) == [(a, b) for a in ("one two", "three") for b in ("one two", "three")]
    told = metrics(tmp_path / "out")
    assert told["rejected"].keys() == {"duplicate", "special_token"}
    assert told["rows"] == {"in": 60, "out": 4, "rejected": 56} and told["samples"] == 60
    assert len(table(tmp_path / "out", "rejections.parquet")) == 56


def test_an_answer_without_a_question(tmp_path: Path):
    """The tiny model's template with nothing asked; one request a sample, and no message before the answer."""
    model = write_tiny_model(tmp_path / "tiny", silent=True)
    settings = (f"model={model}", "n_samples=4", "max_new_tokens=40", "start=assistant", "cut_answers=keep")
    run(tmp_path, "out", *settings)
    rows = table(tmp_path / "out")
    assert rows and all(row["messages"] == [] and row["completion"] for row in rows)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["template"]["prefix"] == "<s>assistant: "


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (("n_samples=0",), 2, "n_samples"),
        (("n_samples=1", "prefix=a"), 2, "give both prefix and between"),
        (("n_samples=1", "prefix=a", "between=b", "start=system"), 2, "leave start out"),
        (("n_samples=1", "backend=scripted"), 2, "set template_model"),
        (("n_samples=3", "backend=scripted", "fail_every=1", "prefix=a", "between=b"), 4, "3 of 3 samples"),
    ],
)
def test_bad_input_is_said_in_one_line(tmp_path: Path, settings: tuple[str, ...], code: int, said: str):
    """Before anything is asked, or, of a teacher that never answers, after it."""
    assert said in run(tmp_path, "out", *settings, code=code)
    assert not (tmp_path / "out").exists()
