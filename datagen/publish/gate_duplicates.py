"""Gate `duplicates`: no row is there twice, and few nearly so, all splits together.

Source: the MinHash and exact Jaccard of datagen/filter/near_duplicates.py, with its defaults.
"""

from collections import Counter
from pathlib import Path

import polars as pl

from datagen.contracts.dataset import read_manifest
from datagen.filter.near_duplicates import Config, find_duplicates
from datagen.publish.gate_decontamination import rows_of
from datagen.publish.outcome import Outcome, Splits, has_texts, passed, refused

MAX_NEAR_SHARE = 0.05  # of rows that are nearly another; prompts of one template are often alike


def check_duplicates(splits: Splits) -> Outcome:
    """Exact duplicates: none. Near-duplicates: at most MAX_NEAR_SHARE of the rows."""
    texts = [path for path in splits.values() if has_texts(path)]
    if texts:
        return _texts(texts)
    if images := [path for path in splits.values() if read_manifest(path).get("record") == "ImageRow"]:
        return _equal(images, "images", pl.col("image").struct.field("bytes"))
    if exported := [path for path in splits.values() if read_manifest(path).get("stage") == "export"]:
        return _equal(exported, "rows", pl.struct(pl.all().exclude("id", "reason")))
    return passed("not applicable: no rows of texts or images")


def _texts(paths: list[Path]) -> Outcome:
    counts, firsts, n_rows = Counter[str](), dict[str, str](), 0
    for row, duplicate in find_duplicates(Config(method="near_duplicates"), rows_of(paths)):
        n_rows += 1
        if duplicate is not None:
            counts[duplicate.reason] += 1
            firsts.setdefault(duplicate.reason, f"{row.id!r}, like {duplicate.of!r}")
    n_exact, n_near = counts["exact_duplicate"], counts["near_duplicate"]
    where = ", ".join(map(str, paths))
    remedy = "run `datastill filter --set method=near_duplicates` on it"
    if n_exact:
        first = firsts["exact_duplicate"]
        return refused(f"{where}: {n_exact} of {n_rows} rows repeat an earlier one, the first is {first}; {remedy}")
    if n_near > MAX_NEAR_SHARE * n_rows:
        return refused(
            f"{where}: {n_near} of {n_rows} rows are nearly an earlier one, more than {MAX_NEAR_SHARE:.0%}, the first "
            f"is {firsts['near_duplicate']}; {remedy}"
        )
    return passed(f"none of {n_rows} rows is there twice, {n_near} are nearly another (at most {MAX_NEAR_SHARE:.0%})")


def _equal(paths: list[Path], noun: str, content: pl.Expr) -> Outcome:
    """Rows whose content is the same to the last byte, by a hash of 64 bits."""
    files = [file for path in paths for file in sorted(path.glob("part-*.parquet"))]
    hashed = pl.scan_parquet(files).select("id", hash=content.hash(seed=0))
    repeated = hashed.group_by("hash").agg(pl.len(), pl.col("id").first()).filter(pl.col("len") > 1)
    found = repeated.sort("id").collect(engine="streaming")
    if found.height:
        n, first = found["len"].sum() - found.height, found["id"][0]
        return refused(
            f"{', '.join(map(str, paths))}: {n} {noun} repeat another byte for byte, the first is {first!r}; take them "
            "out of what it was made of"
        )
    return passed(f"none of the {noun} is there twice, byte for byte")
