"""Real small classifiers of transformers, drawn at random; oracle: each row alone, unpadded, in float64."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.stage import main
from datagen.stages.verify import STAGE
from datagen.verify.reward_model import Config, identity, reward_model
from tests.tiny_model import write_tiny_model

TEXTS = ["Yes.", "No, by no means, never, in no way.", "x", "A middling answer.", "B middling answer.", "é" * 40]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def write_llama(folder: Path, *, seed: int = 0, n_labels: int = 1, pad_token_id: int | None = 2, **more: Any) -> Path:
    """With the tokenizer and the chat template of the tiny language model."""
    write_tiny_model(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, bos_token_id=0, eos_token_id=1,
        pad_token_id=pad_token_id, id2label={i: f"LABEL_{i}" for i in range(n_labels)}, **more,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


def write_bert(folder: Path) -> Path:
    """With three labels, and segments that it tells apart."""
    write_tiny_model(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "special_tokens": {},
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    held = json.loads((folder / "tokenizer_config.json").read_text())
    held["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(held))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.3, pad_token_id=2, id2label={0: "bad", 1: "fair", 2: "good"},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def traces(texts: Sequence[str] = TEXTS) -> list[Trace]:
    messages: Any = [{"role": "user", "content": "Is it so?"}]
    return [Trace(id=str(i), prompt=Prompt(id="p", messages=messages), completion=one) for i, one in enumerate(texts)]


def scored(folder: Path, rows: Sequence[Trace] | None = None, **changed: Any) -> list[Verdict]:
    given = {"method": "reward_model", "reward_model": str(folder), "threshold": 0.5} | changed
    rows = traces() if rows is None else rows
    verdicts = list(reward_model(Config.model_validate(given), rows))
    assert [verdict.id for verdict in verdicts] == [row.id for row in rows]
    return verdicts


def logits_alone(folder: Path, inputs: Sequence[dict[str, list[int]]]) -> list[list[float]]:
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.inference_mode():
        rows = [{name: torch.tensor([ids]) for name, ids in one.items()} for one in inputs]
        return [network(**row).logits[0].tolist() for row in rows]


def chat_ids(folder: Path, text: str) -> dict[str, list[int]]:
    """The tiny model's template, written out."""
    said = f"<s>user: Is it so?\nassistant: {text}\nassistant: "
    return {"input_ids": AutoTokenizer.from_pretrained(folder)(said, add_special_tokens=False)["input_ids"]}


@pytest.mark.parametrize("pad_token_id", [2, None])
def test_one_logit_is_a_sigmoid(tmp_path: Path, pad_token_id: int | None):
    """Whatever shares a batch, and where the model knows no padding token too."""
    folder = write_llama(tmp_path / "m", pad_token_id=pad_token_id)
    wanted = [1 / (1 + math.exp(-one)) for (one,) in logits_alone(folder, [chat_ids(folder, text) for text in TEXTS])]
    assert max(wanted) - min(wanted) > 0.05
    for batch_size in (1, 2, 16):
        found = scored(folder, batch_size=batch_size)
        assert [verdict.score for verdict in found] == pytest.approx(wanted, abs=1e-5)
        assert [verdict.status for verdict in found] == ["pass" if one >= 0.5 else "fail" for one in wanted]
        assert {verdict.reason for verdict in found} <= {None, "low_reward"}


