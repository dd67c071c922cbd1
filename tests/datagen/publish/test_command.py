"""The command against a Hub on loopback; oracles: what `datasets` loads from there, and what the server counts."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from datagen import cli
from datagen.contracts.dataset import DatasetWriter, content_hash, iterate, write_json
from datagen.contracts.errors import MissingError
from datagen.contracts.images import ImageRow, to_png
from datagen.publish.command import main
from tests.datagen.publish.conftest import write_documents
from tests.hub_server import HubServer
from tests.tiny_images import tiny_images

REPO = "org/data"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the Hub's library
LICENCES = {"rows": {"kind": "data", "licence": "cc0-1.0"}}
PASSING = {"licences": LICENCES, "stage": "filter", "method": "decontamination"}
LOAD = """
import datasets, hashlib, json, sys
def load(repo, config, split, revision):
    rows = datasets.load_dataset(repo, config, split=split, revision=revision)
    features = rows.features.to_dict()
    if "image" in features:
        rows = rows.cast_column("image", datasets.Image(decode=False))
    rows = rows.to_list()
    for row in rows:
        if "image" in row:
            row["image"] = hashlib.sha256(row["image"]["bytes"]).hexdigest()
    return {"rows": rows, "features": features}
json.dump([load(*one) for one in json.loads(sys.argv[1])], sys.stdout)
"""


def load(home: Path, *wanted: tuple[str, str, str, str | None]) -> list[dict[str, Any]]:
    """Repository, config, split and revision, in a process of its own, as a user of the Hub loads them."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(wanted)],
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_images(path: Path, n_per_class: int) -> Path:
    images = tiny_images(n_per_class, seed=n_per_class)
    manifest = {**PASSING, "stage": "images", "classes": list(images.classes), "shape": [1, 8, 8]}
    with DatasetWriter(path, ImageRow, manifest) as writer:
        for id, pixels, label in zip(images.ids, images.pixels, images.labels.tolist(), strict=True):
            writer.read()
            writer.write(ImageRow(id=f"{n_per_class}-{id}", image={"bytes": to_png(pixels), "path": None}, label=label))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "data", [f"row-{i}" for i in range(90)], manifest=PASSING)


