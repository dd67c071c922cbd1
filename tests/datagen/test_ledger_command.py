"""`datastill ledger`, on real ledgers; oracles: what was put in, SQL, files' bytes, and a second process at work."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.backends.ledger import Ledger
from datagen.cli import main
from datagen.contracts.dataset import content_hash
from datagen.ledger_upkeep import prune
from tests.ledger_process import answer, command, flip_byte_of, key, run, start

N_BY_EPOCH = {0: 500, 1: 300, 4: 200}
NUMBERS = {0: range(500), 1: range(500, 800), 4: range(800, 1000)}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of 1,000 answers in three epochs, where $DATASTILL_HOME says."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / "ledger.sqlite"
    fill(path)
    return path


def fill(path: Path) -> None:
    with Ledger.open(path) as ledger:
        for epoch, numbers in NUMBERS.items():
            ledger.put_many({key(i): answer(i) for i in numbers}, epoch)


def content(path: Path) -> dict[bytes, tuple[bytes, int]]:
    """By SQL: what the ledger under test said is no oracle."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0]: row[1:] for row in connection.execute("SELECT key, answer, epoch FROM answers")}


EXPECTED = {key(i): (answer(i), epoch) for epoch, numbers in NUMBERS.items() for i in numbers}


@pytest.fixture
def ledger(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs `datastill ledger ARGUMENTS --json`: exit code and what it printed, else its error."""

    def call(*arguments: object) -> tuple[int, Any]:
        code = main(["ledger", *map(str, arguments), "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else printed.err

    return call


Call = Callable[..., tuple[int, Any]]


def test_stats_by_epoch(path: Path, ledger: Call):
    """Counts and bytes of what was put in; the times lie between two readings of the clock."""
    code, found = ledger("stats")
    assert code == 0
    assert {one["epoch"]: one["n_answers"] for one in found["epochs"]} == N_BY_EPOCH
    assert {one["epoch"]: one["size_bytes"] for one in found["epochs"]} == {
        epoch: sum(len(answer(i)) for i in numbers) for epoch, numbers in NUMBERS.items()
    }
    assert found["answers"] == 1000 and found["file_bytes"] == path.stat().st_size
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert now[:4] <= found["oldest"][:4] and found["oldest"] <= found["newest"] <= now


def test_tables_for_people(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What each says without --json, `stats` as a process of its own."""
    datastill = Path(sys.executable).with_name("datastill")
    stats = subprocess.run([datastill, "ledger", "stats"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert any(line.split()[:2] == ["4", "200"] for line in stats.stdout.splitlines())
    out = str(tmp_path / "out")
    said: dict[str, str] = {}
    for words in (["verify"], ["prune", "--epoch", "1"], ["export", out], ["import", out]):
        assert main(["ledger", *words]) == 0
        said[words[0]] = capsys.readouterr().out
    assert "is whole" in said["verify"] and "nothing was deleted" in said["prune"]
    assert any(line.split() == ["1,000", "1"] for line in said["export"].splitlines())
    assert any(line.split() == ["0", "1,000", "0"] for line in said["import"].splitlines())
    assert content(path) == EXPECTED


def test_a_missing_ledger_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Call):
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    for words in (("stats",), ("verify",), ("export", tmp_path / "out"), ("prune", "--epoch", "0")):
        code, said = ledger(*words)
        assert code == 2 and "no ledger at" in said
    assert not (tmp_path / "home" / "ledger.sqlite").exists() and not (tmp_path / "out").exists()


# --- export and import ---


def test_an_export_opens_as_parquet_and_comes_back(path: Path, tmp_path: Path, ledger: Call):
    """Polars reads the columns; an empty ledger that imports it holds the same; a second time adds nothing."""
    code, said = ledger("export", tmp_path / "out")
    assert code == 0 and said["answers"] == 1000
    rows = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert rows["key"].to_list() == sorted(key.hex() for key in EXPECTED)
    assert {bytes.fromhex(row[0]): (row[1], row[3]) for row in rows.iter_rows()} == EXPECTED
    other = tmp_path / "other.sqlite"
    assert ledger("import", tmp_path / "out", "--ledger", other) == (
        0, {"new": 1000, "known": 0, "conflicting": 0, "conflicts": []},
    )  # fmt: skip
    assert content(other) == EXPECTED
    assert ledger("import", tmp_path / "out", "--ledger", other)[1]["known"] == 1000
    assert content(other) == EXPECTED


def test_the_same_answers_give_the_same_bytes(path: Path, tmp_path: Path, ledger: Call):
    """Bought in another order, one by one, by a ledger that had more and was pruned."""
    other = tmp_path / "other.sqlite"
    with Ledger.open(other) as backwards:
        backwards.put_many({key(-i): answer(-i) for i in range(1, 50)}, 9)
        for epoch, numbers in reversed(NUMBERS.items()):
            for start_ in reversed(numbers[::50]):
                backwards.put_many({key(i): answer(i) for i in reversed(range(start_, start_ + 50))}, epoch)
    assert ledger("prune", "--epoch", 9, "--yes", "--ledger", other)[0] == 0
    ledger("export", tmp_path / "a")
    ledger("export", tmp_path / "b", "--ledger", other)
    bytes_of = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert bytes_of[0] == bytes_of[1]


def test_one_epoch_alone(path: Path, tmp_path: Path, ledger: Call):
    assert ledger("export", tmp_path / "out", "--epoch", 4)[1]["answers"] == 200
    ledger("import", tmp_path / "out", "--ledger", tmp_path / "other.sqlite")
    assert content(tmp_path / "other.sqlite") == {key: row for key, row in EXPECTED.items() if row[1] == 4}
    assert ledger("export", tmp_path / "none", "--epoch", 3)[1]["answers"] == 0
    assert ledger("import", tmp_path / "none", "--ledger", tmp_path / "other.sqlite")[1]["new"] == 0


def test_the_standing_answer_stays(path: Path, tmp_path: Path, ledger: Call):
    """Of 1,000 imported, 3 have the same answer there, 2 another."""
    ledger("export", tmp_path / "out")
    other = tmp_path / "other.sqlite"
    with Ledger.open(other) as standing:
        standing.put_many({key(i): answer(i) for i in (1, 2, 900)} | {key(i): b"mine" for i in (3, 901)}, 2)
    code, said = ledger("import", tmp_path / "out", "--ledger", other)
    conflicts = sorted(key(i).hex() for i in (3, 901))
    assert (code, said) == (0, {"new": 995, "known": 3, "conflicting": 2, "conflicts": conflicts})
    assert content(other) == EXPECTED | {key(i): (answer(i), 2) for i in (1, 2, 900)} | {
        key(i): (b"mine", 2) for i in (3, 901)
    }


def damage_flip(folder: Path) -> None:
    file = folder / "part-00000.parquet"
    flip_byte_of(file, file.read_bytes()[2000:2032])


def damage_cut(folder: Path) -> None:
    os.truncate(folder / "part-00000.parquet", 5000)


def damage_remove(folder: Path) -> None:
    (folder / "part-00000.parquet").unlink()


def damage_add(folder: Path) -> None:
    shutil.copy(folder / "part-00000.parquet", folder / "part-00001.parquet")


def damage_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 40)


def damage_files(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"files": [*manifest["files"]]}))


