"""A program named `vllm` for where no vLLM is: a real process with an engine below it, serving over real HTTP.

It writes what it does into the folder that $FAKE_VLLM names: `starts.jsonl` (arguments, process ids, variables),
`asked.jsonl` (every body). Options of its own order a fault: `--fail-to-start`, `--never-ready`, and `--end-at N`,
which ends it by SIGKILL at its Nth request. With `--wait-for FOLDER` it takes its port when a file named after that is
there. To count the tokens of "fail" it answers with 500, to those of "once" the
first time. The engine ignores SIGTERM and has a session of its own.
"""

import json
import sys
from pathlib import Path
from typing import Any

import psutil

PROGRAM = r"""#!PYTHON
import argparse, hashlib, json, os, signal, subprocess, sys, threading, time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ENGINE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
folder = Path(os.environ["FAKE_VLLM"])
parser = argparse.ArgumentParser()
parser.add_argument("verb")
parser.add_argument("model")
parser.add_argument("--port", type=int)
parser.add_argument("--fail-to-start", action="store_true")
parser.add_argument("--never-ready", action="store_true")
parser.add_argument("--end-at", type=int, default=0)
parser.add_argument("--wait-for", type=Path)
options, _ = parser.parse_known_args()
engine = subprocess.Popen([sys.executable, "-S", "-c", ENGINE], start_new_session=True)
variables = {name: os.environ.get(name) for name in ("VLLM_BATCH_INVARIANT", "VLLM_NO_USAGE_STATS")}
started = {"arguments": sys.argv[1:], "pids": [os.getpid(), engine.pid], "variables": variables}
with (folder / "starts.jsonl").open("a") as file:
    file.write(json.dumps(started) + "\n")
print("loading", options.model, flush=True)
if options.fail_to_start:
    print("\n".join(f"line {n}" for n in range(50)))
    sys.exit("RuntimeError: no kernel image is available")
writing = threading.Lock()
n_asked = 0
n_counted = Counter()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(503 if options.never_ready else status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply({})

    def do_POST(self):
        global n_asked
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        body = json.loads(text)
        said = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        if self.path == "/tokenize":
            n_counted[said] += 1
            is_broken = said == "fail" or (said == "once" and n_counted[said] == 1)
            self.reply({"count": len(said)}, 500 if is_broken else 200)
            return
        with writing:
            n_asked += 1
            with (folder / "asked.jsonl").open("a") as file:
                file.write(text + "\n")
            if options.end_at and n_asked >= options.end_at:
                os.kill(os.getpid(), signal.SIGKILL)
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:8]
        texts = [f"{digest} for {said}", *(f"{digest} for {said}, {i}" for i in range(1, body.get("n", 1)))]
        message = {"role": "assistant"}
        choice = {"finish_reason": "stop", "token_ids": [len(said), 7]}
        choices = [choice | {"index": i, "message": message | {"content": text}} for i, text in enumerate(texts)]
        if self.path == "/v1/completions":
            choices = [choice | {"index": i, "text": text} for i, text in enumerate(texts)]
        usage = {"prompt_tokens": 3, "completion_tokens": 2 * len(texts)}
        self.reply({"choices": choices, "usage": usage, "prompt_token_ids": [1, 2, len(said)]})

class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # a client that gave up: vLLM's own log says nothing of it either

while options.wait_for and not (options.wait_for / str(options.port)).exists():
    time.sleep(0.01)
Server(("127.0.0.1", options.port), Handler).serve_forever()
"""


class FakeVllm:
    """The program and what it wrote.

    Attributes:
        program: to be named by $DATASTILL_VLLM.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "bin" / "vllm"
        self.program.parent.mkdir(parents=True)
        self.program.write_text(PROGRAM.replace("PYTHON", sys.executable, 1))
        self.program.chmod(0o755)

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that make it the vLLM to be taken."""
        return {"DATASTILL_VLLM": str(self.program), "FAKE_VLLM": str(self.folder)}

    def starts(self) -> list[dict[str, Any]]:
        """What each start noted."""
        return self._read("starts.jsonl")

    def asked(self) -> list[str]:
        """The last message of every request, repeated ones included."""
        return [body["messages"][-1]["content"] for body in self._read("asked.jsonl")]

    def bodies(self) -> list[dict[str, Any]]:
        """Every request."""
        return self._read("asked.jsonl")

    def living(self) -> list[int]:
        """Servers and engines that still run."""
        pids = [int(pid) for start in self.starts() for pid in start["pids"]]
        return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

    def _read(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
