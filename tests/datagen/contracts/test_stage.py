"""Oracles: exit codes, files and messages of real processes, as the interface promises them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import ParamsError
from datagen.contracts.home import home
from datagen.contracts.records import Prompt
from datagen.contracts.stage import Progress, check_out, find_methods, find_stages, load_method, load_stage
from tests.waiting import wait_until

# A stage that says when it runs, and waits for the end of its input.
STAGE = '''
"""A stage for tests."""
import sys
from datagen.contracts import errors
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.params import Params, validate
from datagen.contracts.records import Prompt
from datagen.contracts.stage import Stage, main

class Config(Params):
    fails: str = ""
    n_rows: int = 1

def run(run):
    config = run.params[Config]
    print("runs", flush=True)
    sys.stdin.read()
    if config.fails == "bug":
        raise ZeroDivisionError
    if config.fails:
        raise getattr(errors, config.fails)("what was wrong, and what to do")
    with DatasetWriter(run.out, Prompt, {}) as writer:
        for index in range(config.n_rows):
            writer.read()
            writer.write(Prompt(id=str(index), messages=[]))
    run.facts["requests"] = 3
    return {"rows": writer.rows, "concurrency": run.concurrency}

if __name__ == "__main__":
    raise SystemExit(main(Stage(name="slow", parse=lambda section: validate(section, Config), inputs={}, run=run)))
'''

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Start:
    """Starts the stage in `tmp_path` as a process that has all three pipes."""
    (tmp_path / "slow.py").write_text(STAGE)

    def start(*arguments: object, before: tuple[str, ...] = (), **environment: str) -> "subprocess.Popen[str]":
        inherited = {k: v for k, v in os.environ.items() if k not in {"DVC_ROOT", "DATASTILL_CONCURRENCY"}}
        return subprocess.Popen(
            [*before, sys.executable, str(tmp_path / "slow.py"), *map(str, arguments)],
            cwd=tmp_path,
            env=inherited | {"PYTHONPATH": str(root), "DATASTILL_HOME": str(tmp_path / "home")} | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Let the stage go on; its exit code and what it wrote to stderr."""
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@contextmanager
def running(process: "subprocess.Popen[str]") -> "Iterator[subprocess.Popen[str]]":
    """The stage, while it runs."""
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "runs\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_writes_its_output_and_its_metrics_apart_from_times(start: Start, tmp_path: Path):
    code, said = end(start("--out", "out", "--metrics", "metrics/slow.json", "--set", "n_rows=3", "--concurrency", 7))
    assert code == 0, said
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rows"] == {"in": 3, "out": 3, "rejected": 0}
    expected = {"rows": {"in": 3, "out": 3, "rejected": 0}, "concurrency": 7}
    assert json.loads((tmp_path / "metrics" / "slow.json").read_text()) == expected
    facts = json.loads((tmp_path / "metrics" / "slow.run.json").read_text())
    assert facts.keys() == {"requests", "seconds", "cpu_seconds", "peak_memory_bytes"} and facts["requests"] == 3
    assert "slow: start, writes out" in said and "slow: done in " in said


@pytest.mark.parametrize(
    ("fails", "code"),
    [("ParamsError", 2), ("MissingError", 2), ("DataError", 3), ("BackendError", 4), ("LockedError", 5)],
)
def test_an_error_of_the_user_is_one_line_and_an_exit_code(start: Start, tmp_path: Path, fails: str, code: int):
    returned, said = end(start("--out", "out", "--set", f"fails={fails}"))
    assert returned == code
    assert said.splitlines()[-1] == "slow: what was wrong, and what to do" and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_bug_keeps_its_traceback(start: Start):
    code, said = end(start("--out", "out", "--set", "fails=bug"))
    assert code == 1 and said.splitlines()[-1] == "ZeroDivisionError"


def test_an_interrupt_says_that_nothing_is_lost(start: Start):
    with running(start("--out", "out")) as process:
        process.send_signal(signal.SIGINT)
        code, said = end(process)
    assert code == 130 and said.splitlines()[-1] == "slow: stopped; what was done is kept, run it again to go on"


