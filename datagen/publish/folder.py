"""A dataset directory as the folder that goes to the Hub: typed Parquet by config and split, and what stands beside it.

    data/train-00000.parquet                rows, in their order; files cut as `datagen.publish.shards` says
    tables/rejections/train-00000.parquet   side tables likewise, a config each
    datastill/train/manifest.json           what the stage says of the run, and whatever else it wrote
    datastill/layout.json                   the rows of a file, which the next push goes on with, and all files' names

A column has the type that the stage gave it, and the Parquet files say so in the words of `datasets`: images are
images, labels of a set with classes have their names, messages are lists of structures. What is JSON text stays text:
its keys differ from row to row, and a column of structures would fill every row with the others' keys.

A student is laid out by `datagen.publish.weights`.

Source: the metadata is that of https://huggingface.co/docs/datasets/about_dataset_features.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.contracts.dataset import content_hash, read_manifest, write_json
from datagen.contracts.errors import DataError, MissingError
from datagen.publish.layout import LAYOUT, ROWS, Layout
from datagen.publish.places import copy_clean
from datagen.publish.shards import cut, earlier, most_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 2**25  # of rows as they are stored: 32 MB
_KEYS = ("id", "prompt_id")
MANIFEST = "manifest.json"


def lay_out(sources: Mapping[str, Path], to: Path, before: Mapping[str, object] | None = None) -> Layout:
    """Write datasets as a folder for the Hub; memory is that of some rows.

    Args:
        sources: split to the directory that a stage wrote; all of one record.
        to: an empty or new folder.
        before: what datastill/layout.json of an earlier push says.

    Raises:
        DataError: a directory is none, holds no row, or a table of one split has other columns than that of another.
        MissingError: a package of the extra `hub` is missing.
    """
    manifests = {split: read_manifest(path) for split, path in sources.items()}
    records = {split: manifest.get("record") for split, manifest in manifests.items()}
    configs: dict[str, dict[str, list[str]]] = {}
    n_rows: dict[str, dict[str, int]] = {}
    features: dict[str, Features] = {}
    most: dict[str, int] = {}
    for split, path in sources.items():
        tables = _tables(path)
        if not tables.get(ROWS):
            raise DataError(f"{path}: holds no row (rows of {records[split]} in no part-*.parquet); nothing to publish")
        for config, files in tables.items():
            found = _features(files, manifests[split])
            if features.setdefault(config, found) != found:
                raise DataError(f"{path}: {config} has other columns or types than in the first split: {found}")
            table = _Table(files, earlier(before or {}, config, split))
            most[f"{config}/{split}"] = table.most
            folder = "data" if config == ROWS else f"tables/{config}"
            names = table.write(to, f"{folder}/{split}", found)
            configs.setdefault(config, {})[split] = names
            n_rows.setdefault(config, {})[split] = table.n_rows
    others = [name for split, path in sources.items() for name in _copy_others(path, to, f"datastill/{split}")]
    write_json(to / LAYOUT, most)
    return Layout(
        kind="dataset",
        folder=to,
        sources=dict(sources),
        hash=hash_of_all(sources),
        record=next(iter(records.values())),
        configs=configs,
        patterns={
            config: {split: f"{names[0].removesuffix('-00000.parquet')}-*.parquet" for split, names in of.items()}
            for config, of in configs.items()
        },
        features={config: found._to_yaml_list() for config, found in features.items()},
        n_rows=n_rows,
        n_bytes={
            config: {split: sum((to / name).stat().st_size for name in names) for split, names in of.items()}
            for config, of in configs.items()
        },
        others=[*others, LAYOUT],
    )


class _Table:
    """Rows of one table of one directory, as files of the Hub."""

    def __init__(self, files: Sequence[Path], before: int | None) -> None:
        parquet = _parquet()
        self._files = files
        self.n_rows = sum(parquet.read_metadata(file).num_rows for file in files)
        n_bytes = sum(file.stat().st_size for file in files)
        self.most = most_rows(self.n_rows, n_bytes, before)
        a_row = max(n_bytes // self.n_rows, 1)
        self._at_once = min(_ROWS_AT_ONCE, 2 ** int(math.log2(max(_BYTES_AT_ONCE // a_row, 1))))

    def write(self, to: Path, stem: str, features: "Features") -> list[str]:
        """All rows, in their order; returns the files' names."""
        parquet = _parquet()
        schema: pa.Schema = features.arrow_schema
        named = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        begins = [*cut(self._keys(), self.most), self.n_rows]
        rows = _Rows(self._batches(schema.names))
        (to / stem).parent.mkdir(parents=True, exist_ok=True)
        names = [f"{stem}-{i:05d}.parquet" for i in range(len(begins) - 1)]
        for name, start, end in zip(names, begins[:-1], begins[1:], strict=True):
            # the schema stands once, as `datasets` reads it: a copy of Arrow's would double the footer of a small file
            with parquet.ParquetWriter(
                to / name,
                schema,
                compression="zstd",
                store_schema=False,
                use_content_defined_chunking=True,
                write_page_index=True,
            ) as file:
                file.add_key_value_metadata(named)
                for n in _steps(end - start, self._at_once):
                    file.write_table(rows.take(n).cast(schema), row_group_size=n)
        return names

    def _keys(self) -> Iterator[str]:
        names = _parquet().read_schema(self._files[0]).names
        key = next((one for one in _KEYS if one in names), None)
        if key is None:
            yield from map(str, range(self.n_rows))
            return
        for batch in self._batches([key]):
            yield from map(str, batch.column(0).to_pylist())

    def _batches(self, columns: list[str]) -> "Iterator[pa.RecordBatch]":
        parquet = _parquet()
        for path in self._files:
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(self._at_once, columns=columns)


