"""`perplexity`; oracles: transformers' own loss, one answer at a time; 259 where all of 259 symbols are as likely."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Document, Prompt, Rejection, Trace
from datagen.filter import Row
from datagen.filter.perplexity import Config, perplexity
from tests.tiny_model import write_tiny_model

ANSWERS = ("A fox.", "No.", "A fox ran into the wood, and nobody saw it again. " * 3, "2 + 2 = 4")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to which every byte is as likely: perplexity 259, with its three marks."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "silent", silent=True)


def trace(id: str, completion: str, **more: Any) -> Trace:
    prompt = Prompt(id=f"p{id}", messages=[{"role": "user", "content": "Tell me"}])
    return Trace(id=id, prompt=prompt, completion=completion, **more)


def run(model: Path, rows: list[Row | Rejection], **params: object) -> dict[str, str]:
    """Reason and detail by id; every other row must come back as it was, and in order."""
    config = Config.model_validate({"method": "perplexity", "model": str(model), **params})
    out = list(perplexity(config, rows, None))
    assert [row.id for row in out] == [row.id for row in rows]
    gone = [row for one, row in zip(rows, out, strict=True) if row is not one]
    return {row.id: f"{row.reason}: {row.detail}" for row in gone if isinstance(row, Rejection)}


def test_a_perplexity_is_the_exponential_of_transformers_loss(tmp_path: Path):
    """A random model; a bound of 1 drops all, so that all are said; a bound between two of them parts them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = write_tiny_model(tmp_path / "tiny")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(folder)
    rows = [trace(str(i), completion) for i, completion in enumerate(ANSWERS)]
    expected: dict[str, float] = {}
    for row in rows:
        messages = [dict(message) for message in row.prompt.messages]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        answer = tokenizer(row.completion, add_special_tokens=False).input_ids
        labels = torch.tensor([[-100] * len(prompt) + answer])
        expected[row.id] = math.exp(network(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.item())
    found = run(folder, [*rows], max_perplexity=1)
    for row in rows:
        said = re.fullmatch(
            r"high_perplexity: perplexity (\S+) of (\d+) tokens under tiny, the most is 1", found[row.id]
        )
        assert said and int(said[2]) == len(row.completion)  # a byte is a token
        assert float(said[1]) == pytest.approx(expected[row.id], rel=1e-4, abs=1e-3)
    ordered = sorted(expected, key=expected.__getitem__)
    bound = (expected[ordered[1]] + expected[ordered[2]]) / 2
    assert set(run(folder, [*rows], max_perplexity=bound)) == set(ordered[2:])
    low = run(folder, [*rows], min_perplexity=bound, max_perplexity=1e9)
    assert set(low) == set(ordered[:2]) and all(one.startswith("low_perplexity") for one in low.values())


def test_each_teacher_has_its_bound_and_a_row_without_one_the_default(silent: Path):
    bad = Rejection(id="f:9", stage="filter", reason="malformed_json", detail="")
    rows = [trace("a", "Yes.", teacher="strict"), bad, trace("b", "Yes.", teacher="loose"), trace("c", "Yes.")]
    bounds = {"strict": 258.9, "loose": 259.1}
    assert run(silent, rows, max_by_teacher=bounds, max_perplexity=258) == {
        "a": "high_perplexity: perplexity 259.000 of 4 tokens under silent, the most is 258.9 for 'strict'",
        "c": "high_perplexity: perplexity 259.000 of 4 tokens under silent, the most is 258",
    }
    assert set(run(silent, rows, max_by_teacher=bounds, max_perplexity=260)) == {"a"}


def test_what_cannot_be_scored_is_said_and_goes_unless_kept(silent: Path, caplog: pytest.LogCaptureFixture):
    no_prompt = Trace(id="n", prompt=Prompt(id="p", messages=[]), completion="Yes.")
    rows = [trace("e", ""), trace("l", "a" * 200), no_prompt, trace("s", "Yes.")]
    assert run(silent, [*rows], max_perplexity=260, max_tokens=100) == {
        "e": "not_scored: empty: 0 tokens of answer, max_tokens=100",
        "l": "not_scored: too_long: 200 tokens of answer, max_tokens=100",
        "n": "not_scored: no_prompt: 4 tokens of answer, max_tokens=100",
    }
    assert not run(silent, [*rows], max_perplexity=260, max_tokens=100, not_scored="keep")
    assert "kept without a score: empty 1, no_prompt 1, too_long 1" in caplog.text


def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(tmp_path: Path):
    nowhere = tmp_path / "no-model"
    rows: list[Row | Rejection] = [trace("a", "Yes.", teacher="small")]
    with pytest.raises(
        ParamsError, match="max_by_teacher: no row is of teacher 'smal'; the rows' teachers are 'small'"
    ):
        run(nowhere, rows, max_by_teacher={"smal": 10})
    with pytest.raises(ParamsError, match=r"min_perplexity: must not be above a max of 10 \(got 12\)"):
        run(nowhere, rows, max_by_teacher={"small": 10}, min_perplexity=12)
    with pytest.raises(ParamsError, match="the rows are documents; give it traces"):
        run(nowhere, [Document(id="d", text="x")])
