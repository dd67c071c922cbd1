"""Gate `decontamination`: no evaluation item is among the rows, by a filter that ran or by a comparison now.

Source: the n-grams of words of datagen/filter/decontamination.py (arXiv:2005.14165, appendix C), with its defaults.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import content_hash, is_dataset, iterate, read_manifest
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.licences import COMPARED
from datagen.contracts.records import Document, Example, Prompt, Rejection, Trace, from_row
from datagen.contracts.words import find_words, normalise
from datagen.filter import Row
from datagen.filter._texts import STAGE, text_of
from datagen.filter.decontamination import Config, decontamination
from datagen.lineage import find_directories, input_hashes
from datagen.publish.outcome import Outcome, Splits, has_texts, is_of_texts, passed, refused

_RECORDS = {record.__name__: record for record in (Prompt, Trace, Document, Example)}
_CONFIG = Config(method="decontamination")
_FILTER = "run `datastill filter --against EVALUATION_SET --set method=decontamination`"


def check_decontamination(splits: Splits, against: Sequence[Path]) -> Outcome:
    """All rows went through the filter on their way, or share nothing now with any of the files `against`.

    A split named `test` or `validation` may itself be an evaluation set: it is compared, but need not be filtered.
    """
    of_texts = {name: path for name, path in splits.items() if is_of_texts(path)}
    if not of_texts:
        return passed("not applicable: no texts")
    told: list[str] = []
    for file in against:
        n, n_long = _count_items(file)
        if not n_long:
            return refused(
                f"--against {file}: none of its {n} items has {_CONFIG.min_words} words or more, so that nothing could "
                "be compared; name an evaluation set whose questions or answers are longer"
            )
        for path in of_texts.values():
            if not has_texts(path):
                return refused(
                    f"{path}: has no rows of texts that can be compared with {file}; {_FILTER} on what it is made of"
                )
            if wrong := _shared(path, file):
                return refused(wrong)
        compared = f"{n_long:,} of {n:,} items are long enough to compare, with {_CONFIG.min_words} words or more"
        told.append(f"no row shares {_CONFIG.n} words in a row with an item of {file.name} ({compared})")
    if against:
        return passed("; ".join(told))
    for name, path in of_texts.items():
        if name in ("test", "validation") and len(of_texts) > 1:
            continue
        found = find_filters(path)
        if found is None:
            remedy = f"{_FILTER} on it, or name the evaluation sets here by --against"
            return refused(
                f"{path}: not all of its rows were compared with evaluation sets; "
                f"{remedy if has_texts(path) else f'{_FILTER} on what it is made of'}"
            )
        told += found
    return passed("; ".join(dict.fromkeys(told)))


def find_filters(path: Path) -> list[str] | None:
    """What the decontamination filters say that all rows of a dataset, or of what it was made of, went through.

    Returns:
        None where some way to the rows has none, or cannot be followed since a dataset on it is not here.
    """
    return _filters(path.resolve(), _datasets(path))


def _filters(path: Path, by_hash: Mapping[str, Path]) -> list[str] | None:
    manifest = read_manifest(path)
    params: Mapping[str, Any] = manifest.get("params") or {}
    hashes = input_hashes(manifest)
    if manifest.get("stage") == "filter" and manifest.get("method") == "decontamination":
        n = (manifest.get("rejected") or {}).get("contaminated", 0)
        by = "embeddings" if params.get("by") == "embedding" else f"{params.get('n', 13)} words in a row"
        against = hashes.get("against", "")[:12]
        return [f"filtered by {by} against an evaluation set with the SHA-256 {against}…: {n} rows dropped"]
    read = {name: hash for name, hash in hashes.items() if name.rpartition("/")[2] not in COMPARED}
    told: list[str] = []
    for hash in read.values():
        found = _filters(by_hash[hash], by_hash) if hash in by_hash else None
        if found is None:
            return None
        told += found
    return told or None


def _datasets(path: Path) -> dict[str, Path]:
    """Directories that it may be made of, by their hashes: beside it, and those of the project that it lies in."""
    above = [folder for folder in path.resolve().parents if (folder / "dvc.yaml").is_file()]
    root = above[0] if above else Path.cwd()
    folders = [one for name in ("data", "models") for one in find_directories(root / name)]
    folders += [manifest.parent for manifest in path.resolve().parent.glob("*/manifest.json")]
    return {content_hash(one): one for one in folders if is_dataset(one)}


def _count_items(file: Path) -> tuple[int, int]:
    """Items of an evaluation set, and those of which more than the whole text alone is compared, as the filter does."""
    n = n_long = 0
    for item in open_rows(file, STAGE, InputParams(max_rejected_share=0, max_prompt_chars=10**9)):
        if isinstance(item, Rejection):
            continue
        n += 1
        answer = item.completion if isinstance(item, Trace) else item.reference if isinstance(item, Prompt) else None
        n_question, n_answer = (len(find_words(normalise(one or ""))) for one in (text_of(item, "prompt"), answer))
        n_long += n_question >= _CONFIG.min_words or n_answer >= _CONFIG.n
    return n, n_long


def _shared(path: Path, file: Path) -> str:
    """Which row shares what with an item of `file`; empty where none does."""
    for row in decontamination(_CONFIG, rows_of([path]), file):
        if isinstance(row, Rejection):
            return f"{path}: row {row.id!r} {row.detail}; {_FILTER.replace('EVALUATION_SET', str(file))}"
    return ""


class rows_of(Iterable[Row]):
    """Rows of dataset directories, one after the other, as often as needed."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """`paths` hold one of the four records of texts."""
        self._paths = list(paths)

    def __iter__(self) -> Iterator[Row]:
        """Each as its record."""
        for path in self._paths:
            record: Any = _RECORDS[read_manifest(path)["record"]]
            for row in iterate(path):
                one: Any = from_row(record, row)
                yield one
