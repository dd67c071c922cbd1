"""The engine in the process, by a small package named `vllm`; tests/e2e/test_vllm.py runs the real one.

Oracles: what that package notes of its loads and requests, and its answers, which are a function of prompt and seed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen.backends.base import Environment
from datagen.backends.ledger import Ledger
from datagen.backends.vllm_offline import Config, vllm_offline
from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.params import validate

# Notes loads and requests in the folder that $FAKE_VLLM names; generation number $FAKE_VLLM_HANG never ends.
PACKAGE = """
import json, os, time
from pathlib import Path
from types import SimpleNamespace
from vllm import exceptions

class SamplingParams:
    def __init__(self, **given):
        self.__dict__.update(given)

class StructuredOutputsParams:
    def __init__(self, json):
        self.json = json

def note(name, row):
    with (Path(os.environ["FAKE_VLLM"]) / name).open("a") as file:
        file.write(json.dumps(row) + "\\n")

class Tokenizer:
    def apply_chat_template(self, messages, tools, add_generation_prompt, return_dict):
        if messages[0]["role"] != "user":
            raise TypeError("the first must be a user's")
        return [ord(letter) for letter in messages[-1]["content"]]

    def encode(self, text, add_special_tokens):
        return [0] * add_special_tokens + [ord(letter) for letter in text]

class LLM:
    def __init__(self, **given):
        if given.get("quantization") == "none such":
            raise ValueError("Unknown quantization\\nmethod")
        note("loads.jsonl", given | {"variables": {n: v for n, v in os.environ.items() if n.startswith("VLLM_")}})
        limit = given.get("max_model_len", 64)
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=limit))
        self.n_calls = 0

    def get_tokenizer(self):
        return Tokenizer()

    def generate(self, prompts, params, use_tqdm):
        self.n_calls += 1
        outputs = []
        for prompt, one in zip(prompts, params, strict=True):
            ids = prompt["prompt_token_ids"]
            text = "".join(map(chr, ids))
            asked = dict(one.__dict__)
            if form := asked.pop("structured_outputs", None):
                if "strang" in form.json:
                    raise exceptions.VLLMClientError("Invalid type:\\nstrang")
                asked["json"] = form.json
            note("asked.jsonl", {"text": text} | asked)
            said = "" if text == "silent" else f"{one.seed} {text}"
            ranked = {9: ("u", -1.5, 2), 7: ("t", -2.5, 3), 8: (None, -0.5, 1)}
            ranked = {i: SimpleNamespace(decoded_token=t, logprob=p, rank=r) for i, (t, p, r) in ranked.items()}
            logprobs = None if one.logprobs is None else [ranked]  # the likeliest two, and the drawn one
            drawn = SimpleNamespace(text=said, token_ids=(7,), finish_reason="stop", logprobs=logprobs)
            outputs.append(SimpleNamespace(prompt_token_ids=ids, outputs=[drawn]))
        if self.n_calls == int(os.environ.get("FAKE_VLLM_HANG", 0)):
            time.sleep(600)
        return outputs
"""

# Argument 1: the Config as JSON; 2: (role, text) and, maybe, the schema of each request, of role raw a text without
# a conversation. Prints [answer or reason, from_ledger] and counts.
RUN = """
import json, sys
from datagen.backends.base import Environment, Request, Sampling
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.vllm_offline import Config, vllm_offline
from datagen.contracts.errors import DatastillError
config, turns = map(json.loads, sys.argv[1:])
requests = [
    Request(
        messages=[{"role": role, "content": text}] if role != "raw" else [],
        prompt=text if role == "raw" else None,
        sampling=Sampling(temperature=0.5, top_p=0.9, max_new_tokens=8, seed=seed, stop=("x",)),
        response_schema=schema[0] if schema else None,
    )
    for seed, (role, text, *schema) in enumerate(turns)
]
with Ledger.open(ledger_path()) as ledger:
    environment = Environment(ledger=ledger)
    try:
        with vllm_offline(Config.model_validate(config), environment) as backend:
            outcomes = list(backend.generate(requests))
    except DatastillError as error:
        sys.exit(f"{type(error).__name__}: {error}")