PARAMS = "slow:\n  n_rows: 2\nslow_more:\n  n_rows: 4\nprompts:\n  method: user_rows\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "n_rowz=3"], "slow: --set: slow.n_rowz: unknown parameter; did you mean n_rows?"),
        (["--set", "n_rows=many"], 'unable to parse string as an integer (got "many")'),
        (["--set", "n_rows"], "slow: --set n_rows: expected key=value"),
        (["--params", "nowhere.yaml"], "slow: nowhere.yaml: No such file or directory"),
        (["--params", "params.yaml", "--section", "quick"], "no section 'quick'; there are slow, slow_more, prompts"),
        (["--params", "wrong.yaml"], "slow: wrong.yaml: slow.n_rows: Input should be a valid integer"),
        (["--concurrency", "0"], "slow: --concurrency: expected at least 1 (got 0)"),
        (["--out", "."], "slow: --out .: name the directory to write"),
        (["--out", "mine"], "slow: --out mine: holds files that no stage wrote"),
        (["--out", "file/out"], "slow: --out file/out: cannot be written ("),
        (["--out", "file"], "slow: --out file: is a file; name a directory"),
        (["--out", "theirs"], "slow: --out theirs: holds files that no stage wrote"),
    ],
)
def test_a_wrong_command_line_ends_before_any_work(start: Start, tmp_path: Path, arguments: list[str], says: str):
    """Exit code 2, a line that says what to do, no traceback, nothing run and nothing of the user's touched."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "wrong.yaml").write_text(PARAMS.replace("n_rows: 2", "n_rows: two"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "manifest.json").write_text('{"name": "a web page of another program"}')
    process = start("--out", "out", *arguments)
    output, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert says in said and "Traceback" not in said and output == ""
    kept = ("mine/thesis.tex", "theirs/manifest.json", "file")
    assert all((tmp_path / name).is_file() for name in kept) and not (tmp_path / "out").exists()


def test_a_link_to_a_directory_stays_one(start: Start, tmp_path: Path):
    """The directory behind it is replaced, once before it is there and once after."""
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    for n_rows in (1, 2):
        code, said = end(start("--out", "link", "--set", f"n_rows={n_rows}"))
        assert code == 0, said
        assert (tmp_path / "link").is_symlink()
        assert json.loads((tmp_path / "disk" / "out" / "manifest.json").read_text())["rows"]["out"] == n_rows


def test_an_input_is_never_replaced(tmp_path: Path):
    """Itself, by a link, and the dataset that holds it."""
    write_dataset(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "mine.jsonl").touch()
    for out, read in (("data", "data"), ("link", "data"), ("data", "link"), ("data", "data/mine.jsonl")):
        with pytest.raises(ParamsError, match="would replace the input"):
            check_out(tmp_path / out, [tmp_path / read])
    assert check_out(tmp_path / "data", [tmp_path / "other.jsonl"]) == tmp_path / "data"


def write_dataset(out: Path) -> None:
    with DatasetWriter(out, Prompt, {"stage": "prompts"}) as writer:
        writer.read()
        writer.write(Prompt(id="p", messages=[]))


@pytest.mark.parametrize(("section", "n_rows"), [("slow", 2), ("slow_more", 4)])
def test_params_come_from_a_section_and_set_goes_over_it(start: Start, tmp_path: Path, section: str, n_rows: int):
    """The section alone is in the file: no folder holds this test's stage, so a second one could not be checked."""
    (tmp_path / "params.yaml").write_text(f"{section}:\n  n_rows: {n_rows}\n")
    assert end(start("--out", "a", "--params", "params.yaml", "--section", section))[0] == 0
    assert end(start("--out", "b", "--params", "params.yaml", "--section", section, "--set", "n_rows=9"))[0] == 0
    counts = [json.loads((tmp_path / name / "manifest.json").read_text())["rows"]["out"] for name in "ab"]
    assert counts == [n_rows, 9]


def test_concurrency_comes_from_the_environment(start: Start, tmp_path: Path):
    assert end(start("--out", "out", "--metrics", "m.json", DATASTILL_CONCURRENCY="5"))[0] == 0
    assert json.loads((tmp_path / "m.json").read_text())["concurrency"] == 5
    assert end(start("--out", "out", DATASTILL_CONCURRENCY="many"))[0] == 2


def test_a_second_process_on_one_output_names_the_first(start: Start, tmp_path: Path):
    """By another name of the same directory; the first goes on undisturbed, and the lock ends with its holder."""
    (tmp_path / "link").symlink_to(tmp_path)
    with running(start("--out", "out")) as first:
        code, said = end(start("--out", "link/out"))
        assert code == 5
        assert said == f"slow: link/out is being written by process {first.pid}; wait for it or stop it\n"
        assert end(start("--out", "other"))[0] == 0
        assert end(first)[0] == 0
    with running(start("--out", "out")) as killed:
        killed.kill()
        killed.wait()
        assert end(start("--out", "out"))[0] == 0


