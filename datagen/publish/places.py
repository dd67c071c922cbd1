"""What is published names no place on this machine: paths become their last part, other files are refused."""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from datagen.contracts.errors import DataError

_PATH = re.compile(r"(?:file://)?(?:/(?=.*/)|~[^/\s]*/|\.\./|[A-Za-z]:\\).+")
_TEXT = frozenset({".json", ".jsonl", ".md", ".html", ".csv", ".txt", ".jinja", ".yaml", ".svg"})
_AS_IT_IS = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json"})  # tokens
_WEIGHTS = frozenset({".safetensors"})
_LEAST_NAME = 5  # letters of a host's name: shorter ones are words too
_LEAST_PARTS = 2  # of a path, the root among them, that more than one container has


def without_places(value: Any) -> Any:  # JSON of any shape
    """The same JSON value, where a text that is a path from the root, from a home or upwards is its last part alone.

    So are keys; two that become the same keep both their values, the later under its name and a number.
    """
    if isinstance(value, str):
        return Path(value.replace("\\", "/")).name if _PATH.fullmatch(value) else value
    if isinstance(value, list):
        return [without_places(one) for one in cast(list[Any], value)]
    if isinstance(value, Mapping):
        cleaned: dict[str, Any] = {}
        for key, one in cast(Mapping[str, Any], value).items():
            named = short = cast(str, without_places(key))
            n = 1
            while named in cleaned:
                named = f"{short} {(n := n + 1)}"
            cleaned[named] = without_places(one)
        return cleaned
    return value


def shortened(text: str, known: Iterable[Path]) -> str:
    """A sentence in which the paths that are known, and all from the root or a home, are their last part alone."""
    for path in known:
        text = text.replace(str(path), path.name)
    return re.sub(r"(?<![\w./:])(?:~[^/\s]*)?/[^\s:;,'\"`)]*/([^\s:;,'\"`)/]+)", r"\1", text)


def cleaned(file: Path) -> bytes | None:
    """A JSON file's content where it names a place, without it; None where the file may go as it is."""
    if file.suffix != ".json" or file.name in _AS_IT_IS:
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    changed = without_places(value)
    return None if changed == value else (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()


def copy_clean(source: Path, to: Path, names: Mapping[str, str]) -> list[str]:
    """Copy files of `source`, by name there, to their names in `to`; returns the latter.

    JSON loses the places that it names, other files stay as they are. Weights are linked where the disk allows, since
    they are large and nobody edits them.

    Raises:
        DataError: one is missing.
    """
    for name, target in names.items():
        file, new = source / name, to / target
        if not file.is_file():
            raise DataError(f"{file}: is missing, though the manifest names it; run the stage again")
        new.parent.mkdir(parents=True, exist_ok=True)
        if (content := cleaned(file)) is not None:
            new.write_bytes(content)
        elif file.suffix in _WEIGHTS:
            _link(file.resolve(), new)
        else:
            shutil.copyfile(file, new)
    return list(names.values())


def check_places(folder: Path, sources: Mapping[str, Path]) -> None:
    """No text file in `folder` names this machine: its host, the user's home, the working folder, the data's folders.

    A folder at the root, such as /data, /app or /root, tells nothing and is not looked for, nor is a host whose name
    may be a word: shorter than 5 letters, or of letters alone. A path counts by itself, not within an address of the
    web.

    Raises:
        DataError: one does; the message names the file and the line.
    """
    folders = {one.resolve() for one in (*sources.values(), Path.cwd(), Path.home())}
    known = "|".join(re.escape(str(one)) for one in sorted(folders) if len(one.parts) > _LEAST_PARTS)
    words = [rf"(?:(?<![\w./-])|(?<=file://))(?:{known})(?!\.?[\w-])"] if known else []
    host = socket.gethostname()
    if len(host) >= _LEAST_NAME and not host.isalpha():
        words.append(rf"(?<![\w-]){re.escape(host)}(?![\w-])")
    if not words:
        return
    named = re.compile("|".join(words))
    for file in _texts(folder):
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if found := named.search(line):
                place = file.relative_to(folder).as_posix()
                raise DataError(
                    f"{place}:{number}: names a place on this machine ({found[0]}), which must not be published; "
                    "take it out where the stage wrote it"
                )


def _link(file: Path, new: Path) -> None:
    try:
        os.link(file, new)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, new)


def _texts(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix in _TEXT and file.name not in _AS_IT_IS:
            yield file