def test_what_was_published_loads_with_equal_rows_and_types(
    hub: HubServer, data: Path, pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Texts and their rejections, traces, and images in two splits; the card says the types, beside the files."""
    verified, images = pipeline / "data" / "verified", write_images(tmp_path / "images", 3)
    more = write_images(tmp_path / "more", 2)
    assert cli.main(["publish", str(data), "--repo", REPO]) == 0
    tag = content_hash(data)[:12]
    told = capsys.readouterr().out
    assert f"{hub.url}/datasets/{REPO} (private): " in told and f"revision {tag}" in told
    everything = ["decontamination", "duplicates", "licence"]
    assert cli.main(["publish", str(verified), "--repo", "org/traces", "--allow", *everything]) == 0
    assert cli.main(["publish", str(images), "--repo", "org/images", "--split", f"test={more}"]) == 0
    texts, rejections, traces, train, test = load(
        tmp_path / "home",
        (REPO, "default", "train", tag),
        (REPO, "rejections", "train", None),
        ("org/traces", "default", "train", None),
        ("org/images", "default", "train", None),
        ("org/images", "default", "test", None),
    )
    assert texts["rows"] == list(iterate(data))
    string = {"dtype": "string", "_type": "Value"}
    assert texts["features"] == dict.fromkeys(("id", "text", "source", "domain", "licence", "info"), string)
    assert rejections["rows"] == list(iterate(data, "rejections"))
    assert traces["rows"] == list(iterate(verified))
    message = dict.fromkeys(("role", "content", "name", "tool_calls", "tool_call_id"), string)
    assert traces["features"]["messages"] == {"feature": message, "_type": "List"}
    assert traces["features"]["sample_index"] == {"dtype": "int32", "_type": "Value"}
    for found, path in ((train, images), (test, more)):
        digests = {row["id"]: hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in iterate(path)}
        assert {row["id"]: row["image"] for row in found["rows"]} == digests
        assert found["features"]["image"]["_type"] == "Image"
        assert found["features"]["label"] == {"names": ["corner 0", "corner 1", "corner 2"], "_type": "ClassLabel"}


def test_run_twice_it_does_nothing(hub: HubServer, data: Path, capsys: pytest.CaptureFixture[str]):
    cli.main(["publish", str(data), "--repo", REPO])
    sent = dict(hub.n_bytes)
    capsys.readouterr()
    assert cli.main(["publish", str(data), "--repo", REPO]) == 0
    assert "the Hub has all of it; nothing was sent" in capsys.readouterr().out
    assert dict(hub.n_bytes) == sent and len(hub.repositories["dataset", REPO].commits) == 2


def test_nothing_that_is_sent_names_this_machine(hub: HubServer, tmp_path: Path):
    data = write_documents(tmp_path / "data", ["1"], manifest={**PASSING, "params": {"student": str(tmp_path / "x")}})
    assert cli.main(["publish", str(data), "--repo", REPO, "--allow", "decontamination", "lock"]) == 0
    named = [str(tmp_path), str(Path.home()) + "/", str(Path.cwd())]
    for name, content in hub.files(REPO).items():
        assert not [one for one in named if one.encode() in content], name


def test_every_gate_that_refuses_is_in_one_message_and_allow_names_them(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = write_documents(tmp_path / "data", ["a", "b"])
    assert cli.main(["publish", str(data), "--repo", REPO]) == 3
    message = capsys.readouterr().err
    assert f"{data}: 2 gates refuse the push; mend what they name, or publish all the same with --allow" in message
    assert "\n  decontamination: " in message and "\n  licence: " in message
    assert hub.repositories == {} and hub.asked.total() == 0
    assert cli.main(["publish", str(data), "--repo", REPO, "--allow", "decontamination", "licence"]) == 0
    card = hub.files(REPO)["README.md"].decode()
    assert "`decontamination`" in card and "`licence`" in card and str(tmp_path) not in card


def test_a_stated_licence_is_in_the_card(hub: HubServer, tmp_path: Path):
    licences = {"rows": {"kind": "data", "licence": "unknown"}}
    data = write_documents(tmp_path / "data", ["a", "b"], manifest={**PASSING, "licences": licences})
    assert cli.main(["publish", str(data), "--repo", REPO]) == 3
    assert cli.main(["publish", str(data), "--repo", REPO, "--licence-of", "rows=cc-by-4.0"]) == 0
    assert b"license: cc-by-4.0" in hub.files(REPO)["README.md"]


def test_a_dry_run_writes_the_folder_and_needs_no_hub(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert cli.main(["publish", str(data), "--repo", REPO, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "nothing was sent" in told and "the folder is published/org/data" in told
    assert "data/train-*.parquet                                  90 rows" in told
    folder = tmp_path / "published" / "org" / "data"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "croissant.json", "data", "datastill", "pipeline.svg", "tables"
    }  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert cli.main(["publish", str(data), "--repo", REPO, "--dry-run", "--out", "mine"]) == 2
    assert "holds what this command did not write" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_student_is_a_model_repository(hub: HubServer, tmp_path: Path):
    """Its files lie where libraries look for them, its manifest and losses beside."""
    import numpy as np

    path = tmp_path / "student"
    path.mkdir()
    save_file({"weight": np.zeros((2, 2), np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "_name_or_path": str(tmp_path / "base")}))
    (path / "tokenizer.json").write_text('{"model": {"vocab": {"/a/b": 0}}}')
    (path / "loss.json").write_text("[]")
    base = {"name": "tiny", "revision": "1", "licence": "apache-2.0"}
    manifest = {
        "format": "datastill", "stage": "train_lm", "params": {"objective": "supervised"}, "inputs": {}, "base": base,
        "licences": {"tiny": {"kind": "base", "licence": "apache-2.0"}},
        "rows": {"in": 1, "out": 1, "rejected": 0}, "rejected": {},
        "files": {file.name: content_hash(file) for file in sorted(path.iterdir())},
    }  # fmt: skip
    write_json(path / "manifest.json", manifest)
    assert cli.main(["publish", str(path), "--repo", "org/student", "--allow", "decontamination"]) == 0
    files = hub.files("org/student", "model")
    assert set(files) == {
        ".gitattributes", "README.md", "pipeline.svg", "model.safetensors", "config.json", "tokenizer.json",
        "datastill/layout.json", "datastill/manifest.json", "datastill/loss.json",
    }  # fmt: skip
    assert json.loads(files["config.json"])["_name_or_path"] == "base"
    assert files["tokenizer.json"] == (path / "tokenizer.json").read_bytes()
    assert files["model.safetensors"] == (path / "model.safetensors").read_bytes()


def test_a_missing_token_is_said_before_any_gate(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN")
    data = write_documents(tmp_path / "data", ["a"])  # no gate would let it through
    with pytest.raises(MissingError, match="no token of the Hub: set HF_TOKEN, or run `hf auth login`"):
        main([str(data), "--repo", REPO])
    assert hub.asked.total() == 0


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["--split", "test"], "--split test: write NAME=VALUE, such as test=data/prompts_heldout", 2),
        (["--split", "te-st=DATA"], "a split's name has letters, digits and `_`", 2),
        (["--split", "test=nowhere"], "nowhere: no directory that a stage wrote", 3),
        (["--licence-of", "a=mit", "a=cc0-1.0"], "--licence-of a: is given twice", 2),
        (["--repo", "data"], "--repo data: name it ORG/NAME", 2),
        (["--repo", "org/a b"], "--repo org/a b: name it ORG/NAME", 2),
        (["--allow", "luck"], "--allow luck: no such gate; there are lock, schema", 2),
    ],
)
def test_what_is_wrong_with_the_command_line(
    data: Path,
    arguments: list[str],
    says: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    given = [one.replace("DATA", str(data)) for one in arguments]
    assert cli.main(["publish", str(data), "--repo", REPO, *given]) == code
    assert says in capsys.readouterr().err


def test_out_replaces_only_what_the_command_wrote(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A folder of the user's with a directory `datastill`, and one of the command's to which a file was added."""
    theirs = tmp_path / "theirs"
    (theirs / "datastill").mkdir(parents=True)
    (theirs / "datastill" / "layout.json").write_text("{}")
    (theirs / "thesis.tex").write_text("years of work")
    asked = ["publish", str(data), "--repo", REPO, "--dry-run", "--out"]
    assert cli.main([*asked, str(theirs)]) == 2
    assert "datastill/layout.json is not in datastill/layout.json" in capsys.readouterr().err
    assert (theirs / "thesis.tex").read_text() == "years of work"
    ours = tmp_path / "ours"
    assert cli.main([*asked, str(ours)]) == 0
    (ours / "README.md").write_text("another card")
    assert cli.main([*asked, str(ours)]) == 0
    assert "another card" not in (ours / "README.md").read_text()
    (ours / "data" / "notes.md").write_text("mine")
    assert cli.main([*asked, str(ours)]) == 2
    assert "(data/notes.md is not in datastill/layout.json)" in capsys.readouterr().err
    assert (ours / "data" / "notes.md").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "theirs", "ours"}  # nothing is left aside


