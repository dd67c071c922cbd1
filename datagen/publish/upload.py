"""Upload of a folder to the Hub by huggingface_hub: private, in one commit, tagged with what it holds.

The commit comes last, after all large files, so nobody sees half a dataset, and what a cut connection left behind is
not sent again: the Hub keeps files by their hash. Where the Hub has all files already no commit is made. Only what
datastill/layout.json of an earlier push lists is deleted, so a file that somebody added by hand stays; a repository
with files but without that list is somebody else's, and is refused.

The token is the Hub's own: $HF_TOKEN, or the one of `hf auth login`. $HF_ENDPOINT names another Hub.

Source: the calls are those of https://huggingface.co/docs/huggingface_hub/guides/upload.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from datagen.contracts.errors import DatastillError, MissingError, ParamsError
from datagen.publish.layout import LAYOUT, Kind, Layout, Uploaded, list_files, listed_in

_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_CROISSANT = "croissant.json"
_OF_THE_HUB = ".gitattributes"  # it makes this one itself
_AT_ONCE = 64  # large files a request asks about: what a cut connection repeats is the files under way, no more
_REMEDIES = {
    401: "the Hub does not know the token; set HF_TOKEN to a valid one, or run `hf auth login`",
    403: "the token may not write there; give it the right to write to this repository, or name one of your own",
    404: "the Hub has no such repository that this token may see; check --repo and the token's rights",
    409: "somebody else changed the repository at the same time; run this again",
    412: "somebody else changed the repository at the same time; run this again",
    413: "the Hub takes no request of this size; publish fewer rows at once",
    429: "the Hub asks for fewer requests; run this again later: what it has is not sent again",
}
_LATER = "the Hub itself failed; run this again later: what it has is not sent again"


class HubError(DatastillError, RuntimeError):
    """The Hub refused, failed, or cannot be reached."""

    exit_code = 4


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository as it is before a push.

    Attributes:
        head: its newest commit; None where there is no repository.
        files: of the newest commit, by name: SHA-256 of a large file, `git:` and git's hash of a small one.
        tags: name to commit.
        layout: what an earlier push says of its files; empty where there was none.
        published: date of the first push, where Croissant's metadata there says it.
        private: whether only those who may can see it.
    """

    head: str | None
    files: Mapping[str, str]
    tags: Mapping[str, str]
    layout: Mapping[str, object]
    published: str | None
    private: bool


def check_name(repo: str) -> None:
    """Whether it may be a repository's.

    Raises:
        ParamsError: it may not.
    """
    if not _REPO.fullmatch(repo):
        raise ParamsError(f"--repo {repo}: name it ORG/NAME, of letters, digits, `-`, `_` and `.`")


def check_token() -> None:
    """Whether there is one; the Hub is not asked.

    Raises:
        MissingError: there is none, or huggingface_hub is not installed.
    """
    _api()


def look(repo: str, kind: Kind) -> Remote:
    """The repository as it is; nothing is changed.

    Raises:
        MissingError: no token, or huggingface_hub is not installed.
        ParamsError: it holds files, and none of them is an earlier push's.
        HubError: the Hub refused or cannot be reached.
    """
    api = _api()
    from huggingface_hub.errors import RepositoryNotFoundError

    with _explained(repo):
        try:
            info = api.repo_info(repo, repo_type=kind)
        except RepositoryNotFoundError:
            return Remote(head=None, files={}, tags={}, layout={}, published=None, private=True)
        tags = {one.name: one.target_commit for one in api.list_repo_refs(repo, repo_type=kind).tags}
        files = _files(api, repo, kind, info.sha)
        layout = _read_json(api, repo, kind, info.sha, LAYOUT) if LAYOUT in files else {}
        others = sorted(files.keys() - {_OF_THE_HUB})
        if others and not listed_in(layout):
            raise ParamsError(
                f"--repo {repo}: holds {len(others)} files that datastill did not push, such as {others[0]} (no list "
                f"of files in {LAYOUT}); name another repository, or delete them there first"
            )
        croissant = _read_json(api, repo, kind, info.sha, _CROISSANT) if _CROISSANT in files else {}
        published = str(croissant["datePublished"]) if "datePublished" in croissant else None
        private = bool(info.private)
        return Remote(head=info.sha, files=files, tags=tags, layout=layout, published=published, private=private)