def damage_no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def damage_answer(folder: Path) -> None:
    """One answer is another's, and the manifest agrees: only the row's own checksum tells."""
    file = folder / "part-00000.parquet"
    rows = pl.read_parquet(file)
    rows.with_columns(answer=pl.Series([b"forged", *rows["answer"][1:]])).write_parquet(file)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][file.name] = content_hash(file)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_flip, "part-00000.parquet: damaged, its SHA-256"),
        (damage_cut, "part-00000.parquet: damaged, its SHA-256"),
        (damage_remove, "missing ['part-00000.parquet']"),
        (damage_add, "not in the manifest ['part-00001.parquet']"),
        (damage_manifest, "manifest.json is damaged"),
        (damage_files, "manifest.json is damaged"),
        (damage_no_manifest, "it has no manifest.json"),
        (damage_answer, "no answer, or another than its checksum says"),
    ],
)
def test_of_a_damaged_folder_nothing_is_imported(
    path: Path, tmp_path: Path, ledger: Call, damage: Callable[[Path], None], said: str
):
    ledger("export", tmp_path / "out")
    damage(tmp_path / "out")
    code, error = ledger("import", tmp_path / "out", "--ledger", tmp_path / "other.sqlite")
    assert code == 3 and said in error and len(error.splitlines()) == 1
    assert not (tmp_path / "other.sqlite").exists()


def test_another_dataset_is_no_export(path: Path, pipeline: Path, ledger: Call):
    code, error = ledger("import", pipeline / "data" / "traces")
    assert code == 3 and "holds Trace" in error
    assert content(path) == EXPECTED


def test_export_and_import_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Answers of 0.5 MB: 192 of them take at most 32 MB more than 64, though they are 64 MB more."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path))
    script = """
import resource
from datagen.ledger_exchange import export_answers, import_answers
n, folder = int(sys.argv[2]), path.with_suffix("")
with Ledger.open(path) as ledger:
    for i in range(0, n, 8):
        ledger.put_many({key(j): os.urandom(500_000) for j in range(i, i + 8)})
manifest = export_answers(path, folder)
assert import_answers(path.with_name(f"again-{n}.sqlite"), folder).n_new == n
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(manifest["files"]))
"""
    small, large = (list(map(int, run(script, tmp_path / f"{n}.sqlite", n).split())) for n in (64, 192))
    assert (small[1], large[1]) == (4, 12)  # a shard ends with the answer that passes 8 MiB
    assert large[0] < small[0] + 32 * 1024  # KiB