def test_several_logits_are_a_softmax_at_the_label(tmp_path: Path):
    """A pair of segments, the prompt's and the answer's."""
    folder = write_bert(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, inputs = tokenizer("Is it so?")["input_ids"], []
    for text in TEXTS:
        answer = tokenizer(text)["input_ids"]
        inputs.append({"input_ids": prompt + answer, "token_type_ids": [0] * len(prompt) + [1] * len(answer)})
    logits = logits_alone(folder, inputs)
    for at, label in enumerate(("bad", "fair", "good")):
        wanted = [math.exp(row[at]) / sum(map(math.exp, row)) for row in logits]
        for batch_size in (1, 4):
            found = scored(folder, layout="pair", label=label, batch_size=batch_size)
            assert [verdict.score for verdict in found] == pytest.approx(wanted, abs=1e-5)


def test_labels_that_do_not_exclude_each_other_are_sigmoids(tmp_path: Path):
    folder = write_llama(tmp_path / "m", n_labels=2, problem_type="multi_label_classification")
    logits = logits_alone(folder, [chat_ids(folder, text) for text in TEXTS])
    found = scored(folder, label="LABEL_1")
    assert [verdict.score for verdict in found] == pytest.approx(
        [1 / (1 + math.exp(-row[1])) for row in logits], abs=1e-5
    )


def test_what_has_no_score(tmp_path: Path):
    """A token is a byte, so the second answer alone is too long."""
    folder = write_llama(tmp_path / "m")
    rows = traces(["", "x" * 200, "fine"])
    rows.append(Trace(id="3", prompt=Prompt(id="q", messages=[]), completion="fine"))
    found = scored(folder, rows, max_tokens=100)
    assert [(one.status, one.reason, one.score) for one in found if one.score == 0] == [
        ("unparsed", "no_answer", 0), ("unparsed", "too_long", 0), ("error", "no_prompt", 0),
    ]  # fmt: skip
    assert found[2].score > 0 and "max_tokens is 100" in str(found[1].detail)


def test_logits_that_are_no_numbers_are_an_error(tmp_path: Path):
    folder = write_llama(tmp_path / "m")
    network = LlamaForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(network.score.weight, math.nan)
    network.save_pretrained(folder)
    assert {(one.status, one.reason) for one in scored(folder)} == {("error", "not_a_number")}


def test_a_model_that_is_no_classifier_is_refused(tmp_path: Path):
    """Transformers would draw its head at random."""
    folder = write_tiny_model(tmp_path / "m")
    with pytest.raises(MissingError, match=r"lacks the weights score\.weight; name a model that was trained as a"):
        scored(folder)
    with pytest.raises(MissingError, match="'nothing' is neither a folder nor a model of the Hub"):
        scored(Path("nothing"))


def test_what_the_model_lacks_is_said(tmp_path: Path):
    one, two = write_llama(tmp_path / "one"), write_llama(tmp_path / "two", n_labels=2)
    with pytest.raises(ParamsError, match="label: the reward model has one output"):
        scored(one, label="good")
    with pytest.raises(ParamsError, match=r"has the outputs LABEL_0, LABEL_1; name the one .* \(got ''\)"):
        scored(two)
    (one / "chat_template.jinja").unlink()
    with pytest.raises(MissingError, match="has no chat template; set layout=pair"):
        scored(one)
    assert len(scored(one, layout="pair")) == len(TEXTS)


def test_the_revision_is_checked_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder's is a hash; of a model of the Hub each commit has its own weights, as the cache holds them."""
    given: dict[str, Any] = {"method": "reward_model", "threshold": 0.5}
    folder = write_llama(tmp_path / "m")
    told = identity(Config.model_validate(given | {"reward_model": str(folder)}))
    assert told["model"] == "m" and len(scored(folder, revision=told["revision"][:12])) == len(TEXTS)
    with pytest.raises(MissingError, match=f"has the revision {told['revision']}, not 'abc'"):
        scored(folder, revision="abc")

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cached = tmp_path / "hub" / "models--org--reward"
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        shutil.copytree(write_llama(tmp_path / commit, seed=seed), cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("b" * 40)
    hub = Path("org/reward")
    assert identity(Config.model_validate(given | {"reward_model": str(hub)}))["revision"] == "b" * 40
    by_commit = [[one.score for one in scored(hub, revision=commit)] for commit in ("a" * 40, "b" * 40)]
    assert by_commit[0] != by_commit[1] == [one.score for one in scored(hub)]
    assert by_commit[0] == [one.score for one in scored(tmp_path / ("a" * 40))]


def test_the_stage_says_which_model_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A second run gives the same bytes; without a threshold there is none to guess."""
    folder, rows = write_llama(tmp_path / "m"), tmp_path / "traces.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "Is it so?", "completion": text}) + "\n" for text in TEXTS))
    for name in ("out", "again"):
        given = f"--traces {rows} --out {tmp_path / name} --set method=reward_model reward_model={folder}".split()
        assert main(STAGE, [*given, "threshold=0.5"]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["verifier"]["model"] == "m" and len(manifest["verifier"]["revision"]) == 64
    out = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert out == {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}
    assert main(STAGE, given) == 2
    assert "threshold: required, and not given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"layout": "flat"}, "layout"), ({"max_tokens": 0}, "max_tokens"), ({"reward_model": None}, "reward_model")],
)
def test_bad_params(changed: dict[str, Any], message: str):
    with pytest.raises(ParamsError, match=message):
        validate({"method": "reward_model", "reward_model": "m", "threshold": 0.5} | changed, Config)