def push(layout: Layout, repo: str, remote: Remote, *, public: bool = False) -> Uploaded:
    """Make the repository hold the folder, and tag it.

    Args:
        layout: the folder, with its card; the list of its files is written there.
        repo: ORG/NAME; created where there is none.
        remote: what `look` found.
        public: whether everybody may see it.

    Raises:
        ParamsError: the repository is public and `public` was not asked for, or the other way round.
        HubError: the Hub refused or cannot be reached; what was sent stays there.
    """
    api = _api()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    url = f"{api.endpoint}/{'datasets/' if layout.kind == 'dataset' else ''}{repo}"
    if not any(_walk(layout.folder)):
        raise ParamsError(f"{layout.folder}: holds no file; nothing to publish")
    list_files(layout)
    files = {path.relative_to(layout.folder).as_posix(): path for path in _walk(layout.folder)}
    if remote.head is not None and remote.private is public:
        is_now, remedy = ("private", "leave --public out") if remote.private else ("public", "add --public")
        raise ParamsError(f"{url} is {is_now}; {remedy}, or change it in its settings")
    hash_of = functools.cache(_hash)  # a large file is read once
    with _explained(repo):
        at_tag = remote.tags.get(layout.tag)
        if at_tag and at_tag != remote.head and not _changed(files, _files(api, repo, layout.kind, at_tag), hash_of):
            note = f"this is published already as revision {layout.tag}; main holds another, and was left as it is"
            return Uploaded(url=url, commit=at_tag, tag=layout.tag, is_new=False, n_files=0, n_bytes=0, note=note)
        head, there = remote.head, remote.files
        if head is None:
            api.create_repo(repo, repo_type=layout.kind, private=not public, exist_ok=True)
            head = api.repo_info(repo, repo_type=layout.kind).sha
            there = _files(api, repo, layout.kind, head)
        changed = _changed(files, there, hash_of)
        gone = [name for name in listed_in(remote.layout) if name in there and name not in files]
        commit = head
        if changed or gone:
            adds = [CommitOperationAdd(name, str(files[name])) for name in changed]
            for start in range(0, len(adds), _AT_ONCE):
                api.preupload_lfs_files(repo, adds[start : start + _AT_ONCE], repo_type=layout.kind)
            commit = api.create_commit(
                repo,
                [*adds, *(CommitOperationDelete(name, is_folder=False) for name in gone)],
                commit_message=f"{layout.path.name}: {layout.tag}",
                repo_type=layout.kind,
                parent_commit=head,
            ).oid
        note = ""
        if at_tag is None:
            api.create_tag(repo, tag=layout.tag, revision=commit, repo_type=layout.kind, exist_ok=True)
        elif at_tag != commit:
            note = f"revision {layout.tag} stays at commit {at_tag[:12]}, which holds the same rows or weights"
    known = set(there.values())
    n_bytes = sum(files[name].stat().st_size for name in changed if hash_of(files[name]) not in known)
    return Uploaded(
        url=url,
        commit=commit,
        tag=layout.tag,
        is_new=commit != remote.head and bool(changed or gone),
        n_files=len(changed),
        n_bytes=n_bytes,
        note=note,
    )


def _api() -> Any:  # HfApi's methods have types of unknown parts
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise MissingError("publishing needs the package huggingface_hub: `pip install 'datastill[hub]'`") from None
    if huggingface_hub.get_token() is None:
        raise MissingError("no token of the Hub: set HF_TOKEN, or run `hf auth login`; --dry-run needs none")
    if not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub.HfApi(endpoint=endpoint(), library_name="datastill")


def _files(api: Any, repo: str, kind: Kind, revision: str) -> dict[str, str]:
    """What a revision holds, as Remote has it."""
    tree = api.list_repo_tree(repo, repo_type=kind, revision=revision, recursive=True)
    return {one.path: one.lfs.sha256 if one.lfs else f"git:{one.blob_id}" for one in tree if hasattr(one, "blob_id")}


def _read_json(api: Any, repo: str, kind: Kind, revision: str, name: str) -> dict[str, object]:
    """An object of JSON in a repository; empty where the file is none."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(api.hf_hub_download(repo, name, repo_type=kind, revision=revision, local_dir=folder))
        try:
            content = json.loads(found.read_text(encoding="utf-8"))
        except ValueError:
            return {}
    return cast(dict[str, object], content) if isinstance(content, dict) else {}


def _changed(files: Mapping[str, Path], there: Mapping[str, str], hash_of: Callable[..., str]) -> list[str]:
    """Names of the files that a revision has not, or not so."""
    return [
        name
        for name, path in files.items()
        if (known := there.get(name)) is None or known != hash_of(path, as_git=known.startswith("git:"))
    ]


def _hash(path: Path, *, as_git: bool = False) -> str:
    with path.open("rb") as file:
        if not as_git:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while block := file.read(2**20):
            digest.update(block)
        return f"git:{digest.hexdigest()}"


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


@contextlib.contextmanager
def _explained(repo: str) -> Generator[None]:
    """What the Hub's library raises becomes one line with the remedy; the token is in none of it."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise MissingError("HF_HUB_OFFLINE keeps this process from the Hub; unset it, or use --dry-run") from None
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, HfHubHTTPError):
                raise _refusal(repo, cause) from None
            if type(cause).__module__.partition(".")[0] in ("httpx", "httpx2"):  # either, by the library's version
                raise HubError(
                    f"{repo}: the connection to {endpoint()} failed ({type(cause).__name__}: {cause}); run this again: "
                    "what the Hub has is not sent again"
                ) from None
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, OSError | RuntimeError) and _sends_by_xet():  # it raises Python's own errors
            raise HubError(
                f"{repo}: the Hub's Xet storage failed ({error}); run this again, or set HF_HUB_DISABLE_XET=1 to send "
                "files by plain HTTP"
            ) from None
        raise


def _refusal(repo: str, error: Any) -> HubError:
    status = error.response.status_code
    says = getattr(error, "server_message", None) or error.response.reason_phrase or "no reason given"
    after = error.response.headers.get("Retry-After")
    wait = f" (in {after} s)" if after else ""
    remedy = _REMEDIES.get(status, _LATER if status >= 500 else "see what it says")
    return HubError(f"{repo}: {endpoint()} answers {status}{wait}: {' '.join(says.split())}; {remedy}")


def _sends_by_xet() -> bool:
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


def endpoint() -> str:
    """The Hub's address, without a slash at its end."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
