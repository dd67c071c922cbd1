"""What is published, as it lies in a folder and as the Hub has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
