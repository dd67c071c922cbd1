"""The traces stage as a process of its own, without a server: resuming, sharing a ledger, appending, memory, imports.

Oracles: the bytes of an unbroken run, the ledger's own count, the rows that were put in.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.datagen.stages.conftest import hashes, n_answers
from tests.tiny_model import write_tiny_model

HEAVY = ("torch", "transformers", "pyarrow", "datasets")


def write_prompts(path: Path, n_rows: int) -> Path:
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "{"word " * (i % 7)}number {i}"}}\n' for i in range(n_rows)))
    return path


def start(
    home: Path, prompts: Path, out: Path, *settings: str, concurrency: int = 64, stderr: int = subprocess.STDOUT
) -> subprocess.Popen[str]:
    command = f"""{sys.executable} -m datagen.stages.traces --prompts {prompts} --out {out} --metrics {out}.json
        --concurrency {concurrency} --set"""
    inherited = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    return subprocess.Popen(
        [*command.split(), *settings],
        env=inherited | {"DATASTILL_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def facts(out: Path) -> dict[str, Any]:
    return json.loads(out.with_name(f"{out.name}.run.json").read_text())


@pytest.mark.parametrize("ends", [False, True])
def test_a_killed_local_run_goes_on_and_gives_the_same_bytes(tmp_path: Path, ends: bool) -> None:
    """SIGKILL after some batches of a real model: the rerun asks for what the ledger lacks, nothing else.

    A model that ends its answers leaves some of them empty; those are not asked for again either.
    """
    model = write_tiny_model(tmp_path / "tiny", ends=ends)
    prompts, n_rows = write_prompts(tmp_path / "p.jsonl", 100), 200
    settings = ("backend=local", f"model={model}", "batch_size=8", "max_new_tokens=60", "samples_per_prompt=2")
    finish(start(tmp_path / "unbroken_home", prompts, tmp_path / "unbroken", *settings))
    home, out = tmp_path / "home", tmp_path / "out"
    process = start(home, prompts, out, *settings)
    while n_answers(home) < 24 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    n_stored = n_answers(home)
    assert 24 <= n_stored < n_rows and n_stored % 8 == 0
    finish(start(home, prompts, out, *settings))
    assert hashes(out) == hashes(tmp_path / "unbroken")
    assert ends == ("empty_answer" in pl.read_parquet(out / "rejections.parquet")["reason"])
    assert facts(out)["requests"] == n_rows - n_stored
    assert facts(out)["ledger_hits"] == n_stored


def test_two_processes_on_one_ledger_answer_nothing_twice(tmp_path: Path) -> None:
    """Started together: what the two asked adds up to the number of requests, and both write the same bytes."""
    prompts = write_prompts(tmp_path / "p.jsonl", 600)
    home = tmp_path / "home"
    outs = [tmp_path / "a", tmp_path / "b"]
    processes = [
        start(home, prompts, out, "backend=scripted", "delay_s=0.05", concurrency=concurrency)
        for out, concurrency in zip(outs, (16, 24), strict=True)
    ]
    for process in processes:
        finish(process)
    assert sum(facts(out)["requests"] for out in outs) == 600 == n_answers(home)
    assert hashes(outs[0]) == hashes(outs[1])


def test_every_row_is_kept_or_rejected_in_order(tmp_path: Path) -> None:
    """Three attempts a prompt, some of which fail, and one bad line: every input row is found again, once."""
    prompts = write_prompts(tmp_path / "p.jsonl", 100)
    with prompts.open("a") as file:
        file.write('{"id": "bad"}\n')
    home, out = tmp_path / "home", tmp_path / "out"
    settings = ("backend=scripted", "samples_per_prompt=3", "fail_every=5")
    said = finish(start(home, prompts, out, *settings, "max_failed_share=0.05"), code=4)
    assert "ended without an answer (scripted" in said and "Traceback" not in said
    assert not out.exists()
    n_answered = n_answers(home)
    finish(start(home, prompts, out, *settings))
    kept, rejected = pl.read_parquet(out / "part-*.parquet"), pl.read_parquet(out / "rejections.parquet")
    found = [*kept["id"], *rejected.filter(pl.col("reason") == "scripted")["id"]]
    assert sorted(id.split(".")[0] for id in found) == sorted(f"p{i}#{k}" for i in range(100) for k in range(3))
    assert rejected.filter(pl.col("reason") != "scripted").rows() == [
        ("bad", "traces", "missing_field", rejected["detail"][-1])
    ]
    assert [(int(row[0][1:]), row[1]) for row in kept.select("prompt_id", "sample_index").rows()] == sorted(
        (int(row[0][1:]), row[1]) for row in kept.select("prompt_id", "sample_index").rows()
    )
    assert facts(out)["requests"] == 300 - n_answered
    finish(start(home, prompts, out, "backend=scripted", "samples_per_prompt=3"))
    assert pl.read_parquet(out / "part-*.parquet").height == 300
    assert facts(out)["requests"] == 300 - n_answered


def test_a_run_without_any_answer_fails(tmp_path: Path) -> None:
    """Every request fails: one line with the reason counted, and nothing is written."""
    prompts = write_prompts(tmp_path / "p.jsonl", 7)
    said = finish(start(tmp_path / "home", prompts, tmp_path / "out", "backend=scripted", "fail_every=1"), code=4)
    assert "not one of 7 requests was answered (scripted 7)" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_progress_is_shown_before_the_first_outcome(tmp_path: Path) -> None:
    """A terminal, on which a model answers 64 requests in batches of 8, all in one block: the counts on the screen."""
    model = write_tiny_model(tmp_path / "tiny", ends=False)
    prompts = write_prompts(tmp_path / "p.jsonl", 64)
    master, slave = os.openpty()
    settings = ("backend=local", f"model={model}", "batch_size=8", "max_new_tokens=60")
    process = start(tmp_path / "home", prompts, tmp_path / "out", *settings, stderr=slave)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's other end is closed
        while more := os.read(master, 65536):
            shown += more
    os.close(master)
    finish(process)
    counts = [int(n) for n in re.findall(rb"(\d+)\s+asked", shown)]
    assert any(0 < n < 64 for n in counts), shown


def test_appended_prompts_change_the_last_shard_and_the_manifest_alone(tmp_path: Path) -> None:
    """5,000 prompts and then five more: file names and hashes side by side."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "out"
    found: list[dict[str, str]] = []
    for n_rows in (5000, 5005):
        finish(start(tmp_path / "home", write_prompts(prompts, n_rows), out, "backend=scripted", concurrency=512))
        found.append(hashes(out))
    before, after = found
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"part-00002.parquet", "manifest.json"}
    assert facts(out)["requests"] == 5


