"""Oracles: hashes of files, rows counted by hand, `datasets` and `pyarrow` as independent readers, real processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datagen.contracts.dataset import (
    BLOCK,
    DatasetWriter,
    content_hash,
    is_dataset,
    iterate,
    read_manifest,
    replace_directory,
)
from datagen.contracts.errors import DataError
from datagen.contracts.records import Prompt, Rejection, Verdict, to_row


def prompt(index: int) -> Prompt:
    return Prompt(
        id=f"p{index}",
        messages=[{"role": "user", "content": f"What is {index} + {index * 7 % 11}? Überlege."}],
        family=("sum", "product")[index % 2],
        reference=str(index + index * 7 % 11),
        constraints=[{"id": "datastill:x", "kwargs": f'{{"n": {index}}}'}] * (index % 3),
    )


def write(out: Path, n_rows: int, *, reject_every: int = 10) -> None:
    """`n_rows` inputs, of which every tenth is rejected; each has a verdict."""
    with DatasetWriter(out, Prompt, {"stage": "test"}, tables={"verdicts": Verdict}) as writer:
        for index in range(n_rows):
            writer.read()
            writer.add("verdicts", Verdict(id=f"p{index}", method="m", status="pass", score=index / n_rows))
            if index % reject_every == reject_every - 1:
                writer.put(Rejection(id=f"p{index}", stage="test", reason="tenth", detail=f"{index}"))
            else:
                writer.put(prompt(index))


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def python(code: str, *arguments: object, **environment: str) -> Sequence[str]:
    """Run `code` in a process of its own; its output's lines."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


WRITE = "import sys, pathlib; from tests.datagen.contracts.test_dataset import write; "
WRITE += "write(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"


def test_same_rows_give_the_same_bytes_in_any_process_and_with_any_threads(tmp_path: Path):
    """Four processes, two thread counts, one set of hashes; enough rows for several shards and joined row groups."""
    n_rows = 3 * BLOCK + 17
    for name, threads in (("a", "1"), ("b", "2"), ("c", "2"), ("d", "4")):
        python(WRITE, tmp_path / name, n_rows, POLARS_MAX_THREADS=threads, PYTHONHASHSEED=threads)
    first = hashes(tmp_path / "a")
    assert list(first) == [
        "manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet", "part-00003.parquet",
        "rejections.parquet", "verdicts.parquet",
    ]  # fmt: skip
    assert all(hashes(tmp_path / name) == first for name in "bcd")


def test_rows_come_back_in_order(tmp_path: Path):
    """Against the rows made anew, and against pyarrow reading the same files."""
    n_rows = 2 * BLOCK + 3
    write(tmp_path / "d", n_rows)
    kept = [to_row(prompt(index)) for index in range(n_rows) if index % 10 != 9]
    mine = list(iterate(tmp_path / "d"))
    assert [row["id"] for row in mine] == [row["id"] for row in kept]
    assert [row["reference"] for row in mine] == [row["reference"] for row in kept]
    assert mine == [row for file in sorted((tmp_path / "d").glob("part-*")) for row in pq.read_table(file).to_pylist()]
    assert [row["id"] for row in iterate(tmp_path / "d", "verdicts")] == [f"p{index}" for index in range(n_rows)]
    assert [row["detail"] for row in iterate(tmp_path / "d", "rejections")] == [str(i) for i in range(9, n_rows, 10)]