class _Rows:
    """Rows of a stream of batches, so many at a time as are asked for."""

    def __init__(self, batches: "Iterator[pa.RecordBatch]") -> None:
        self._batches = batches
        self._rest: list[pa.RecordBatch] = []
        self._n = 0

    def take(self, n: int) -> "pa.Table":
        """The next `n` rows."""
        import pyarrow as pa

        while self._n < n:
            batch = next(self._batches)
            self._rest.append(batch)
            self._n += batch.num_rows
        table = pa.Table.from_batches(self._rest)
        rest = table.slice(n)
        self._rest, self._n = [one for one in rest.to_batches() if one.num_rows], rest.num_rows
        return table.slice(0, n).combine_chunks()


def _steps(n: int, most: int) -> Iterator[int]:
    yield from (min(most, n - start) for start in range(0, n, most))


def _tables(path: Path) -> dict[str, list[Path]]:
    """Config to its Parquet files, rows first; tables without a row are left out."""
    parquet = _parquet()
    sides = {file.stem: [file] for file in sorted(path.glob("*.parquet")) if not file.name.startswith("part-")}
    tables = {ROWS: sorted(path.glob("part-*.parquet")), **sides}
    return {
        name: files for name, files in tables.items() if sum(parquet.read_metadata(one).num_rows for one in files) > 0
    }


def _features(files: Sequence[Path], manifest: Mapping[str, Any]) -> "Features":
    """Columns and types of a table, as `datasets` names them."""
    import pyarrow as pa

    datasets = _datasets()
    schema: pa.Schema = _parquet().read_schema(files[0])
    plain = pa.schema([(column.name, _plain(column.type)) for column in schema])
    features = datasets.Features.from_arrow_schema(plain)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for column in plain:
        if column.type == image:
            features[column.name] = datasets.Image()
    classes = manifest.get("classes")
    if classes and len(set(classes)) == len(classes) and "label" in features:
        features["label"] = datasets.ClassLabel(names=[str(name) for name in classes])
    return features


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """The type as every reader of Parquet has it: what polars alone calls large or a view is neither."""
    import pyarrow as pa

    types = pa.types
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind.fields])
    return kind


def _copy_others(path: Path, to: Path, folder: str) -> list[str]:
    """The manifest, and files that hold no table."""
    names = [MANIFEST, *(name for name in read_manifest(path).get("files", {}) if not name.endswith(".parquet"))]
    return copy_clean(path, to, {name: f"{folder}/{name}" for name in names})


def hash_of_all(sources: Mapping[str, Path]) -> str:
    """The content hash of one directory, or one over those of several splits."""
    import hashlib

    hashes = {split: content_hash(path) for split, path in sources.items()}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{split}\0{one}\n" for split, one in sorted(hashes.items())).encode()).hexdigest()


def _parquet() -> Any:  # pyarrow has no types
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise _missing("pyarrow") from None
    return pyarrow.parquet


def _datasets() -> Any:
    try:
        import datasets
    except ModuleNotFoundError:
        raise _missing("datasets") from None
    return datasets


def _missing(package: str) -> MissingError:
    return MissingError(f"publishing needs the package {package}: `pip install 'datastill[hub]'`")
