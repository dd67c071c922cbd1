"""Oracle: DistillKit's bytes, written here bit by bit as text from values chosen by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from transformers import AutoTokenizer

from datagen.backends.transformers_models import tokenizer_hash
from datagen.contracts.params import validate
from datagen.contracts.stage import main
from datagen.contracts.tensors import TokenSignals
from datagen.signals._distillkit import Compression, decompress, unpack
from datagen.stages.import_signals import STAGE
from tests.tiny_model import write_tiny_model
from trainers.teachers._token_signals import StoredSignals

D = 259
CONFIG: dict[str, Any] = {
    "d": D, "k": 5, "exact_k": 2, "exact_dtype": "bfloat16",
    "polynomial_terms": [0, 1, "sqrt"], "term_dtype": "float32",
    "residual_bins": [{"scale_dtype": "float16", "element_bits": 3, "num_elements": 3}], "delta_encoding": False,
    "error_diffusion": False, "normalize_t": False,
}  # fmt: skip


def bits_to_bytes(bits: str) -> list[int]:
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def bfloat16(value: float) -> bytes:
    """Of a value that a bfloat16 holds."""
    return struct.pack("<f", value)[2:]


def position(exact: list[float], coefficients: list[float], scale: float, levels: list[int]) -> list[int]:
    floats = b"".join(map(bfloat16, exact)) + struct.pack("<3f", *coefficients) + struct.pack("<e", scale)
    return [*floats, *bits_to_bytes("".join(f"{level:03b}" for level in levels))]


def ids_of(ids: list[int]) -> list[int]:
    return bits_to_bytes("".join(f"{id:09b}" for id in ids))


def write_capture(folder: Path, rows: list[dict[str, Any]], config: dict[str, Any] = CONFIG) -> Path:
    folder.mkdir()
    (folder / "compression_config.yaml").write_text(yaml.safe_dump(config))
    for number, part in enumerate((rows[:1], rows[1:])):
        if part:
            pl.DataFrame(part).write_parquet(folder / f"data_{number}.parquet")
    return folder


def row(input_ids: list[int], n_positions: int, **more: Any) -> dict[str, Any]:
    """Position t has ids t, t + 10, ...; -0.5, -1, then -2, -2 - t sqrt'ed steps, with residuals 0, 1, -4 quarters."""
    return {
        "input_ids": input_ids,
        "compressed_logprobs": [
            position([-0.5, -1.0], [-2.0, -0.5, -0.25], 0.25, [4, 5, 0]) for _ in range(n_positions)
        ],
        "bytepacked_indices": [ids_of([t + 10 * i for i in range(5)]) for t in range(n_positions)],
    } | more


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def arguments(capture: Path, out: Path, tiny: Path, *settings: str) -> list[str]:
    return ["--distillkit", str(capture), "--out", str(out), "--set", f"model={tiny}", *settings]


def test_values_and_ids_by_hand(tmp_path: Path, tiny: Path):
    """Third -2 + 0, fourth -2 - .5 - .25 + .25, fifth -2 - 1 - .25 sqrt 2 - 1; the tail is what they leave of 1."""
    capture = write_capture(tmp_path / "capture", [row([7, 8, 9], 3), row([20, 21], 1)])
    assert main(STAGE, arguments(capture, tmp_path / "out", tiny)) == 0
    signals = TokenSignals(tmp_path / "out", tokenizer_hash(AutoTokenizer.from_pretrained(tiny)))
    assert [one.id for one in signals] == ["data_0:0", "data_1:0"]
    first = signals["data_0:0"]
    assert (first.prompt_tokens, first.tokens.tolist(), first.n_prompt_tokens) == ([7], [8, 9], 1)
    assert first.signal.ids.tolist() == [[0, 10, 20, 30, 40], [1, 11, 21, 31, 41]]
    values = np.array([-0.5, -1.0, -2.0, -2.5, -4 - 0.25 * 2**0.5])
    np.testing.assert_allclose(first.signal.log_probs, [values] * 2, atol=5e-4)
    assert np.exp(first.signal.log_tail) == pytest.approx([max(0, 1 - np.exp(values).sum())] * 2, abs=1e-6)
    assert signals["data_1:0"].tokens.tolist() == [21]
    teacher = StoredSignals(tmp_path / "out", AutoTokenizer.from_pretrained(tiny))
    example = teacher.example("data_0:0")
    assert (example.tokens, example.n_prompt_tokens) == ([7, 8, 9], 1)
    assert teacher.signal(["data_0:0"], [example]).ids.tolist() == [[0, 10, 20, 30, 40], [1, 11, 21, 31, 41]]


def test_packed_sequences_come_apart(tmp_path: Path, tiny: Path):
    """Segments 1 1 1 2 2: the third position is about no token of its own sequence; padding of 0 is left out."""
    capture = write_capture(tmp_path / "capture", [row([5, 6, 7, 8, 9, 0], 6, attention_mask=[1, 1, 1, 2, 2, 0])])
    assert main(STAGE, arguments(capture, tmp_path / "out", tiny)) == 0
    signals = TokenSignals(tmp_path / "out", tokenizer_hash(AutoTokenizer.from_pretrained(tiny)))
    found = [(one.id, one.prompt_tokens, one.tokens.tolist(), one.signal.ids[:, 0].tolist()) for one in signals]
    assert found == [("data_0:0.0", [5], [6, 7], [0, 1]), ("data_0:0.1", [8], [9], [3])]