# --- verify ---


def test_verify_names_the_damaged_answers(path: Path, ledger: Call):
    """Two answers with one flipped bit each, of 1,000; the file is as it was afterwards."""
    for i in (7, 900):
        flip_byte_of(path, answer(i))
    before = path.read_bytes()
    code, found = ledger("verify")
    assert code == 3 and sorted(found["damaged"]) == sorted(key(i).hex() for i in (7, 900))
    assert found["answers"] == 1000 and not found["problems"]
    assert path.read_bytes() == before


def test_verify_names_the_answers_of_a_lost_page(path: Path, ledger: Call):
    """A page of the table overwritten by zeros; its keys are those whose answers the bytes of the page hold."""
    data = bytearray(path.read_bytes())
    page = data.index(answer(400)) // 4096
    on_page = {key(i).hex() for i in range(1000) if data.find(answer(i)) // 4096 == page}
    data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    path.write_bytes(data)
    code, found = ledger("verify")
    assert code == 3 and found["problems"]
    assert on_page <= set(found["damaged"]) and len(found["damaged"]) < 30


def test_export_refuses_a_damaged_answer(path: Path, tmp_path: Path, ledger: Call):
    flip_byte_of(path, answer(7))
    code, error = ledger("export", tmp_path / "out")
    assert code == 3 and key(7).hex() in error and "ledger verify" in error
    assert list(tmp_path.iterdir()) == [path.parent]


# --- prune ---


def test_prune_says_first_and_then_gives_the_space_back(path: Path, ledger: Call):
    size = path.stat().st_size
    code, said = ledger("prune", "--epoch", 0)
    assert (code, said["answers"], said["kept"], said["deleted"]) == (0, 500, 500, False)
    assert content(path) == EXPECTED and path.stat().st_size == size
    code, said = ledger("prune", "--epoch", 0, "--yes")
    assert (code, said["answers"], said["kept"], said["deleted"]) == (0, 500, 500, True)
    assert content(path) == {key: row for key, row in EXPECTED.items() if row[1] != 0}
    assert path.stat().st_size < 0.6 * size
    code, error = ledger("prune", "--epoch", 0)
    assert code == 2 and "there are [1, 4]" in error


def test_prune_beside_a_process_that_writes(path: Path, ledger: Call):
    """Nobody fails; every answer of the writer and of the other epochs is there."""
    script = """
with Ledger.open(path) as ledger:
    for i in range(1000, 1300):
        ledger.put(key(i), answer(i), 1)
        if i == 1010:
            print(flush=True)
"""
    child = start(script, path)
    assert child.stdout is not None and child.stdout.readline() == "\n"
    code, said = ledger("prune", "--epoch", 0, "--yes")
    assert (code, said["answers"]) == (0, 500)
    child.communicate(timeout=120)
    assert child.returncode == 0
    kept = {key: row for key, row in EXPECTED.items() if row[1] != 0}
    assert content(path) == kept | {key(i): (answer(i), 1) for i in range(1000, 1300)}
    assert ledger("verify")[0] == 0


def test_prune_killed_on_the_way_leaves_a_whole_ledger(path: Path, tmp_path: Path, needs: Callable[..., None]):
    """By strace, early, in the middle and late: what is to stay is there, the rest there or not; run again, it ends."""
    needs(program="strace", remedy="apt-get install strace")
    kept = {key: row for key, row in EXPECTED.items() if row[1] != 0}
    script = "from datagen.ledger_upkeep import prune; prune(path, 0)"

    def strace(file: Path, inject: str) -> subprocess.CompletedProcess[str]:
        trace = ["strace", "-f", "-qq", "-e", "trace=pwrite64", *inject.split(), "-o", str(tmp_path / "calls")]
        return subprocess.run([*trace, *command(script, file)], check=False, timeout=60, text=True)

    strace(Path(shutil.copy(path, tmp_path / "unbroken.sqlite")), "")
    n_writes = len((tmp_path / "calls").read_text().splitlines())
    for n in (n_writes // 20, n_writes // 2, n_writes - 3):
        copy = Path(shutil.copy(path, tmp_path / f"{n}.sqlite"))
        assert strace(copy, f"-e inject=pwrite64:signal=KILL:when={n}").returncode != 0
        found = content(copy)
        assert kept.items() <= found.items() <= EXPECTED.items()
        with Ledger.open(copy) as ledger:
            assert len(ledger) == len(found)
        prune(copy, 0)
        assert content(copy) == kept
