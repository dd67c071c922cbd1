"""Pushes to a Hub on loopback; oracle: what the server holds and counts, which is the user's only view of a push."""

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from datagen.contracts.errors import MissingError, ParamsError
from datagen.publish.folder import lay_out
from datagen.publish.layout import LAYOUT, Layout, Uploaded, list_files
from datagen.publish.upload import HubError, look, push
from tests.datagen.publish.conftest import write_documents
from tests.hub_server import HubServer, refused
from tests.hub_xet import XetStorage

REPO = "org/data"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the Hub's library
_counter = itertools.count()
BY_XET = """
import sys
from pathlib import Path
from datagen.publish.folder import lay_out
from datagen.publish.upload import HubError, look, push
data, folder = map(Path, sys.argv[1:])
folder.mkdir()
try:
    print(push(lay_out({"train": data}, folder), "org/data", look("org/data", "dataset")).n_files)
except HubError as error:
    sys.exit(f"told: {error}")
"""


def laid_out(data: Path, before: Mapping[str, object] | None = None) -> Layout:
    folder = data.with_name(f"folder-{next(_counter)}")
    folder.mkdir()
    layout = lay_out({"train": data}, folder, before)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Data\n")
    return layout


def publish(data: Path, repo: str = REPO, *, public: bool = False) -> Uploaded:
    remote = look(repo, "dataset")
    return push(laid_out(data, remote.layout), repo, remote, public=public)


def ids(n: int) -> list[str]:
    return [f"row-{i}" for i in range(n)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "data", ids(100))


def test_a_push_makes_a_private_repository_with_one_commit_and_a_tag(hub: HubServer, data: Path):
    done = publish(data)
    held = hub.repositories["dataset", REPO]
    assert held.private and len(held.commits) == 2  # the Hub's own first one and ours
    assert held.tags == {done.tag: held.commits[-1].sha}
    layout = laid_out(data)
    list_files(layout)
    local = {path.relative_to(layout.folder).as_posix(): path for path in layout.folder.rglob("*") if path.is_file()}
    there = hub.files(REPO)
    assert there.pop(".gitattributes")
    assert there == {name: path.read_bytes() for name, path in local.items()}
    assert (done.is_new, done.n_files, done.commit) == (True, len(local), held.commits[-1].sha)
    assert done.n_bytes == sum(path.stat().st_size for path in local.values())
    assert done.url == f"{hub.url}/datasets/{REPO}"


def test_a_second_push_sends_nothing_and_commits_nothing(hub: HubServer, data: Path):
    first = publish(data)
    before = (dict(hub.n_bytes), len(hub.repositories["dataset", REPO].commits), hub.asked["tag"])
    second = publish(data)
    assert (second.is_new, second.n_files, second.n_bytes, second.commit) == (False, 0, 0, first.commit)
    assert before == (dict(hub.n_bytes), len(hub.repositories["dataset", REPO].commits), hub.asked["tag"])


def test_a_tag_that_a_cut_left_out_is_set_without_a_commit(hub: HubServer, data: Path):
    publish(data)
    held = hub.repositories["dataset", REPO]
    held.tags.clear()
    done = publish(data)
    assert held.tags == {done.tag: held.commits[-1].sha}
    assert not done.is_new and len(held.commits) == 2


def test_what_is_tagged_already_is_said_so_and_main_is_left(hub: HubServer, data: Path, tmp_path: Path):
    first = publish(data)
    publish(write_documents(tmp_path / "longer", ids(120)))
    again = publish(data)
    assert (again.commit, again.is_new) == (first.commit, False)
    assert f"published already as revision {first.tag}" in again.note
    assert len(hub.repositories["dataset", REPO].commits) == 3


def test_another_card_of_the_same_rows_leaves_the_tag_where_it_is(hub: HubServer, data: Path):
    first = publish(data)
    layout = laid_out(data)
    (layout.folder / "README.md").write_text("---\nlicense: mit\n---\n# Better\n")
    done = push(layout, REPO, look(REPO, "dataset"))
    assert done.is_new and done.n_files == 1 and "holds the same rows" in done.note
    assert hub.repositories["dataset", REPO].tags == {first.tag: first.commit}


def test_files_of_ours_that_are_gone_are_deleted_and_those_of_others_stay(hub: HubServer, data: Path, tmp_path: Path):
    publish(data)
    held = hub.repositories["dataset", REPO]
    by_hand = {"LICENSE", "data/extra.csv", "tables/notes.md"}
    held.commits[-1].files.update(dict.fromkeys(by_hand, held.commits[-1].files["README.md"]))
    publish(write_documents(tmp_path / "fewer", ids(5), rejected=0))
    names = set(hub.files(REPO))
    assert {name for name in names - by_hand if name.startswith(("data/", "tables/"))} == {"data/train-00000.parquet"}
    assert by_hand <= names


@pytest.mark.parametrize("theirs", [["README.md"], ["data/train-00000.parquet"], ["data/mine.csv", LAYOUT]])
def test_a_repository_of_somebody_else_is_refused_as_it_is(hub: HubServer, data: Path, theirs: list[str]):
    """A layout.json that is no list of files is not ours either."""
    publish(data)
    held = hub.repositories["dataset", REPO]
    files = held.commits[-1].files
    kept = {name: files["README.md"] for name in theirs} | {".gitattributes": files[".gitattributes"]}
    files.clear()
    files.update(kept)
    with pytest.raises(
        ParamsError, match=rf"--repo {REPO}: holds {len(theirs)} files that .* {theirs[0]} .* name anoth"
    ):
        publish(data)
    assert len(held.commits) == 2 and held.commits[-1].files == kept
    files.pop(theirs[0])
    if len(theirs) == 1:  # empty, as the Hub makes it
        assert publish(data).is_new