@pytest.mark.parametrize("n_rows", [BLOCK, 10_000])
def test_a_thousandth_more_rows_change_the_last_shard_and_the_manifest_alone(tmp_path: Path, n_rows: int):
    """Files compared by hash; side tables hold the new rows too, so they are left out."""
    write(tmp_path / "before", n_rows, reject_every=n_rows + n_rows)
    write(tmp_path / "after", n_rows + n_rows // 1000, reject_every=n_rows + n_rows)
    before, after = hashes(tmp_path / "before"), hashes(tmp_path / "after")
    changed = {name for name in after if after[name] != before.get(name)}
    last = f"part-{n_rows // BLOCK:05d}.parquet"
    assert changed - {"verdicts.parquet"} == {last, "manifest.json"}


def test_manifest_counts_and_names_what_is_there(tmp_path: Path):
    write(tmp_path / "d", 25)
    manifest = read_manifest(tmp_path / "d")
    assert manifest["rows"] == {"in": 25, "out": 23, "rejected": 2}
    assert manifest["rejected"] == {"tenth": 2}
    assert manifest["stage"] == "test" and manifest["record"] == "Prompt"
    assert manifest["files"] == {k: v for k, v in hashes(tmp_path / "d").items() if k != "manifest.json"}
    assert str(tmp_path) not in json.dumps(manifest)


@pytest.mark.parametrize("change", ["lost", "doubled"])
def test_a_row_lost_or_doubled_is_a_bug_and_leaves_no_dataset(tmp_path: Path, change: str):
    with pytest.raises(AssertionError, match="a row was lost"), DatasetWriter(tmp_path / "d", Prompt, {}) as writer:
        writer.read(2)
        writer.write(prompt(0))
        if change == "doubled":
            writer.write(prompt(1))
            writer.write(prompt(2))
    assert not (tmp_path / "d").exists()


def test_an_exception_leaves_nothing_and_what_was_there_before(tmp_path: Path):
    write(tmp_path / "d", 5)
    before = hashes(tmp_path / "d")
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "d", Prompt, {}) as writer:
        writer.read()
        writer.write(prompt(0))
        raise RuntimeError
    assert hashes(tmp_path / "d") == before
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_killed_writer_leaves_no_dataset_and_the_next_one_is_whole(tmp_path: Path):
    """A real process, killed by SIGKILL in the midst of its second shard."""
    code = (
        "import sys, pathlib; from tests.datagen.contracts.test_dataset import *\n"
        "with DatasetWriter(pathlib.Path(sys.argv[1]), Prompt, {}) as writer:\n"
        f"    for index in range({BLOCK} + 100):\n"
        "        writer.read(); writer.write(prompt(index))\n"
        "    print('written', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "d")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == "written\n"
        os.kill(killed.pid, signal.SIGKILL)
    assert not (tmp_path / "d").exists()
    assert (tmp_path / ".d.writing" / "part-00000.parquet").exists()
    write(tmp_path / "d", 25)
    write(tmp_path / "unbroken", 25)
    assert hashes(tmp_path / "d") == hashes(tmp_path / "unbroken")
    assert not (tmp_path / ".d.writing").exists()


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_datasets_opens_it_even_where_a_shard_is_empty(tmp_path: Path, empty: int, needs: Callable[..., None]):
    """`datasets.load_dataset` of the shards, as the README says; rows by hand."""
    needs(module="datasets", remedy="`make setup`")
    import datasets

    with DatasetWriter(tmp_path / "d", Prompt, {}) as writer:
        for index in range(3 * BLOCK):
            writer.read()
            bad = Rejection(id=f"p{index}", stage="test", reason="bad", detail="")
            writer.put(bad if index // BLOCK == empty else prompt(index))
    loaded = datasets.load_dataset(
        "parquet", data_files=f"{tmp_path / 'd'}/part-*.parquet", cache_dir=str(tmp_path / "cache")
    )["train"]
    assert loaded["id"][:] == [f"p{index}" for index in range(3 * BLOCK) if index // BLOCK != empty]
    assert set(loaded.column_names) == set(Prompt.SCHEMA)


def test_no_rows_is_a_dataset_too(tmp_path: Path):
    write(tmp_path / "d", 0)
    assert list(iterate(tmp_path / "d")) == []
    assert read_manifest(tmp_path / "d")["rows"] == {"in": 0, "out": 0, "rejected": 0}


def test_a_directory_without_manifest_says_so(tmp_path: Path):
    assert not is_dataset(tmp_path)
    with pytest.raises(DataError, match=r"not a dataset directory.*run the stage that makes it"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ['{"name": "my app", "version": 1}', "[1]", "{", '{"format": "parquet"}'])
def test_another_program_s_manifest_makes_no_dataset(tmp_path: Path, content: str):
    (tmp_path / "manifest.json").write_text(content)
    assert not is_dataset(tmp_path)


def test_content_hash(tmp_path: Path):
    """A file's is SHA-256 of its bytes, a dataset's that of its manifest; a folder's changes with names and bytes."""
    (tmp_path / "f").mkdir()
    file = tmp_path / "f" / "a.txt"
    file.write_bytes(b"abc")
    assert content_hash(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    seen = {content_hash(tmp_path / "f")}
    file.rename(tmp_path / "f" / "b.txt")
    seen.add(content_hash(tmp_path / "f"))
    (tmp_path / "f" / "b.txt").write_bytes(b"abd")
    seen.add(content_hash(tmp_path / "f"))
    assert len(seen) == 3
    write(tmp_path / "d", 5)
    assert content_hash(tmp_path / "d") == hashes(tmp_path / "d")["manifest.json"]


def test_replace_directory_takes_the_place_of_what_was_there(tmp_path: Path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_directory(tmp_path / "new", tmp_path / "old")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["old", "old/new"]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    """Peak memory of a process that writes and reads 100,000 rows: within 1.3 times that of 10,000."""
    code = WRITE + "; import resource; from datagen.contracts.dataset import iterate; "
    code += "assert sum(1 for _ in iterate(pathlib.Path(sys.argv[1]))); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    small, large = (int(python(code, tmp_path / str(n), n)[-1]) for n in (10_000, 100_000))
    assert large < 1.3 * small
