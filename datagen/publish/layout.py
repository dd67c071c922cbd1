"""What is published, as it lies in a folder and as the Hub has it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from datagen.contracts.dataset import write_json

LAYOUT = "datastill/layout.json"  # of what was pushed; it marks a repository and a folder as made here
ROWS = "default"  # the config that holds a dataset's rows; a side table's config has the table's name
N_TAG = 12  # hex digits

Kind = Literal["dataset", "model"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A folder in the Hub's form.

    Attributes:
        kind: of the repository.
        folder: the folder itself; paths below are relative to it, with `/`.
        sources: split to the directory that a stage wrote; a model has one, `train`.
        hash: SHA-256 of what is published: the directory's content hash, or one over those of all splits.
        record: of the rows, such as `Trace`; None for a model.
        configs: config to split to Parquet files, in the order of the rows; empty for a model. Tables and splits that
            hold no row have no file.
        patterns: config to split to the glob that matches its files alone, as a card's `data_files` has it.
        features: config to its columns, as a card's `dataset_info` lists them.
        n_rows: config to split to its rows, 1 or more.
        n_bytes: config to split to the bytes of its Parquet files.
        others: files that hold no rows: the stage's manifest and what else it wrote; for a model, its weights too.
    """

    kind: Kind
    folder: Path
    sources: Mapping[str, Path]
    hash: str
    record: str | None
    configs: Mapping[str, Mapping[str, Sequence[str]]]
    patterns: Mapping[str, Mapping[str, str]]
    features: Mapping[str, Sequence[Mapping[str, Any]]]
    n_rows: Mapping[str, Mapping[str, int]]
    n_bytes: Mapping[str, Mapping[str, int]]
    others: Sequence[str]

    @property
    def tag(self) -> str:
        """Name of the revision."""
        return self.hash[:N_TAG]

    @property
    def path(self) -> Path:
        """The directory that the command was given."""
        return next(iter(self.sources.values()))


def list_files(layout: Layout) -> None:
    """Write the names of all files of the folder into its datastill/layout.json: what a later push may replace."""
    file = layout.folder / LAYOUT
    names = {path.relative_to(layout.folder).as_posix() for path in layout.folder.rglob("*") if path.is_file()}
    known = read_layout(layout.folder)
    write_json(file, {**known, "files": sorted(names | {LAYOUT})})


def read_layout(folder: Path) -> dict[str, object]:
    """What datastill/layout.json of a folder says; empty where there is none, or it is no object."""
    try:
        content = json.loads((folder / LAYOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast(dict[str, object], content) if isinstance(content, dict) else {}


def listed_in(layout: Mapping[str, object]) -> list[str]:
    """The files that datastill/layout.json lists; none where it lists none."""
    names = layout.get("files")
    return [name for name in cast(list[Any], names) if isinstance(name, str)] if isinstance(names, list) else []


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What a push did.

    Attributes:
        url: of the repository.
        commit: that holds what was to be published.
        tag: of the revision whose rows or weights are these.
        is_new: False where the Hub had everything, so that no commit was made.
        n_files: files that the commit adds or changes.
        n_bytes: their bytes that the Hub did not have: what was sent, but for the requests themselves.
        note: what else the user should know, such as that the tag is at an earlier commit; empty otherwise.
    """

    url: str
    commit: str
    tag: str
    is_new: bool
    n_files: int
    n_bytes: int
    note: str = ""
