"""Columns counted; oracle: small tables counted by hand, and texts whose language is known."""

import random
import subprocess
import sys
from pathlib import Path

import polars as pl

from datagen.publish.statistics import count_columns, tell_languages

GERMAN = "Der Wolf ging durch den dunklen Wald und traf dort ein kleines Mädchen mit einem Korb voller Brot. "
ENGLISH = "The wolf went through the dark forest and met a little girl who carried a basket full of bread. "


def written(folder: Path, *frames: pl.DataFrame) -> list[Path]:
    files = [folder / f"part-{i}.parquet" for i in range(len(frames))]
    for file, frame in zip(files, frames, strict=True):
        frame.write_parquet(file)
    return files


def test_columns_of_every_kind_by_hand(tmp_path: Path):
    image = {"bytes": b"12345", "path": None}
    first = pl.DataFrame(
        {
            "id": ["a", "bb"], "n": [1, 4], "right": [True, False], "kind": ["x", "x"], "empty": [None, None],
            "list": [[1, 2, 3], []], "image": [image, image], "labels": [[{"name": "u", "weight": 1.0}], []],
        },
        schema_overrides={"empty": pl.String, "n": pl.Int32},
    )  # fmt: skip
    second = first.head(1).with_columns(pl.lit("ccc").alias("id"), pl.lit(None).cast(pl.Int32).alias("n"))
    third = first.head(1).with_columns(pl.lit("dddd").alias("id"), pl.lit("y").alias("kind"))
    found = {one.name: one for one in count_columns(written(tmp_path, first, second, third))}
    figures = {name: (one.size, one.low, one.mean, one.high, one.n_missing) for name, one in found.items()}
    assert figures == {
        "id": ("characters", 1, 2.5, 4, 0), "n": ("value", 1, 2, 4, 1), "right": ("value", 0, 0.75, 1, 0),
        "kind": ("characters", 1, 1, 1, 0), "empty": ("characters", None, None, None, 4),
        "list": ("elements", 0, 2.25, 3, 0), "image": ("bytes", 5, 5, 5, 0), "labels": ("elements", 0, 0.75, 1, 0),
    }  # fmt: skip
    assert {name: one.n_distinct for name, one in found.items()} == {
        "id": 4, "n": 2, "right": 2, "kind": 2, "empty": 0, "list": None, "image": None, "labels": None,
    }  # fmt: skip
    assert found["kind"].values == {"x": 3, "y": 1} and found["right"].values == {"True": 3, "False": 1}
    assert found["id"].values == {}  # a value for each row says nothing
    assert [found[name].dtype for name in ("n", "list", "image", "labels")] == [
        "int32", "list of int64", "image", "list of struct(name, weight)",
    ]  # fmt: skip


def test_more_values_than_a_few_are_not_listed(tmp_path: Path):
    frame = pl.DataFrame({"few": [f"v{i % 12}" for i in range(60)], "many": [f"v{i % 13}" for i in range(60)]})
    few, many = count_columns(written(tmp_path, frame))
    assert len(few.values) == 12 and set(few.values.values()) == {5} and many.values == {}
    long = pl.DataFrame({"text": ["a word " * 10] * 9})
    assert count_columns(written(tmp_path, long))[0].values == {}


def test_languages_are_those_of_the_rows(tmp_path: Path):
    """600 rows, every fourth in German; short texts and code are not looked at."""
    texts = [GERMAN if i % 4 == 3 else ENGLISH for i in range(600)]
    found = tell_languages(written(tmp_path, pl.DataFrame({"text": texts})))
    assert found.n_texts == 600 and found.n_rows == 600
    assert found.shares == {"en": 0.75, "de": 0.25}
    short = pl.DataFrame(
        {"text": ["Ja, gut."] * 5 + ["```python\nimport this, that, and more of it\n```"] * 5 + [ENGLISH]}
    )
    assert tell_languages(written(tmp_path, short)).shares == {"en": 1.0}
    assert tell_languages(written(tmp_path, short)).n_texts == 1


def test_rows_looked_at_are_spread_over_all_files(tmp_path: Path):
    """2,000 rows of one language, then 2,000 of another: half of about 500 each."""
    files = written(tmp_path, pl.DataFrame({"text": [ENGLISH] * 2000}), pl.DataFrame({"text": [GERMAN] * 2000}))
    found = tell_languages(files)
    assert found.n_texts == 500 and found.shares == {"en": 0.5, "de": 0.5}


def test_a_prompt_is_in_the_language_of_its_messages(tmp_path: Path):
    messages = [[{"role": "user", "content": GERMAN}]]
    assert tell_languages(written(tmp_path, pl.DataFrame({"messages": messages}))).shares == {"de": 1.0}
    answered = pl.DataFrame({"messages": messages, "completion": [ENGLISH * 2]})
    assert tell_languages(written(tmp_path, answered)).shares == {"en": 1.0}
    assert tell_languages(written(tmp_path, pl.DataFrame({"label": [1]}))).shares == {}


def test_many_different_values_are_estimated(tmp_path: Path):
    """Above 100,000 rows; the estimate is within a fifth."""
    exact = count_columns(written(tmp_path, pl.DataFrame({"id": range(100_000)})))[0]
    assert exact.is_exact and exact.n_distinct == 100_000
    (found,) = count_columns(written(tmp_path, pl.DataFrame({"id": range(150_000)})))
    assert not found.is_exact and found.n_distinct is not None and 120_000 < found.n_distinct < 180_000


def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    """Eight times the rows, 80 MB of random text, take at most 60 MB more."""
    rng = random.Random(0)
    letters = "".join(rng.choices("abcdefghij klmnop", k=400_000))
    starts = [rng.randrange(399_000) for _ in range(25_000)]
    frame = pl.DataFrame({"id": [str(i) for i in range(25_000)], "text": [letters[i : i + 400] for i in starts]})
    files = written(tmp_path, *[frame] * 8)
    assert peak_bytes(files) - peak_bytes(files[:1]) < 60 * 2**20


PEAK = """
import resource, sys
from pathlib import Path
from datagen.publish.statistics import count_columns, tell_languages
files = [Path(one) for one in sys.argv[1:]]
count_columns(files), tell_languages(files)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_bytes(files: list[Path]) -> int:
    ran = subprocess.run([sys.executable, "-c", PEAK, *map(str, files)], capture_output=True, text=True, check=True)
    return 1024 * int(ran.stdout)
