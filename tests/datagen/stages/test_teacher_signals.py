"""Oracles: an unbroken run's bytes, counts of shards in the work folder, messages written by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from datagen.backends.base import Completion
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.transformers_models import encode
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from datagen.contracts.stage import load_method, main
from datagen.contracts.tensors import SHARD_ROWS, TokenSignals
from datagen.stages import teacher_signals
from datagen.stages.teacher_signals import STAGE
from tests.tiny_model import write_tiny_model

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)
WAIT_S = 600.0  # a start of torch on a busy machine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_traces(file: Path, n: int, **more: Any) -> Path:
    rows = [{"id": f"t{i}", "prompt": f"say {i % 7}", "completion": str(i) * (1 + i % 3)} | more for i in range(n)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(traces: Path, out: Path, *settings: str) -> list[str]:
    return ["--traces", str(traces), "--out", str(out), "--metrics", f"{out}.json", "--set", *settings]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_rows_in_are_rows_out_and_rejections(tmp_path: Path, tiny: Path):
    """A row without an answer and one that is too long are named; the others have a position for each token."""
    file = tmp_path / "traces.jsonl"
    texts = ["ab", "", "x" * 90, "cde"]
    rows = [{"id": f"t{i}", "prompt": "p", "completion": text} for i, text in enumerate(texts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["method=topk", "k=3", f"model={tiny}", "max_tokens=60", "max_rejected_share=0.6"]
    assert main(STAGE, arguments(file, tmp_path / "out", *settings)) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == {"in": 4, "out": 2, "rejected": 2}
    assert set(manifest["rejected"].values()) == {1} and "too_long" in manifest["rejected"]
    signals = TokenSignals(tmp_path / "out", manifest["tokenizer"]["sha256"])
    assert [(one.id, len(one.signal)) for one in signals] == [("t0", 3), ("t3", 4)]  # an end of turn each


def test_a_trace_beyond_the_teacher_s_positions_is_dropped(tmp_path: Path, tiny: Path):
    """It has 512, and a byte is a token; `max_tokens` is 4,096."""
    file = tmp_path / "traces.jsonl"
    rows = [{"id": f"t{n}", "prompt": "p", "completion": "x" * n} for n in (400, 600)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(STAGE, arguments(file, tmp_path / "out", f"model={tiny}", "max_rejected_share=0.5")) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rejected"] == {"too_long": 1} and manifest["rows"]["out"] == 1


def test_rows_at_the_end_change_the_last_shard_alone(tmp_path: Path, tiny: Path):
    settings = ["method=hybrid", "k=4", "n_draws=4", f"model={tiny}"]
    for n in (SHARD_ROWS + 8, SHARD_ROWS + 9):
        assert main(STAGE, arguments(write_traces(tmp_path / f"{n}.jsonl", n), tmp_path / f"out{n}", *settings)) == 0
    before, after = (contents(tmp_path / f"out{SHARD_ROWS + n}") for n in (8, 9))
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"part-00001.safetensors", "part-00001.parquet", "manifest.json"}


def test_a_killed_run_repeats_no_finished_shard_and_ends_with_equal_bytes(tmp_path: Path, tiny: Path, home: Path):
    """SIGKILL after the first of three shards; the output is not there, the rerun finds what was finished."""
    traces = write_traces(tmp_path / "traces.jsonl", 2 * SHARD_ROWS + 5)
    settings = ["method=sampled", "n_draws=3", "proposal_power=0.9", f"model={tiny}"]
    assert main(STAGE, arguments(traces, tmp_path / "unbroken", *settings)) == 0
    assert not any((home / "signals").iterdir())
    command = [sys.executable, "-m", "datagen.stages.teacher_signals"]
    with subprocess.Popen([*command, *arguments(traces, tmp_path / "out", *settings)], stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + WAIT_S
        while not list((home / "signals").glob("*/part-00000.json")):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(run.pid, signal.SIGKILL)
    finished = len(list((home / "signals").glob("*/part-*.json")))
    assert 1 <= finished < 3 and not (tmp_path / "out").exists()
    assert main(STAGE, arguments(traces, tmp_path / "out", *settings)) == 0
    assert json.loads((tmp_path / "out.run.json").read_text())["shards_found"] == finished
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")
    assert not any((home / "signals").iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method=sampled", "backend=openai_api", "model=m"], "method: sampled draws from the whole distribution, and"),
        (["method=hybrid", "backend=vllm_server", "model=m"], "take topk, or backend local with the teacher's weights"),
        (["backend=scripted"], "backend: no 'scripted' for teacher signals; there are local, openai_api, vllm_server"),
        (["method=topp"], "no 'topp' in datagen.signals; there are hybrid, sampled, topk"),
        (["k=1000"], "k: the teacher's vocabulary has 259 tokens (got 1000)"),
        (["k=20", "max_size_gb=1e-6"], "max_size_gb: 27 tokens may take "),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
):
    traces = write_traces(tmp_path / "traces.jsonl", 9)
    model = [] if any(one.startswith(("model", "backend=s", "method=topp")) for one in settings) else [f"model={tiny}"]
    assert main(STAGE, arguments(traces, tmp_path / "out", *model, *settings)) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_forecast_is_an_upper_bound(tmp_path: Path, tiny: Path):
    traces = write_traces(tmp_path / "traces.jsonl", 60)
    for method in ("topk", "sampled", "hybrid"):
        out = tmp_path / method
        assert main(STAGE, arguments(traces, out, f"method={method}", f"model={tiny}")) == 0
        size = sum(file.stat().st_size for file in out.glob("part-*.safetensors"))
        assert size < json.loads((tmp_path / f"{method}.run.json").read_text())["forecast_bytes"]


@pytest.fixture
def answered(tmp_path: Path, tiny: Path) -> Path:
    """Six traces whose answers lie in the ledger, two of them with what `topk` needs."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    traces = write_traces(tmp_path / "traces.jsonl", 6)
    rows = [json.loads(line) for line in traces.read_text().splitlines()]
    examples = [
        encode(row, tokenizer, frozenset({1})) for row in Rows(traces, Trace, "test", InputParams())
        if isinstance(row, Trace)
    ]  # fmt: skip
    answers: dict[bytes, bytes] = {}
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        learned = example.tokens[example.n_prompt_tokens :]
        top = [[(f"token_id:{token}", -0.5), ("token_id:200", -3.0), ("token_id:201", -1.5)] for token in learned]
        given: dict[str, Any] = {"token_ids": learned, "top_logprobs": top}
        given |= {
            2: {"top_logprobs": [[("é", -0.5)]] * len(learned)},
            3: {"top_logprobs": None},
            4: {"token_ids": [*learned[:-1], 99]},
        }.get(i, {})
        key = bytes([i]) * 32
        row["request_key"] = key.hex()
        if i < 5:
            answers[key] = Completion(text=row["completion"], **given).to_bytes()
    with Ledger.open(ledger_path()) as ledger:
        ledger.put_many(answers)
    write_dataset(tmp_path / "answered", rows)
    return tmp_path / "answered"


