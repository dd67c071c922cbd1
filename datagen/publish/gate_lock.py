"""Gate `lock`: what DVC made is what dvc.lock says, so that the pipeline in git makes it again.

Hashes are DVC's: MD5 of a file, and of a folder that of its listing (Source: https://dvc.org/doc, Internal directories
and files, "Structure of the cache directory"). Nothing of DVC runs, and git is not asked.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import yaml

from datagen.contracts.errors import DataError
from datagen.publish.outcome import Outcome, Splits, passed, refused

_TEMPLATE = re.compile(r"\$\{.*?\}")


def check_lock(splits: Splits) -> Outcome:
    """Each directory that a dvc.yaml above it names as an output, or lies in one, is as that one's dvc.lock has it."""
    locked: list[str] = []
    for path in splits.values():
        for folder, output, md5 in _outputs(path.resolve()):
            place = output.relative_to(folder).as_posix()
            if md5 is None:
                return refused(
                    f"{path}: {folder.name}/dvc.yaml names {place} as an output, and dvc.lock has no hash of it; run "
                    "`dvc repro`, then publish"
                )
            if (found := hash_of_output(output)) != md5:
                return refused(
                    f"{path}: {place} was changed since DVC made it (dvc.lock has {md5[:12]}, it is {found[:12]}); run "
                    f"`dvc checkout {place}` for what was made, or `dvc repro` to make it anew"
                )
            locked.append(f"{place} is what dvc.lock has ({md5[:12]})")
    return passed("; ".join(dict.fromkeys(locked)) or "not applicable: no dvc.yaml above names it as an output")


def hash_of_output(path: Path) -> str:
    """MD5 of a file, or of a folder's files in DVC's listing, which ends on `.dir`."""
    if path.is_file():
        return _md5(path)
    files = sorted(
        (file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file() and not _ignored(file)
    )
    listing = [{"md5": _md5(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _outputs(path: Path) -> Iterator[tuple[Path, Path, str | None]]:
    """Folder of the dvc.yaml, output that is `path` or holds it, its hash; up to the project's root."""
    for folder in path.parents:
        if (folder / "dvc.yaml").is_file():
            stages, locked = (_read(folder / name).get("stages") or {} for name in ("dvc.yaml", "dvc.lock"))
            hashes: dict[Path, str] = {}
            for name, stage in locked.items():
                work = folder / ((stages.get(name.partition("@")[0]) or {}).get("wdir") or ".")
                for out in stage.get("outs") or []:
                    hashes[(work / out["path"]).resolve()] = out["md5"]
            if found := next((output for output in hashes if output == path or output in path.parents), None):
                yield folder, found, hashes[found]
            elif found := next(_named(folder, stages, path), None):
                yield folder, found, None
        if (folder / ".dvc").is_dir():
            return


def _named(folder: Path, stages: Mapping[str, Any], path: Path) -> Iterator[Path]:
    """Outputs of dvc.yaml that are `path` or hold it; what a template stands for may be anything."""
    for stage in stages.values():
        said = stage.get("do") or stage
        work = folder / (said.get("wdir") or ".")
        for out in said.get("outs") or []:
            pattern = _TEMPLATE.sub("*", out if isinstance(out, str) else next(iter(cast(dict[str, Any], out))))
            for one in (path, *path.parents):
                if one.is_relative_to(work.resolve()) and fnmatchcase(
                    one.relative_to(work.resolve()).as_posix(), pattern.rstrip("/")
                ):
                    yield one


def _ignored(file: Path) -> bool:
    """As the .dvcignore of `make setup` and of `datastill init` has it."""
    return file.suffix == ".pyc" or "__pycache__" in file.parts


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({' '.join(str(error).split())}); mend it") from None


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