def test_a_home_that_cannot_be_written(start: Start, tmp_path: Path):
    (tmp_path / "file").touch()
    code, said = end(start("--out", "out", DATASTILL_HOME=str(tmp_path / "file")))
    assert code == 2 and "set DATASTILL_HOME to a folder that can" in said and "Traceback" not in said


def test_under_dvc_a_stage_ends_with_it_and_by_hand_it_does_not(start: Start, tmp_path: Path):
    """SIGKILL of a process named dvc that started the stage behind a shell."""
    (tmp_path / "dvc").write_text("import subprocess, sys; subprocess.run(sys.argv[1:])")
    before = (sys.executable, str(tmp_path / "dvc"), "/bin/sh", "-c", '"$@"; :', "sh")
    for under_dvc in (True, False):
        environment = {"DVC_ROOT": str(tmp_path)} if under_dvc else {}
        with running(start("--out", "out", before=before, **environment)) as dvc:
            shell = children(dvc.pid)[0]
            stage = children(shell)[0]
            dvc.kill()
            dvc.wait()
            if under_dvc:
                assert wait_until(lambda stage=stage: not is_alive(stage))
            else:
                time.sleep(0.5)
                assert is_alive(stage)
                os.kill(stage, signal.SIGKILL)


def test_under_dvc_the_project_s_own_interpreter_is_wanted(start: Start, tmp_path: Path):
    (tmp_path / ".venv").mkdir()
    code, said = end(start("--out", "out", DVC_ROOT=str(tmp_path)))
    assert code == 2
    assert said == (
        f"slow: started by {sys.executable}, but the project has {tmp_path}/.venv; "
        f"put {tmp_path}/.venv/bin first on PATH\n"
    )


def children(pid: int) -> list[int]:
    """Processes that `pid` started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each place in turn, as the ones before it are taken away."""
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    inside = tmp_path / "project" / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "named"))
    assert home() == tmp_path / "named"
    monkeypatch.delenv("DATASTILL_HOME")
    assert home() == tmp_path / "main" / ".cache"
    monkeypatch.delenv("DVC_ROOT")
    assert home() == tmp_path / "project" / ".cache"
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path / "xdg" / "datastill"


def test_stages_and_methods_are_found_by_folder():
    """Names that the interface fixes."""
    assert find_stages()["traces"] == "datagen.stages.traces"
    assert load_stage("prompts").name == "prompts"
    assert "n_samples" in find_methods("datagen.traces")
    assert load_method("datagen.traces", "n_samples").__name__ == "datagen.traces.n_samples"
    assert find_methods("datagen.nowhere") == []


@pytest.mark.parametrize("name", ["base", "__init__", "../verify/math_answer", "", None, 3, ["n_samples"]])
def test_what_is_no_method_is_refused_with_those_there_are(name: object):
    with pytest.raises(ParamsError, match=r"^method: no .* in datagen.traces; there are .*n_samples"):
        load_method("datagen.traces", name)
    with pytest.raises(ParamsError, match=r"no stage 'nonesuch'; there are .*prompts"):
        load_stage("nonesuch")


def test_off_a_terminal_a_line_now_and_then_says_what_is_left(caplog: pytest.LogCaptureFixture):
    """Nothing before it is due, and a note is made for the lines alone; 3 of 4 were done in the time that one takes."""
    n_notes = 0

    def note() -> str:
        nonlocal n_notes
        n_notes += 1
        return "all well"

    caplog.set_level("INFO", logger="datagen")
    seldom = Progress("traces", 4, "prompts", log_every_s=3600)
    for _ in range(4):
        seldom.advance(1, note)
    assert (seldom.done, n_notes, caplog.messages) == (4, 0, [])
    often = Progress("traces", 4, "prompts", log_every_s=0)
    often.advance(0, note)
    often.advance(3, note)
    first, second = caplog.messages
    assert re.fullmatch(r"traces: 0 of 4 prompts, 0\.0 a second, all well", first)
    assert re.fullmatch(r"traces: 3 of 4 prompts, less than a minute left, \d+\.\d a second, all well", second)