def test_paths_may_be_the_working_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (out := tmp_path / "out").mkdir()
    monkeypatch.chdir(out)
    assert cli.main(["publish", str(data), "--repo", REPO, "--dry-run", "--out", "."]) == 0
    assert (out / "README.md").is_file()
    monkeypatch.chdir(data)
    asked = ["publish", ".", "--repo", REPO, "--dry-run", "--out", "../again"]
    assert cli.main(asked) == 0
    for name in ("README.md", "croissant.json"):  # with every `.` of their sentences
        assert (tmp_path / "again" / name).read_text() == (out / name).read_text()


@pytest.mark.parametrize("secret", ["AKIA" + "Q3EGRTX5VZ7NPL2M", "jane@harbour-books.com"])
def test_a_secret_in_the_params_of_a_step_behind_stops_the_push(
    hub: HubServer, tmp_path: Path, secret: str, capsys: pytest.CaptureFixture[str]
):
    """The directory that is published holds none; its card would print that of its parent."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    said = {"params": {"method": "decontamination", "header": secret}}
    one = write_documents(tmp_path / "data" / "one", ["a"], manifest={**PASSING, **said})
    behind = {**PASSING, "inputs": {"documents": content_hash(one)}}
    two = write_documents(tmp_path / "data" / "two", ["a"], manifest=behind)
    asked = ["publish", str(two), "--repo", REPO]
    assert cli.main(asked) == 3
    told = capsys.readouterr().err
    assert "1 gate refuses the push" in told and "\n  personal_data: the card repeats" in told
    assert "would be in README.md:" in told and secret not in told and hub.repositories == {}
    assert cli.main([*asked, "--allow", "personal_data"]) == 0
    card = hub.files(REPO)["README.md"].decode()
    assert secret in card and "The check `personal_data` failed and was overridden." in card


def test_a_dataset_that_is_written_anew_meanwhile_is_not_pushed(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The Hub's first answer comes after the gates and before the folder: there the stage runs again."""
    path = write_documents(tmp_path / "data", ["a", "b"], manifest=PASSING)

    def run_again(asked: str, n: int) -> None:
        if asked == "info" and n == 1:
            write_documents(path, ["c", "d"], manifest=PASSING)

    hub.fault = run_again
    assert cli.main(["publish", str(path), "--repo", REPO]) == 3
    assert f"{path}: was written anew while it was published; run this again" in capsys.readouterr().err
    assert hub.repositories == {}