def write_dataset(out: Path, rows: list[dict[str, Any]]) -> None:
    from datagen.contracts.dataset import DatasetWriter
    from datagen.contracts.records import Prompt

    with DatasetWriter(out, Trace, {"stage": "traces"}) as writer:
        for row in rows:
            writer.read()
            prompt = Prompt(id=f"p-{row['id']}", messages=[{"role": "user", "content": row["prompt"]}])
            writer.write(
                Trace(id=row["id"], prompt=prompt, completion=row["completion"], request_key=row["request_key"])
            )


def test_a_server_s_answers_give_topk(tmp_path: Path, answered: Path, tiny: Path):
    """Likeliest first; the tail is ln(1 - e^-0.5 - e^-1.5); what lacks, differs or is not there is said."""
    settings = ["method=topk", "k=2", "backend=openai_api", f"model={tiny}", "max_rejected_share=0.7"]
    assert main(STAGE, arguments(answered, tmp_path / "out", *settings)) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rejected"] == {"no_logprobs": 2, "not_in_ledger": 1, "tokens_differ": 1}
    row = TokenSignals(tmp_path / "out", manifest["tokenizer"]["sha256"])["t1"]
    assert row.signal.ids.tolist() == [[token, 201] for token in row.tokens]
    assert row.signal.log_probs.tolist() == [[-0.5, -1.5]] * len(row.tokens)
    assert row.signal.log_tail == pytest.approx([-1.770] * len(row.tokens), abs=1e-3)  # 1 - 0.60653 - 0.22313 = 0.17034


