"""Places of this machine; oracle: paths written out by hand."""

import os
import socket
from pathlib import Path

import pytest

from datagen.contracts.errors import DataError
from datagen.publish.places import check_places, cleaned, copy_clean, shortened, without_places


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("/home/ann/models/tiny", "tiny"),
        ("~/models/tiny/", "tiny"),
        ("~ann/tiny", "tiny"),
        ("../ann/tiny", "tiny"),
        ("C:\\Users\\ann\\tiny", "tiny"),
        ("file:///home/ann/tiny", "tiny"),
        ({"a": ["/srv/x", {"b": "/srv/y"}], "/srv/key": 3}, {"a": ["x", {"b": "y"}], "key": 3}),
        ({"/srv/ann/x": 1, "/srv/bob/x": 2}, {"x": 1, "x 2": 2}),
    ],
)
def test_a_path_becomes_its_last_part(value: object, wanted: object):
    assert without_places(value) == wanted


@pytest.mark.parametrize("value", ["data/raw/gsm8k", "a / b", "/", "</think>", "https://x.org/y", "~", "1/2", 7, None])
def test_other_texts_stay(value: object):
    assert without_places(value) == value


def test_a_sentence_keeps_the_names_of_files():
    said = "/home/ann/my data/x: 3 rows as in '/srv/sets/test.jsonl:4'; see https://x.org/a/b, data/y/z and 1/2"
    wanted = "x: 3 rows as in 'test.jsonl:4'; see https://x.org/a/b, data/y/z and 1/2"
    assert shortened(said, [Path("/home/ann/my data/x")]) == wanted


def test_tokens_are_no_paths(tmp_path: Path):
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_text('{"added": "/usr/bin/token"}')
    assert cleaned(tmp_path / "tokenizer.json") is None
    assert cleaned(tmp_path / "config.json") == b'{\n  "added": "token"\n}\n'
    (tmp_path / "plain.json").write_text('{"added":"token"}')
    assert cleaned(tmp_path / "plain.json") is None  # byte for byte as it was


def test_weights_are_linked_and_what_is_missing_is_said(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    copy_clean(tmp_path, tmp_path / "to", {"model.safetensors": "model.safetensors"})
    assert os.path.samefile(tmp_path / "model.safetensors", tmp_path / "to" / "model.safetensors")
    with pytest.raises(DataError, match=r"loss\.json: is missing, though the manifest names it; run the stage again"):
        copy_clean(tmp_path, tmp_path / "to", {"loss.json": "loss.json"})


def test_a_page_that_names_this_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (folder := tmp_path / "folder").mkdir()
    data, home, here = tmp_path / "data", tmp_path / "ann", tmp_path / "work"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-17")
    for text, named in (
        (f"made of {data}/part", data),
        (f"in {home}/models", home),
        (f"in file://{home}", home),
        (f"ran in {here}.", here),
        ("on http://gpu-17:8000/v1", "gpu-17"),
    ):
        (folder / "examples.md").write_text(f"# Examples\n{text}\n")
        with pytest.raises(DataError, match=r"examples\.md:2: names a place on this machine") as caught:
            check_places(folder, {"train": data})
        assert f"({named})" in str(caught.value)
    (folder / "examples.md").write_text(f"of data/verified, at /usr/bin, {here}house, {here}.old, http://x.org{here}\n")
    check_places(folder, {"train": data})


@pytest.mark.parametrize("host", ["train", "student", "corpus", "gsm8k"])
def test_ordinary_folders_of_containers_and_hosts_that_are_words_are_no_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/data"))
    monkeypatch.setenv("HOME", "/root")
    said = "the student of data/corpus, split train, gsm8k-test, https://huggingface.co/datasets/me/x, /data/x\n"
    (tmp_path / "README.md").write_text(said)
    check_places(tmp_path, {"train": Path("/datasets")})