rows = []
for one in outcomes:
    answer = json.loads(one.answer.to_bytes()) if hasattr(one.answer, "text") else one.answer.reason
    rows.append([answer, one.from_ledger])
print(json.dumps([rows, environment.counts]))
"""


class Node:
    """A machine with the package and a model."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        (folder / "site" / "vllm").mkdir(parents=True)
        (folder / "site" / "vllm" / "__init__.py").write_text(PACKAGE)
        (folder / "site" / "vllm" / "exceptions.py").write_text("class VLLMClientError(Exception): pass\n")
        (folder / "site" / "vllm" / "sampling_params.py").write_text("from vllm import StructuredOutputsParams\n")
        (folder / "tiny").mkdir()
        (folder / "tiny" / "config.json").write_text("{}")
        self._path = os.pathsep.join([str(folder / "site"), str(root)])

    def start(self, turns: list[tuple[str, ...]], hang: int = 0, **config: Any) -> "subprocess.Popen[str]":
        section = {"backend": "vllm_offline", "model": str(self.folder / "tiny")} | config
        environment = os.environ | {
            "PYTHONPATH": self._path, "FAKE_VLLM": str(self.folder), "FAKE_VLLM_HANG": str(hang),
            "DATASTILL_HOME": str(self.folder / "home"),
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(section), json.dumps(turns)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, turns: list[tuple[str, ...]], **config: Any) -> tuple[list[Any], dict[str, float]]:
        process = self.start(turns, **config)
        said, errors = process.communicate()
        assert process.returncode == 0, errors
        return json.loads(said)

    def noted(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def node(tmp_path: Path, root: Path) -> Node:
    return Node(tmp_path, root)


def test_every_row_once_with_its_ids(node: Node):
    """Two blocks; requests as vllm.LLM wants them, by hand; bad rows fail alone; the rerun loads no engine."""
    turns = [*(("user", f"number {i}") for i in range(5)), ("system", "be"), ("user", "silent"), ("user", "l" * 60)]
    options = {"block_size": 4, "logprobs": True, "top_logprobs": 2, "max_model_len": 60, "dtype": "float16"}
    args = {"engine_args": {"quantization": "fp8"}, "machine_args": {"enforce_eager": True}, "tensor_parallel_size": 2}
    rows, counts = node.run(turns, **options, **args)
    for i, (answer, from_ledger) in enumerate(rows[:5]):
        text = f"number {i}"
        assert answer == {
            "text": f"{i} {text}", "finish_reason": "stop", "n_prompt_tokens": 8, "n_completion_tokens": 1,
            "logprobs": [["t", -2.5]], "top_logprobs": [[["", -0.5], ["u", -1.5]]],
            "prompt_token_ids": list(text.encode()), "token_ids": [7],
        }  # fmt: skip
        assert not from_ledger
    assert [answer for answer, _ in rows[5:]] == ["chat_template", "empty_answer", "prompt_too_long"]
    assert [one["text"] for one in node.noted("asked.jsonl")] == [*(f"number {i}" for i in range(5)), "silent"]
    assert node.noted("asked.jsonl")[3] == {
        "text": "number 3", "temperature": 0.5, "top_p": 0.9, "max_tokens": 8, "stop": ["x"], "seed": 3, "logprobs": 2,
    }  # fmt: skip
    (load,) = node.noted("loads.jsonl")
    variables = load.pop("variables")
    assert load == {
        "model": str(node.folder / "tiny"), "dtype": "float16", "logprobs_mode": "raw_logprobs", "max_model_len": 60,
        "max_logprobs": 20, "tensor_parallel_size": 2, "generation_config": "vllm", "quantization": "fp8",
        "enforce_eager": True,
    }  # fmt: skip
    assert (variables["VLLM_ENABLE_V1_MULTIPROCESSING"], variables["VLLM_BATCH_INVARIANT"]) == ("0", "0")
    assert (counts["requests"], counts["batches"], counts["ledger_hits"]) == (6, 2, 0)

    again, counts = node.run(turns[:5], **options, **args | {"machine_args": {"max_num_seqs": 4}})
    assert [answer for answer, _ in again] == [answer for answer, _ in rows[:5]]
    assert all(from_ledger for _, from_ledger in again) and counts["ledger_hits"] == 5
    assert len(node.noted("loads.jsonl")) == 1


def test_a_raw_prompt_goes_to_the_engine(node: Node):
    """Its own tokens, none added; the engine is told to keep special tokens, for such a request alone."""
    rows, _ = node.run([("user", "chat"), ("raw", "<s>raw"), ("raw", "")])
    assert [answer if isinstance(answer, str) else answer["text"] for answer, _ in rows] == [
        "0 chat", "1 <s>raw", "empty_prompt"
    ]  # fmt: skip
    asked = [(one["text"], one.get("skip_special_tokens")) for one in node.noted("asked.jsonl")]
    assert asked == [("chat", None), ("<s>raw", False)]


def test_a_schema_goes_to_the_engine(node: Node):
    """As vLLM's SamplingParams take it, for the row that has one; what the engine refuses ends the run in one line."""
    schema = '{"type": "object"}'
    rows, _ = node.run([("user", "free"), ("user", "held", schema)])
    assert [answer["text"] for answer, _ in rows] == ["0 free", "1 held"]
    assert [one.get("json") for one in node.noted("asked.jsonl")] == [None, schema]
    process = node.start([("user", "held", '{"type": "strang"}')])
    _, errors = process.communicate()
    assert process.returncode == 1
    assert re.search("BackendError: vLLM refuses a schema: Invalid type: strang; structured_output=none asks", errors)


def test_a_killed_run_repeats_one_block(node: Node):
    """SIGKILL while the third block is being asked: the two before it are kept."""
    turns = [("user", f"number {i}") for i in range(20)]
    process = node.start(turns, hang=3, block_size=5)
    deadline = time.monotonic() + 60
    while len(node.noted("asked.jsonl")) < 15:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    rows, counts = node.run(turns, block_size=5)
    assert [answer["text"] for answer, _ in rows] == [f"{i} number {i}" for i in range(20)]
    assert (counts["ledger_hits"], counts["requests"]) == (10, 10)
    times = Counter(one["text"] for one in node.noted("asked.jsonl"))
    assert sorted(times.values()) == [1] * 15 + [2] * 5


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"engine_args": {"quantization": "none such"}}, "BackendError: vLLM does not load .*: Unknown quantization"),
        ({"model": "no-such-model"}, "MissingError: model 'no-such-model' is neither"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded(node: Node, config: dict[str, Any], said: str):
    """One line."""
    process = node.start([("user", "a")], **config)
    _, errors = process.communicate()
    assert process.returncode == 1 and len(errors.splitlines()) == 1
    assert re.match(said, errors), errors


def test_without_vllm(tmp_path: Path):
    """This interpreter has none."""
    config = Config.model_validate({"backend": "vllm_offline", "model": str(tmp_path)})
    with (
        Ledger.open(tmp_path / "ledger.sqlite") as ledger,
        pytest.raises(MissingError, match="needs vLLM in the Python that runs it"),
        vllm_offline(config, Environment(ledger=ledger)),
    ):
        pass


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"machine_args": {"dtype": "float16"}}, "machine_args: .*dtype: not given"),
        ({"machine_args": {"quantization": "fp8", "max_num_seqs": 4}}, "machine_args: .*quantization: .* engine_args"),
        ({"engine_args": {"model": "x"}}, "engine_args: .*model: not given"),
        ({"block_size": 0}, "block_size"),
        ({"top_logprobs": 5}, "top_logprobs: .*logprobs=true"),
    ],
)
def test_bad_params(given: dict[str, Any], named: str):
    with pytest.raises(ParamsError, match=named):
        validate({"backend": "vllm_offline", "model": "m"} | given, Config)