@pytest.mark.parametrize("place", ["end", "middle"])
def test_a_hundredth_more_rows_sends_a_twentieth_at_most(hub: HubServer, tmp_path: Path, place: str):
    """All bytes that reach the server, the manifest and the requests' bodies among them."""
    rows = ids(5000)
    publish(write_documents(tmp_path / "before", rows, rejected=50))
    first = sum(hub.n_bytes.values())
    hub.n_bytes.clear()
    at = {"end": len(rows), "middle": 1234}[place]
    rows[at:at] = [f"new-{i}" for i in range(50)]
    publish(write_documents(tmp_path / "after", rows, rejected=50))
    assert 0 < sum(hub.n_bytes.values()) <= 0.05 * first


def test_a_cut_connection_is_told_and_the_next_push_sends_the_rest(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    data = write_documents(tmp_path / "data", ids(2000))
    total = sum(path.stat().st_size for path in laid_out(data).folder.rglob("*.parquet"))
    hub.cut_after = total // 2
    with pytest.raises(HubError, match=f"connection to {hub.url} failed .* run this again: what the Hub has is not"):
        publish(data)
    assert len(hub.repositories["dataset", REPO].commits) == 1  # nobody sees a half
    there = sum(len(content) for content in hub.objects.values())
    assert there > total // 4
    hub.cut_after = None
    hub.n_bytes.clear()
    done = publish(data)
    assert done.is_new and hub.n_bytes["put"] <= total - there + len(hub.objects)  # .gitattributes is there too
    assert len(hub.repositories["dataset", REPO].commits) == 2


REFUSALS = [
    ("info", 401, "Invalid credentials in Authorization header", "set HF_TOKEN to a valid one"),
    ("create", 403, "You don't have the rights to create a dataset under org", "right to write"),
    ("commit", 409, "Another commit is under way", "run this again"),
    ("commit", 412, "A commit has happened since", "somebody else changed the repository"),
    ("refs", 429, "Too many requests", "asks for fewer requests"),
    ("commit", 500, "Internal error", "the Hub itself failed; run this again later"),
    ("batch", 503, "Down for maintenance", "the Hub itself failed"),
]


@pytest.mark.parametrize(("action", "status", "says", "remedy"), REFUSALS)
def test_a_refusal_is_one_line_with_what_to_do(
    hub: HubServer, data: Path, monkeypatch: pytest.MonkeyPatch, action: str, status: int, says: str, remedy: str
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    if action == "refs":
        publish(data)
    hub.fault = lambda asked, n: refused(status, says, Retry_After="7") if asked == action else None
    with pytest.raises(HubError) as caught:
        publish(data)
    message = str(caught.value)
    assert f"{REPO}: {hub.url} answers {status} (in 7 s): {says}; " in message
    assert remedy in message and "\n" not in message and "hf_" not in message
    assert caught.value.exit_code == 4


def test_a_failure_that_passes_is_tried_again(hub: HubServer, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fault = lambda asked, n: refused(500, "Internal error") if asked == "put" and n <= 2 else None
    assert publish(data).is_new


def test_a_token_without_rights_or_unknown_or_missing(hub: HubServer, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    with pytest.raises(HubError, match=r"answers 403.*may not write there"):
        publish(data)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    with pytest.raises(HubError, match=r"answers 401.*does not know the token"):
        publish(data)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(MissingError, match="no token of the Hub: set HF_TOKEN, or run `hf auth login`"):
        publish(data)
    assert hub.repositories == {}


def test_a_push_does_not_change_who_can_see_a_repository(hub: HubServer, data: Path):
    publish(data, public=True)
    assert not hub.repositories["dataset", REPO].private
    with pytest.raises(ParamsError, match="is public; add --public"):
        publish(data)
    publish(data, "org/closed")
    with pytest.raises(ParamsError, match="is private; leave --public out"):
        publish(data, "org/closed", public=True)


def test_an_empty_folder_is_refused(hub: HubServer, data: Path):
    layout = laid_out(data)
    for path in layout.folder.rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(ParamsError, match="holds no file; nothing to publish"):
        push(layout, REPO, look(REPO, "dataset"))
    assert hub.repositories == {}


def test_nobody_there_is_a_line_too(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"the connection to http://127\.0\.0\.1:9 failed"):
        look(REPO, "dataset")


def test_offline_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE keeps this process from the Hub"):
        look(REPO, "dataset")


def push_by_xet(hub: HubServer, data: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the library reads its settings once."""
    own = {"HF_HOME": str(data.parent / "home"), "HF_HUB_DISABLE_XET": "0", "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", BY_XET, str(data), str(data.parent / "folder")],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )


def test_files_go_by_xet_where_the_hub_takes_them_so(hub: HubServer, tmp_path: Path):
    """The server puts the files together from chunks; a commit that names a file with another hash is refused."""
    hub.xet = XetStorage()
    data = write_documents(tmp_path / "data", ids(400))
    done = push_by_xet(hub, data)
    assert done.returncode == 0, done.stderr
    there = {name: content for name, content in hub.files(REPO).items() if name.endswith(".parquet")}
    assert there == {name: (tmp_path / "folder" / name).read_bytes() for name in there}
    assert len(there) + 2 == int(done.stdout) and hub.asked["put"] == 0 < hub.xet.n_bytes


def test_a_hub_without_xet_is_told_with_the_way_round(hub: HubServer, tmp_path: Path):
    done = push_by_xet(hub, write_documents(tmp_path / "data", ids(3)))
    assert "told: org/data: the Hub's Xet storage failed" in done.stderr
    assert "or set HF_HUB_DISABLE_XET=1 to send files by plain HTTP" in done.stderr
    assert len(hub.repositories["dataset", REPO].commits) == 1