def test_a_server_that_gives_too_few(tmp_path: Path, answered: Path, tiny: Path, capsys: pytest.CaptureFixture[str]):
    settings = ["method=topk", "k=5", "backend=openai_api", f"model={tiny}", "max_rejected_share=0.5"]
    assert main(STAGE, arguments(answered, tmp_path / "out", *settings)) == 3
    assert "too_few_logprobs: 3 log-probs at a token, k is 5; lower k" in capsys.readouterr().err


def test_shards_share_one_bound_and_the_ledger_is_read_anew(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
):
    """Two shards without answers, half of the rows each, are more than 0.6; answers that come later are seen."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    file = write_traces(tmp_path / "traces.jsonl", 2 * SHARD_ROWS)
    rows: list[dict[str, Any]] = []
    answers: dict[bytes, bytes] = {}
    for number, trace in enumerate(Rows(file, Trace, "test", InputParams())):
        assert isinstance(trace, Trace)
        example = encode(trace, tokenizer, frozenset({1}))
        learned, key = example.tokens[example.n_prompt_tokens :], number.to_bytes(32, "big")
        top = [[(f"token_id:{token}", -0.5), ("token_id:200", -3.0)] for token in learned]
        answers[key] = Completion(text=trace.completion, token_ids=learned, top_logprobs=top).to_bytes()
        prompt = trace.prompt.messages[0].get("content")
        rows.append({"id": trace.id, "prompt": prompt, "completion": trace.completion, "request_key": key.hex()})
    write_dataset(tmp_path / "asked", rows)
    settings = ["method=topk", "k=2", "backend=openai_api", f"model={tiny}", "max_rejected_share=0.6"]
    assert main(STAGE, arguments(tmp_path / "asked", tmp_path / "out", *settings)) == 3
    assert f"{2 * SHARD_ROWS} of {2 * SHARD_ROWS} rows get no signal (not_in_ledger" in capsys.readouterr().err
    with Ledger.open(ledger_path()) as ledger:
        ledger.put_many(answers)
    assert main(STAGE, arguments(tmp_path / "asked", tmp_path / "out", *settings)) == 0
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["rows"]
    assert counts == {"in": 2 * SHARD_ROWS, "out": 2 * SHARD_ROWS, "rejected": 0}


@pytest.mark.parametrize(
    "changed", ["_entries", "scoring", "transformers_models", "topk", "tensors", "teacher_signals"]
)
def test_other_code_goes_on_with_no_shard_of_this_one(monkeypatch: pytest.MonkeyPatch, changed: str):
    """The folder of unfinished work has another name once a module that shards are made by has another hash."""
    topk, content_hash = load_method("datagen.signals", "topk"), teacher_signals.content_hash
    before = teacher_signals._work_key({"params": {}}, topk)
    monkeypatch.setattr(
        teacher_signals, "content_hash", lambda file: "other" if file.stem == changed else content_hash(file)
    )
    assert teacher_signals._work_key({"params": {}}, topk) != before
