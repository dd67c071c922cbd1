"""A real server on loopback that speaks what pushes and readers use of the Hub's HTTP API, with faults to order.

It keeps what the Hub keeps: objects by SHA-256, commits with all their files, tags; a commit that names an object which
was never sent is refused, and so is one whose parent is not the newest. It has no Xet storage unless told so.
"""

import base64
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web

from tests.hub_xet import XetStorage
from tests.loopback import served

ACTIONS = "refs|tree|paths-info|preupload|commit|tag|revision|xet-write-token"
LARGE = (".parquet", ".safetensors")


@dataclass
class Commit:
    """One commit: its files by name, each the SHA-256 of its content."""

    sha: str
    message: str
    files: dict[str, str]


@dataclass
class Repository:
    """Commits, the newest last."""

    private: bool
    commits: list[Commit]
    tags: dict[str, str] = field(default_factory=dict[str, str])

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a hash names."""
        if revision == "main":
            return self.commits[-1]
        sha = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.sha == sha), None)


class HubServer:
    """Keeps and counts.

    Attributes:
        url: with the port that the system chose; what $HF_ENDPOINT says.
        tokens: token to the namespaces that it may write to.
        repositories: (`dataset`, `ORG/NAME`) to what it holds.
        objects: SHA-256 to content.
        asked: how often each action came, such as `commit`, `batch` or `put`.
        fault: given the action and how often it came (from 1), the answer to give instead, or None.
        cut_after: bytes of large files after which every connection is cut, or None.
        n_bytes: of large files that came whole or in part, and of commits' bodies.
        xet: the Xet storage, where there is one.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tokens: Mapping[str, set[str]] = {"hf_writes": {"org"}, "hf_reads": set()}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.fault: Callable[[str, int], web.Response | None] = lambda action, n: None
        self.cut_after: int | None = None
        self.n_bytes: Counter[str] = Counter()
        self.xet: XetStorage | None = None

    def files(self, repo: str, kind: str = "dataset", revision: str = "main") -> dict[str, bytes]:
        """A revision's files with their contents."""
        commit = self.repositories[kind, repo].at(revision)
        assert commit
        return {name: self.objects[sha] for name, sha in commit.files.items()}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        path = request.path
        if found := re.fullmatch(r"/objects/([0-9a-f]{64})", path):
            return await self._counted("put", self._put(request, found[1]))
        if path.startswith("/v1/") and self.xet:
            return await self._counted("xet", self._take(request, self.xet))
        if found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return await self._counted("batch", self._batch(request))
        if found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = "dataset" if found[1] else "model"
            return await self._counted("resolve", self._resolve(request, kind, *found.groups()[1:]))
        if found := re.fullmatch(rf"/api/(dataset|model)s/([^/]+/[^/]+)(?:/({ACTIONS})(?:/(.*))?)?", path):
            kind, repo, action, rest = found.groups()
            return await self._counted(action or "info", self._of_repository(request, kind, repo, action, rest or ""))
        simple = {
            "/api/repos/create": self._create,
            "/api/validate-yaml": self._validate,
            "/objects/verify": self._verify,
        }
        if path in simple:
            return await self._counted(path.rpartition("/")[2], simple[path](request))
        return web.json_response({"error": f"no such page {path}"}, status=404)

    async def _counted(self, action: str, answer: Any) -> web.StreamResponse:
        self.asked[action] += 1
        if fault := self.fault(action, self.asked[action]):
            answer.close()
            return fault
        return await answer

    def _refusal(self, request: web.Request, repo: str, *, write: bool) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return web.json_response({"error": "Invalid credentials in Authorization header"}, status=401)
        if write and repo.partition("/")[0] not in self.tokens[token]:
            says = f"You don't have the rights to write to {repo}"
            return web.json_response({"error": says}, status=403)
        return None

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        repo, kind = f"{asked['organization']}/{asked['name']}", asked.get("type") or "model"
        if refusal := self._refusal(request, repo, write=True):
            return refusal
        if (kind, repo) in self.repositories:
            return web.json_response({"error": "You already created this repo"}, status=409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        attributes = self._keep(b"".join(b"*%s filter=lfs\n" % end.encode() for end in LARGE))
        first = Commit(sha=_sha1(f"{kind} {repo}"), message="initial commit", files={".gitattributes": attributes})
        self.repositories[kind, repo] = Repository(private=private, commits=[first])
        return web.json_response({"url": f"{self.url}/{'datasets/' * (kind == 'dataset')}{repo}", "name": repo})

    async def _validate(self, request: web.Request) -> web.Response:
        """As far as YAML goes."""
        found = re.match(r"---\n(.*?)\n---\n", (await request.json())["content"], re.DOTALL)
        try:
            metadata = yaml.safe_load(found[1]) if found else None
        except yaml.YAMLError as error:
            return web.json_response({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        warnings = [] if isinstance(metadata, dict) else [{"message": "empty or missing yaml metadata in repo card"}]
        return web.json_response({"errors": [], "warnings": warnings})

    async def _batch(self, request: web.Request) -> web.Response:
        actions = {
            "verify": {"href": f"{self.url}/objects/verify", "header": {}},
        }
        objects = [
            {"oid": one["oid"], "size": one["size"]}
            | (
                {}
                if one["oid"] in self.objects
                else {"actions": actions | {"upload": {"href": f"{self.url}/objects/{one['oid']}", "header": {}}}}
            )
            for one in (await request.json())["objects"]
        ]
        return web.json_response({"transfer": "basic", "objects": objects})

    async def _put(self, request: web.Request, oid: str) -> web.Response:
        content = b""
        async for block in request.content.iter_any():
            self.n_bytes["put"] += len(block)
            content += block
            if self.cut_after is not None and self.n_bytes["put"] > self.cut_after:
                assert request.transport
                request.transport.abort()
                return web.Response()
        if hashlib.sha256(content).hexdigest() != oid:
            return web.json_response({"error": "content is not what its hash says"}, status=400)
        self._keep(content)
        return web.Response()

    async def _take(self, request: web.Request, xet: XetStorage) -> web.Response:
        answer, files = await xet.take(request, request.path.removeprefix("/v1/"))
        self.n_bytes["put"] = xet.n_bytes
        for content in files:
            self._keep(content)
        return answer

    async def _verify(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if (await request.json())["oid"] in self.objects else 404)

    async def _of_repository(
        self, request: web.Request, kind: str, repo: str, action: str | None, rest: str
    ) -> web.StreamResponse:
        write = action in ("preupload", "commit", "tag", "xet-write-token")
        if refusal := self._refusal(request, repo, write=write):
            return refusal
        held = self.repositories.get((kind, repo))
        if held is None:
            return _missing("Repository not found", "RepoNotFound")
        revision, _, inside = rest.partition("/")
        commit = held.at(revision or "main")
        if commit is None:
            return _missing(f"Invalid rev id: {revision}", "RevisionNotFound")
        match action:
            case None | "revision":
                siblings = [{"rfilename": name} for name in commit.files]
                info = {"id": repo, "sha": commit.sha, "private": held.private, "siblings": siblings, "tags": []}
                return web.json_response(
                    info | {"downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"}
                )
            case "refs":
                branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": held.commits[-1].sha}]
                tags = [{"name": one, "ref": f"refs/tags/{one}", "targetCommit": sha} for one, sha in held.tags.items()]
                return web.json_response({"branches": branches, "tags": tags, "converts": []})
            case "tree":
                return self._tree(request, commit, inside)
            case "paths-info":
                if "form" in request.content_type:
                    wanted = [str(one) for one in (await request.post()).getall("paths")]
                else:
                    wanted = (await request.json())["paths"]
                return web.json_response([self._entry(one, commit) for one in wanted if one in commit.files])
            case "preupload":
                return self._preupload(await request.json(), commit)
            case "commit":
                return self._commit(await request.read(), held, repo)
            case "tag":
                name = (await request.json())["tag"]
                if name in held.tags:
                    return web.json_response({"error": f"Tag {name} exists"}, status=409)
                held.tags[name] = commit.sha
                return web.json_response({})
            case _ if self.xet:
                return web.json_response({"casUrl": self.url, "accessToken": "x", "exp": int(time.time()) + 3600})
            case _:
                return web.json_response({"error": "no Xet storage here"}, status=404)

    def _tree(self, request: web.Request, commit: Commit, inside: str) -> web.Response:
        start = f"{inside.rstrip('/')}/" if inside else ""
        names = [name for name in commit.files if name.startswith(start)]
        if not names:
            return _missing(f"{inside} does not exist", "EntryNotFound")
        recursive = request.query.get("recursive", "").lower() in ("true", "1")
        direct = [name for name in names if recursive or "/" not in name[len(start) :]]
        parts = [name[len(start) :].split("/")[:-1] for name in names]
        depths = {"/".join(one[: n + 1]) for one in parts for n in range(len(one) if recursive else min(len(one), 1))}
        folders = [{"type": "directory", "path": start + one, "oid": _sha1(one), "size": 0} for one in sorted(depths)]
        return web.json_response([*folders, *(self._entry(name, commit) for name in direct)])

    def _entry(self, name: str, commit: Commit) -> dict[str, Any]:
        content = self.objects[commit.files[name]]
        entry = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
        lfs = {"oid": commit.files[name], "size": len(content), "pointerSize": 130}
        return entry | ({"lfs": lfs} if name.endswith(LARGE) else {})

    def _preupload(self, asked: dict[str, Any], commit: Commit) -> web.Response:
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(LARGE) or one["size"] > 10_000_000 else "regular",
                "shouldIgnore": False,
                "oid": self._entry(one["path"], commit)["oid"] if one["path"] in commit.files else None,
            }
            for one in asked["files"]
        ]
        return web.json_response({"files": files})

    def _commit(self, body: bytes, held: Repository, repo: str) -> web.Response:
        self.n_bytes["commit"] += len(body)
        files, message = dict(held.commits[-1].files), ""
        for line in body.splitlines():
            key, value = (one := json.loads(line))["key"], one["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit", held.commits[-1].sha) != held.commits[-1].sha:
                    return web.json_response({"error": "A commit has happened since. Please refresh"}, status=412)
            elif key == "file":
                files[value["path"]] = self._keep(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    return web.json_response({"error": f"{value['path']} was not sent"}, status=400)
                files[value["path"]] = value["oid"]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = _sha1(held.commits[-1].sha + json.dumps(files, sort_keys=True) + message)
        held.commits.append(Commit(sha=sha, message=message, files=files))
        return web.json_response({"commitUrl": f"{self.url}/{repo}/commit/{sha}", "commitOid": sha, "success": True})

    async def _resolve(self, request: web.Request, kind: str, repo: str, revision: str, name: str) -> web.Response:
        if refusal := self._refusal(request, repo, write=False):
            return refusal
        held = self.repositories.get((kind, repo))
        if held is None or (commit := held.at(revision)) is None:
            return _missing("Repository not found", "RepoNotFound")
        if name not in commit.files:
            return _missing(f"{name} does not exist", "EntryNotFound", commit.sha)
        content = self.objects[commit.files[name]]
        tag = commit.files[name] if name.endswith(LARGE) else git_hash(content)
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(content))})
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            start, end = int(part[1]), int(part[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
            return web.Response(body=content[start : end + 1], status=206, headers=headers)
        return web.Response(body=content, headers=headers)

    def _keep(self, content: bytes) -> str:
        sha = hashlib.sha256(content).hexdigest()
        self.objects[sha] = content
        return sha


@contextmanager
def running() -> Iterator[HubServer]:
    """A server on a free port, in a thread of its own."""
    server = HubServer()
    app = web.Application(client_max_size=2**31)
    app.router.add_route("*", "/{path:.*}", server.answer)
    with served(app) as server.url:
        yield server


def refused(status: int, says: str, **headers: str) -> web.Response:
    """An answer as the Hub refuses; header names with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": says}, status=status, headers=named)


def git_hash(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _missing(says: str, code: str, commit: str = "") -> web.Response:
    headers = {"X-Error-Code": code, "X-Error-Message": says} | ({"X-Repo-Commit": commit} if commit else {})
    return web.json_response({"error": says}, status=404, headers=headers)


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()
