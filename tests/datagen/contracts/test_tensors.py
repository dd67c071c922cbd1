"""Oracles: the rows that were written, the files' own bytes, half a step of the code."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from datagen.contracts.dataset import content_hash
from datagen.contracts.errors import DataError
from datagen.contracts.records import Rejection
from datagen.contracts.signal_columns import STEP, Layout, Signal, SignalRow
from datagen.contracts.tensors import BLOCK_TOKENS, TokenSignals, TokenSignalsWriter

LAYOUT = Layout(vocabulary=500, k=3, n_draws=4)
TOKENIZER = "ab" * 32
MANIFEST = {"stage": "teacher_signals", "tokenizer": {"sha256": TOKENIZER}}


def row(id: str, n_tokens: int, seed: int) -> SignalRow:
    generator = np.random.default_rng(seed)
    n_drawn = generator.integers(0, 4, n_tokens)
    drawn = [np.sort(generator.choice(500, n, replace=False)) for n in n_drawn]
    return SignalRow(
        id=id,
        n_prompt_tokens=seed + 1,
        prompt_hash=2**64 - 1 - seed,
        tokens=generator.integers(0, 500, n_tokens),
        signal=Signal(
            ids=generator.integers(0, 500, (n_tokens, 3)),
            log_probs=-np.sort(generator.random((n_tokens, 3)) * 20, axis=1),
            log_tail=-generator.random(n_tokens),
            n_draws=4,
            n_drawn=n_drawn,
            drawn_ids=np.concatenate([*drawn, np.zeros(0, np.int64)]).astype(np.int64),
            drawn_counts=np.ones(int(n_drawn.sum()), np.int64),
            drawn_log_ratios=np.zeros(int(n_drawn.sum())),
        ),
    )


ROWS = [row(f"t{i}", n, i) for i, n in enumerate([5, BLOCK_TOKENS, 1, 30])]
DROPPED = Rejection(id="x", stage="teacher_signals", reason="too_long", detail="9 tokens, max_tokens is 8")


def write(folder: Path, layout: Layout = LAYOUT) -> Path:
    writer = TokenSignalsWriter(folder / "out", folder / "work", layout, MANIFEST)
    writer.write_shard(0, [ROWS[0], DROPPED, ROWS[1], ROWS[2]])
    writer.write_shard(1, [ROWS[3]])
    writer.close(2)
    return folder / "out"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("signals"))


def test_rows_come_back_in_any_order(written: Path):
    """Equal tokens, ids and counts; log-probs within half a step; across blocks and shards."""
    signals = TokenSignals(written, TOKENIZER)
    assert [one.id for one in signals] == ["t0", "t1", "t2", "t3"] and len(signals) == 4
    for wanted in (ROWS[3], ROWS[1], ROWS[0], ROWS[2]):
        found = signals[wanted.id]
        assert (found.n_prompt_tokens, found.prompt_hash) == (wanted.n_prompt_tokens, wanted.prompt_hash)
        assert found.tokens.tolist() == wanted.tokens.tolist()
        for name in ("ids", "n_drawn", "drawn_ids", "drawn_counts"):
            assert getattr(found.signal, name).tolist() == getattr(wanted.signal, name).tolist()
        assert np.abs(found.signal.log_probs - wanted.signal.log_probs).max() <= STEP / 2


def test_the_manifest_says_what_there_is(written: Path):
    """Counts by hand, bytes from the files, errors within half a step, every file's hash."""
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["rows"] == {"in": 5, "out": 4, "rejected": 1} and manifest["rejected"] == {"too_long": 1}
    assert manifest["n_tokens"] == 36 + BLOCK_TOKENS
    files = [file for file in written.iterdir() if file.name != "manifest.json"]
    assert manifest["n_bytes"] == sum(file.stat().st_size for file in files)
    assert manifest["files"] == {file.name: content_hash(file) for file in files}
    assert 0 < manifest["error"]["log_probs"]["max"] <= STEP / 2
    assert 0 < manifest["error"]["log_probs"]["mean"] < manifest["error"]["log_probs"]["max"]
    assert pl.read_parquet(written / "rejections.parquet").rows() == [
        ("x", "teacher_signals", "too_long", "9 tokens, max_tokens is 8")
    ]


def test_others_can_read_the_files(written: Path):
    """The package safetensors opens the shard, polars the index; blocks close once they hold BLOCK_TOKENS positions."""
    arrays = load_file(written / "part-00000.safetensors")
    assert {name.split(".")[0] for name in arrays} == {"00000", "00001"}
    index = pl.read_parquet(written / "part-00000.parquet")
    assert index.select("id", "block", "start", "n_tokens").rows() == [
        ("t0", 0, 0, 5), ("t1", 0, 5, BLOCK_TOKENS), ("t2", 1, 0, 1)
    ]  # fmt: skip


def test_equal_rows_give_equal_bytes_and_leave_no_work(written: Path, tmp_path: Path):
    again = write(tmp_path)
    for file in written.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_shard_counts_once_its_last_file_is_there(tmp_path: Path):
    """Arrays without their counts, as a kill leaves them, are no shard."""
    writer = TokenSignalsWriter(tmp_path / "out", tmp_path / "work", LAYOUT, MANIFEST)
    writer.write_shard(0, [ROWS[0]])
    later = TokenSignalsWriter(tmp_path / "out", tmp_path / "work", LAYOUT, MANIFEST)
    assert later.has_shard(0) and not later.has_shard(1)
    (tmp_path / "work" / "part-00000.json").unlink()
    assert not later.has_shard(0)
    assert not (tmp_path / "out").exists()


def test_another_tokenizer_is_refused(written: Path):
    with pytest.raises(DataError, match=r"its ids are of tokenizer abababababababab, the reader's is cdcdcdcdcdcdcdcd"):
        TokenSignals(written, "cd" * 32)


def test_a_trace_without_a_signal_is_named(written: Path):
    with pytest.raises(DataError, match=r"no signal of trace 'x'; .*rejections.parquet may say why"):
        TokenSignals(written, TOKENIZER)["x"]


def test_another_dataset_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="not a dataset directory"):
        TokenSignals(tmp_path, TOKENIZER)
    (tmp_path / "manifest.json").write_text('{"format": "datastill", "record": "Trace"}')
    with pytest.raises(DataError, match="holds Trace rows"):
        TokenSignals(tmp_path, TOKENIZER)


def test_a_shard_of_rejections_alone(tmp_path: Path):
    writer = TokenSignalsWriter(tmp_path / "out", tmp_path / "work", LAYOUT, MANIFEST)
    writer.write_shard(0, [DROPPED])
    assert writer.close(1)["rows"] == {"in": 1, "out": 0, "rejected": 1}
    assert list(TokenSignals(tmp_path / "out", TOKENIZER)) == []