def test_what_no_signal_can_be_made_of_is_named(tmp_path: Path, tiny: Path):
    """A token beyond d, a negative one, too few positions, NaN, a mask too short, a packed sequence of one token."""
    nan = row([1, 2, 3], 3)
    nan["compressed_logprobs"][1] = position([-0.5, float("nan")], [-2.0, -0.5, -0.25], 0.25, [4, 5, 0])
    bad = [row([7, D, 9], 3), row([7, -100, 9], 3), row([7, 8, 9], 1), nan, row([7, 8], 2, attention_mask=[1])]
    rows = [one | {"attention_mask": one.get("attention_mask")} for one in bad]
    packed = row([5, 6, 7], 3, attention_mask=[1, 1, 2])
    capture = write_capture(tmp_path / "capture", [packed, *rows])
    assert main(STAGE, arguments(capture, tmp_path / "out", tiny, "max_rejected_share=0.9")) == 0
    found = pl.read_parquet(tmp_path / "out" / "rejections.parquet")
    assert found["id"].to_list() == ["data_0:0.1", *(f"data_1:{i}" for i in range(5))]
    assert found["reason"].to_list() == ["one_token", *["unreadable"] * 5]
    assert [detail.split(": ", 1)[1] for detail in found["detail"].to_list()[1:]] == [
        f"input_ids from 7 to {D} where compression_config.yaml says d = {D}",
        f"input_ids from -100 to 9 where compression_config.yaml says d = {D}",
        "signals of 1 positions, 2 are needed for 3 input_ids",
        "no log-prob at position 1, but NaN",
        "attention_mask of 1 for 2 input_ids",
    ]


def test_too_many_rejections_end_the_import(tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]):
    """Two of three sequences; with a higher bound it goes on from its shards; all of them are too many for any."""
    bad = [row([7, D, 9], 3), row([7, 8, 9], 1)]
    capture = write_capture(tmp_path / "capture", [row([7, 8, 9], 3), *bad])
    assert main(STAGE, arguments(capture, tmp_path / "out", tiny, "max_rejected_share=0.6")) == 3
    said = capsys.readouterr().err
    assert f"{capture}: 2 of 3 sequences get no signal (unreadable 2), max_rejected_share is 0.6" in said
    assert "the first is 'data_1:0': unreadable" in said and not (tmp_path / "out").exists()
    (work,) = (tmp_path / "home" / "signals").iterdir()
    assert main(STAGE, arguments(capture, tmp_path / "out", tiny, "max_rejected_share=0.67")) == 0
    assert not work.exists()  # the second run's too, and empty now
    none = write_capture(tmp_path / "none", bad)
    assert main(STAGE, arguments(none, tmp_path / "no", tiny, "max_rejected_share=1")) == 3
    assert "2 of 2 sequences get no signal" in capsys.readouterr().err


def test_deltas_are_summed():
    """First the value, then differences: -1, -1 - .5, and two residuals of one bit, plus and minus a half."""
    config = validate(
        {"d": 4, "k": 4, "exact_k": 2, "exact_dtype": "float32", "delta_encoding": True,
         "residual_bins": [{"scale_dtype": "float32", "element_bits": 1, "num_elements": 2}]}, Compression
    )[Compression]  # fmt: skip
    packed = np.frombuffer(struct.pack("<3f", -1.0, -0.5, 0.5) + bytes([0b10000000]), np.uint8)[None]
    assert decompress(packed, config).tolist() == [[-1.0, -1.5, -1.0, -1.5]]


def test_bits_run_over_bytes():
    """101 010 111 in two bytes."""
    assert unpack(np.array([[0b10101011, 0b10000000]], np.uint8), 3, 3).tolist() == [[5, 2, 7]]


def test_the_published_size():
    """README of DistillKit: around 114 bytes a token at k = 50, a vocabulary of 128,256 and three terms in float32."""
    budget = CONFIG | {"d": 128_256, "k": 50, "exact_k": 1, "residual_bins": []}
    config = validate(budget, Compression)[Compression]
    assert config.logprob_bytes + -(-50 * config.index_bits // 8) == pytest.approx(114, abs=8)


def test_a_row_of_other_bytes_is_rejected_and_an_older_format_refused(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
):
    short = row([1, 2, 3], 3)
    short["bytepacked_indices"] = [one[:-1] for one in short["bytepacked_indices"]]
    capture = write_capture(tmp_path / "capture", [row([7, 8, 9], 3), short])
    assert main(STAGE, arguments(capture, tmp_path / "out", tiny, "max_rejected_share=0.5")) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == {"in": 2, "out": 1, "rejected": 1}
    detail = pl.read_parquet(tmp_path / "out" / "rejections.parquet")["detail"].to_list()
    assert detail == ["data_1.parquet:0: bytepacked_indices of 5 bytes where compression_config.yaml says 6"]
    legacy = {"input_ids": [1], "packed_indices": [[1]], "exact_values": [[1.0]], "coeffs": [[1.0]]}
    assert main(STAGE, arguments(write_capture(tmp_path / "old", [legacy]), tmp_path / "no", tiny)) == 3
    assert "row 0 has no compressed_logprobs; DistillKit's older formats are not read" in capsys.readouterr().err
    (capture / "compression_config.yaml").unlink()
    assert main(STAGE, arguments(capture, tmp_path / "no", tiny)) == 3
    assert "no compression_config.yaml" in capsys.readouterr().err
