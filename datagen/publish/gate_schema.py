"""Gate `schema`: files, columns and counts are those that the manifest names.

Source: none; a dataset directory's own promise (datagen/contracts/dataset.py).
"""

from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from datagen.contracts.dataset import content_hash, read_manifest
from datagen.publish.outcome import Outcome, Splits, passed, refused

_MANIFEST = "manifest.json"


def check_schema(splits: Splits) -> Outcome:
    """Every file has its hash, every shard the manifest's columns, and rows in are rows out and rejections."""
    n_rows, n_files = 0, 0
    for path in splits.values():
        manifest = read_manifest(path)
        if wrong := _files(path, manifest) or _rows(path, manifest):
            return refused(f"{path}: {wrong}; run the stage {manifest.get('stage') or 'that wrote it'} again")
        n_files += len(manifest["files"])
        n_rows += (manifest.get("rows") or {}).get("out", 0)
    if wrong := _differ(splits):
        return refused(wrong)
    return passed(f"{n_files} files with the hashes of the manifest, {n_rows} rows with its columns")


def _files(path: Path, manifest: dict[str, Any]) -> str:
    """What is wrong with the files, empty where nothing is."""
    named: dict[str, str] = manifest.get("files") or {}
    if not named:
        return f"{_MANIFEST} names no files"
    there = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - {_MANIFEST}
    if missing := sorted(named.keys() - there):
        return f"{missing[0]} is missing"
    if strangers := sorted(there - named.keys()):
        return f"{strangers[0]} is not in {_MANIFEST}, so no stage wrote it: take it out"
    changed = [name for name, hash in sorted(named.items()) if content_hash(path / name) != hash]
    return f"{changed[0]} was changed: its SHA-256 is not the one in {_MANIFEST}" if changed else ""


def _rows(path: Path, manifest: dict[str, Any]) -> str:
    """What is wrong with columns and counts, empty where nothing is; of what has no rows nothing can be."""
    shards, schema, rows = sorted(path.glob("part-*.parquet")), manifest.get("schema"), manifest.get("rows")
    if not shards or not schema or not rows:
        return ""
    n_out = 0
    try:
        for shard in shards:
            found = {name: str(dtype) for name, dtype in pl.read_parquet_schema(shard).items()}
            if found != schema:
                return f"{shard.name} has other columns than the manifest: {_first_difference(found, schema)}"
            n_out += pl.scan_parquet(shard).select(pl.len()).collect().item()
        n_rejected = pl.scan_parquet(path / "rejections.parquet").select(pl.len()).collect().item()
    except (PolarsError, OSError) as error:
        return f"cannot be read ({' '.join(str(error).split())[:200]})"
    if (n_out, n_rejected) != (rows["out"], rows["rejected"]):
        return f"holds {n_out} rows and {n_rejected} rejections, the manifest says {rows['out']} and {rows['rejected']}"
    return ""


def _first_difference(found: dict[str, str], schema: dict[str, str]) -> str:
    for name in (*schema, *found):
        if found.get(name) != schema.get(name):
            return f"{name!r} is {found.get(name, 'missing')}, not {schema.get(name, 'there')}"
    return "another order"


def _differ(splits: Splits) -> str:
    """Splits of one dataset have one schema."""
    (first, path), *others = splits.items()
    schema = read_manifest(path).get("schema")
    for name, other in others:
        if read_manifest(other).get("schema") != schema:
            return f"{other}: has other columns than {path}, so {name!r} and {first!r} are no splits of one dataset"
    return ""