def test_memory_does_not_grow_with_the_number_of_prompts(tmp_path: Path) -> None:
    """20,000 prompts against 2,000; benchmarks/traces_memory.py has the figure for a million."""
    peaks: list[int] = []
    for n_rows in (2_000, 20_000):
        prompts = write_prompts(tmp_path / f"{n_rows}.jsonl", n_rows)
        finish(start(tmp_path / "home", prompts, tmp_path / f"{n_rows}", "backend=scripted", concurrency=512))
        peaks.append(facts(tmp_path / f"{n_rows}")["peak_memory_bytes"])
    assert peaks[1] <= 1.5 * peaks[0]


def test_a_stage_without_torch_imports_nothing_heavy(tmp_path: Path) -> None:
    """The whole stage runs in a process that then looks at its own sys.modules."""
    prompts = write_prompts(tmp_path / "p.jsonl", 3)
    code = f"""if True:
        import sys
        from datagen.contracts.stage import main
        from datagen.stages.traces import STAGE
        main(STAGE, ["--prompts", {str(prompts)!r}, "--out", {str(tmp_path / "out")!r}, "--set", "backend=scripted"])
        print(sorted(set({HEAVY!r}) & sys.modules.keys()))"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"DATASTILL_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
    assert (tmp_path / "out" / "manifest.json").exists()
