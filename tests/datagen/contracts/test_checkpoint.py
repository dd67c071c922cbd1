from pathlib import Path

import pytest

from datagen.contracts.checkpoint import Checkpoints, checkpoint_key, code_hash, interval_s
from datagen.contracts.errors import LockedError, ParamsError


def save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.begin()
    (checkpoints.writing / "state").write_text(str(step))
    checkpoints.commit(step)


def test_only_the_last_is_kept(tmp_path: Path):
    """Oracle: the folder's listing."""
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 100):
        save(checkpoints, step)
    assert [file.name for file in tmp_path.iterdir()] == ["step-00000100"]
    latest = checkpoints.latest()
    assert latest is not None and (latest / "state").read_text() == "100"


def test_a_half_written_one_is_not_taken(tmp_path: Path):
    """A kill between begin and commit leaves the one before in force, and the next begin starts empty."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    checkpoints.begin()
    (checkpoints.writing / "half").touch()
    assert checkpoints.latest() == tmp_path / "step-00000001"
    checkpoints.begin()
    assert list(checkpoints.writing.iterdir()) == []


def test_a_half_removed_one_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The removal ends after one file, as by a kill; what is left of it goes with the next clear."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    (tmp_path / "step-00000001" / "more").touch()

    def remove_one_file(folder: Path, **_: object) -> None:
        for file in folder.glob("state"):
            file.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.rmtree", remove_one_file)
        checkpoints.clear()
    assert checkpoints.latest() is None and list(tmp_path.glob("*/more"))
    checkpoints.clear()
    assert list(tmp_path.iterdir()) == []


def test_the_same_training_twice_at_once_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second names the first's process."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path))
    with Checkpoints.open("k") as checkpoints:
        save(checkpoints, 1)
        with pytest.raises(LockedError, match="the same training runs in process"), Checkpoints.open("k"):
            pass
        checkpoints.clear()
    with Checkpoints.open("k") as checkpoints:
        assert checkpoints.latest() is None


def test_what_else_was_kept_goes_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A file and a folder of a stage's own; the lock is held still."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path))
    with Checkpoints.open("k") as checkpoints:
        (checkpoints.folder / "proxy-0.json").touch()
        (checkpoints.folder / "states").mkdir()
        (checkpoints.folder / "states" / "0.bin").touch()
        checkpoints.clear()
        assert [file.name for file in checkpoints.folder.iterdir()] == ["lock"]


def test_the_key_is_a_hash_of_the_facts():
    """Order of the keys is no fact; a value is."""
    assert checkpoint_key({"a": 1, "b": 2}) == checkpoint_key({"b": 2, "a": 1}) != checkpoint_key({"a": 1, "b": 3})


def test_the_hash_of_code_is_of_its_source(tmp_path: Path):
    """What Python compiles beside it is no fact; a line, a name and a package are."""
    package = tmp_path / "package"
    (package / "__pycache__").mkdir(parents=True)
    source = package / "loop.py"
    source.write_text("a = 1")
    seen = [code_hash(package)]
    (package / "__pycache__" / "loop.cpython-311.pyc").touch()
    assert code_hash(package) == seen[0]
    source.write_text("a = 2")
    seen.append(code_hash(package))
    source.rename(package / "step.py")
    seen += [code_hash(package), code_hash(package, package)]
    assert len(set(seen)) == 4


def test_a_wrong_interval_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "soon")
    with pytest.raises(ParamsError, match=r"\$DATASTILL_CHECKPOINT_S: expected seconds.*'soon'"):
        interval_s()
