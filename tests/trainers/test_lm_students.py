"""Oracles: nothing to learn where student and teacher are one; several ways to the same signal; reasons by hand."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.backends.transformers_models import end_tokens
from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from datagen.contracts.stage import main
from datagen.stages.teacher_signals import STAGE as SIGNALS
from tests.tiny_model import write_tiny_model
from trainers import loop, on_policy
from trainers.language_models import StudentModel
from trainers.lm_rows import Bounds, select
from trainers.lm_students import Config, loss_and_state, open_student, open_teacher, parse
from trainers.stages.train_lm import STAGE

SETTINGS = ("n_threads=1", "batch_size=5", "micro_batch_tokens=64", "learning_rate=0.001", "steps=2", "seed=0")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def second(tiny: Path, tmp_path: Path) -> Path:
    """Another model of the same tokenizer."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    model.save_pretrained(tmp_path / "second")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "second")
    return tmp_path / "second"


def train(student: Path, data: Path, out: Path, *settings: str, code: int = 0, **more: Path) -> Any:
    """The records of the steps."""
    inputs = ["--data", str(data), *(part for name, path in more.items() for part in (f"--{name}", str(path)))]
    arguments = [*inputs, "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    assert main(STAGE, [*arguments, "--set", f"student={student}", *SETTINGS, *settings]) == code
    return json.loads((out / "loss.json").read_text()) if not code else None


@pytest.mark.parametrize(
    "objective",
    ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation", "negative_log_acceptance", "taid",
     "{forward_kl: 1, jensen_shannon: {weight: 2, weight_of_teacher: 0.1}}"],
)  # fmt: skip
def test_nothing_is_to_be_learned_of_oneself(tiny: Path, traces: Path, tmp_path: Path, objective: str):
    """The first step's loss and gradient, to float32's rounding; the manifest says who taught."""
    records = train(tiny, traces, tmp_path / "out", f"teacher={tiny}", f"objective={objective}")
    assert abs(records[0]["loss"]) < 1e-6 and records[0]["gradient_norm"] < 1e-4
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["teacher"]["model"] == tiny.name and manifest["params"]["teacher"] == str(tiny)
    assert manifest["licences"][tiny.name] == {"kind": "base", "licence": "unknown"}
    assert set(manifest["inputs"]) == {"data"}


def test_all_ways_to_a_teacher_give_the_same_student(tiny: Path, second: Path, traces: Path, tmp_path: Path):
    """Online, its states computed before, a mixture of it alone, and packed: the weights after two steps.

    Stored signals of all tokens are the teacher's to the storage error.
    """
    taught = ["objective=reverse_kl", f"teacher={second}"]
    online = train(tiny, traces, tmp_path / "online", *taught)
    weights = load_file(tmp_path / "online" / "model.safetensors")
    assert online[0]["loss"] > 0.01
    ways = {
        "hidden": [*taught, "teacher_kind=hidden"],
        "mixture": [taught[0], "teacher_kind=mixture", f"teachers=[{{teacher: {second}, weight: 1}}]"],
        "packed": [*taught, "layout=packed"],
    }
    for name, settings in ways.items():
        records = train(tiny, traces, tmp_path / name, *settings)
        assert [one["loss"] for one in records] == pytest.approx([one["loss"] for one in online], rel=1e-4)
        for key, value in load_file(tmp_path / name / "model.safetensors").items():
            torch.testing.assert_close(value, weights[key], rtol=0, atol=1e-4)
    written = [f"model={second}", "method=topk", "k=259"]
    assert main(SIGNALS, ["--traces", str(traces), "--out", str(tmp_path / "signals"), "--set", *written]) == 0
    signals = tmp_path / "signals"
    records = train(tiny, traces, tmp_path / "cached", taught[0], "teacher_kind=cached", signals=signals)
    assert [one["loss"] for one in records] == pytest.approx([one["loss"] for one in online], abs=2e-3)


def test_messages_and_prompts_with_completions_are_the_same_rows(tiny: Path, traces: Path, tmp_path: Path):
    """Byte for byte the same student; of a file with rows of neither kind each is dropped with its reason."""
    rows = [json.loads(line) for line in traces.read_text().splitlines()]
    spoken = [
        {"id": row["id"], "messages": [{"role": "user", "content": row["prompt"]},
                                       {"role": "assistant", "content": row["completion"]}]}
        for row in rows
    ]  # fmt: skip
    bad = [
        {"id": "alone", "prompt": "q"},
        {"id": "mute", "prompt": "q", "completion": ""},
        {"id": "odd", "messages": 7},
    ]
    files = {"plain": rows, "messages": spoken, "bad": [*rows, *bad]}
    for name, content in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        train(tiny, tmp_path / f"{name}.jsonl", tmp_path / name, "max_rejected_share=0.3")
    found = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in files}
    assert found["plain"] == found["messages"] == found["bad"]
    rejected = pl.read_parquet(tmp_path / "bad" / "rejections.parquet")
    assert dict(rejected.select("id", "reason").iter_rows()) == {
        "alone": "missing_field", "mute": "empty_completion", "odd": "wrong_type"
    }  # fmt: skip


def test_a_row_without_a_signal_is_dropped(
    tiny: Path, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """One of twelve, whose text changed; where that is more than may be, training does not start."""
    signals = tmp_path / "signals"
    settings = ["method=topk", "k=4", f"model={tiny}"]
    assert main(SIGNALS, ["--traces", str(traces), "--out", str(signals), "--set", *settings]) == 0
    lines = traces.read_text().splitlines()
    row = json.loads(lines[3])
    traces.write_text("\n".join([*lines[:3], json.dumps(row | {"completion": "other"}), *lines[4:]]) + "\n")
    taught = ["objective=forward_kl", "teacher_kind=cached"]
    train(tiny, traces, tmp_path / "out", *taught, "max_rejected_share=0.1", signals=signals)
    assert json.loads((tmp_path / "out.json").read_text())["rejected"] == {"other_tokens": 1}
    train(tiny, traces, tmp_path / "none", *taught, signals=signals, code=3)
    assert "the first is 'row-3': other_tokens:" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_another_tokenizer_is_for_likelihood_matching_alone(
    tiny: Path, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A teacher with one token more: refused for a divergence, taken for texts."""
    other = write_tiny_model(tmp_path / "other")
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(other)
    model: Any = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)
    model.resize_token_embeddings(260, mean_resizing=False)
    model.save_pretrained(other)
    train(tiny, traces, tmp_path / "out", f"teacher={other}", "objective=forward_kl", code=3)
    assert "has another tokenizer than the student" in capsys.readouterr().err
    taught = [f"teacher={other}", "teacher_kind=other_tokenizer"]
    train(tiny, traces, tmp_path / "out", *taught, "objective=forward_kl", code=2)
    assert "likelihood_matching needs other_tokenizer, and no other objective takes it" in capsys.readouterr().err
    both = "objective={likelihood_matching: 1.0, supervised: 0.5}"
    assert train(tiny, traces, tmp_path / "out", *taught, both)[0]["loss"] > 0


def test_on_policy_steps_are_in_the_log(tiny: Path, second: Path, traces: Path, tmp_path: Path):
    """Every second step has figures of its answers, of at most 6 tokens, and counts their tokens."""
    settings = ["objective=reverse_kl", f"teacher={second}", "on_policy_share=0.5", "rollout_tokens=6", "steps=4"]
    records = train(tiny, traces, tmp_path / "out", *settings, "rollout_top_p=0.9", "rollout_support_k=8")
    assert ["rollout_length" in record for record in records] == [False, True, False, True]
    for record in records[1::2]:
        assert record["count"] == pytest.approx(
            5 * record["rollout_length"] if record["step"] == 2 else record["count"]
        )
        assert 0 < record["rollout_length"] <= 6 and 0 < record["rollout_entropy"] < 5.6


def test_an_interrupted_run_ends_where_an_unbroken_one_ends(
    tiny: Path, second: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Bit for bit, with TAID's t, answers of the student's own and the figures that a collapse is told by."""
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    section: dict[str, Any] = {
        "student": str(tiny), "teacher": str(second), "objective": "taid", "n_threads": 1, "batch_size": 5, "steps": 5,
        "learning_rate": 0.01, "on_policy_share": 0.5, "rollout_tokens": 5,
    }  # fmt: skip

    def run(folder: Path, stop_at: int | None = None) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        params = parse(section)
        _, tokenizer, model = open_student(params[Config], params[loop.Config])
        ends = end_tokens(model, tokenizer)
        rows, _ = select(Rows(traces, Trace, "t", InputParams()), Bounds(99, 99, 9), tokenizer, ends, stage="t")
        teacher = open_teacher(params, tokenizer, torch.device("cpu"), None)
        rollouts = on_policy.Rollouts(params[on_policy.Config], tokenizer, ends, 99, seed=0, folder=Path())
        loss, state = loss_and_state(params, teacher, rollouts)
        student = StudentModel(model)

        def advance(record: Any) -> None:
            if record["step"] == stop_at:
                raise KeyboardInterrupt

        records = loop.train(
            student, rows, loss, params[loop.Config], Checkpoints(folder), advance, state=state, renew=rollouts.renew
        )
        return records, student.state_dict()

    records, weights = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stop_at=4)
    again, resumed = run(tmp_path / "broken")
    assert again == records and [("rollout_length" in one, "t" in one) for one in records] == [
        (False, True), (True, True), (False, True), (True, True), (False, True)
    ]  # fmt: skip
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())


def test_a_student_may_start_from_some_of_the_layers(tiny: Path, traces: Path, tmp_path: Path):
    """Of two layers two; three there are not."""
    train(tiny, traces, tmp_path / "out", "student_layers=2")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 2
    train(tiny, traces, tmp_path / "more", "student_layers=3", code=2)


def test_a_teacher_of_less_context_drops_longer_rows(
    tiny: Path, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The same model with 32 positions; rows are of 28 to 41 tokens."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model.config.max_position_embeddings = 32
    model.save_pretrained(tmp_path / "short")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "short")
    taught = [f"teacher={tmp_path / 'short'}", "objective=forward_kl"]
    train(tiny, traces, tmp_path / "out", *taught, code=3)
    assert "too_long: 3" in capsys.readouterr().err
    train(tiny, traces, tmp_path / "out", *taught, "max_rejected_share=0.9")
    assert json.loads((tmp_path / "out.json").read_text())["rejected"].keys() == {"too_long"}


def test_the_best_weights_on_held_out_rows_are_kept(tiny: Path, traces: Path, tmp_path: Path):
    """Three rows whose answers are never learned: transformers' own likelihood of them, by the weights that are left.

    The rate is so high that later steps are worse, and two of them in a row end it.
    """
    lines = traces.read_text().splitlines(keepends=True)
    (tmp_path / "learned.jsonl").write_text("".join(lines[3:]))
    (tmp_path / "held.jsonl").write_text("".join(lines[:3]))
    settings = ["steps=40", "learning_rate=0.05", "schedule=constant", "judge_every=1", "patience=2"]
    out = tmp_path / "out"
    records = train(tiny, tmp_path / "learned.jsonl", out, *settings, validation=tmp_path / "held.jsonl")
    judged = [record["judged"] for record in records]
    best = judged.index(min(judged))
    assert len(judged) == best + 3 < 40
    assert json.loads(out.with_suffix(".json").read_text())["validation"] == {
        "nats_per_token": min(judged), "step": best + 1
    }  # fmt: skip
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    nats, n = 0.0, 0
    for line in lines[:3]:
        row = json.loads(line)
        prompt = tokenizer(f"<s>user:{row['prompt']}</s>\n<s>assistant:")["input_ids"]
        answer = tokenizer(f"{row['completion']}</s>")["input_ids"]
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            nats += float(model(torch.tensor([prompt + answer]), labels=labels).loss) * len(answer)
        n += len(answer)
    assert nats / n == pytest.approx(min(judged), rel=1e-5)
    train(tiny, traces, tmp_path / "none", "judge_every=1", code=2)
    train(tiny, traces, tmp_path / "none", validation=tmp_path / "held.jsonl", code=2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["objective=forward_kl"], "objective: forward_kl needs a teacher; set teacher=MODEL"),
        (["objective=forward_kl", "teacher_kind=cached"], "name it with --signals"),
        (["objective=forward_kl", "teacher=T", "teacher_kind=oracle"], "no 'oracle' in trainers.teachers; there are"),
        (["objective=forward_kl", "teacher=nowhere"], "model 'nowhere' is neither a folder"),
        (["objective={forward_kl: 0}", "teacher=T"], "objective.forward_kl.weight: expected a number above 0"),
        (["objective=forward_kl", "teacher=T", "on_policy_share=2"], "on_policy_share: Input should be less than"),
        (["objective=forward_kl", "teacher=T", "k=3"], "k: unknown parameter"),
        (
            ["objective=forward_kl", "teacher=T", "teacher_kind=cached"],
            "teacher_kind=cached reads no model of that name",
        ),
        (
            [
                "objective=forward_kl",
                "teacher_kind=mixture",
                "teachers=[{teacher: T, weight: 1, teacher_kind: hidden}]",
                "on_policy_share=1",
            ],
            "a teacher of the kind hidden says nothing of new answers",
        ),
    ],
)
def test_what_cannot_be_taught(
    tiny: Path, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], says: str
):
    train(tiny, traces, tmp_path / "out", *settings, code=2)
    assert says in capsys.readouterr().err


def test_texts_are_learned_token_by_token_without_a_template(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Oracle: transformers' own loss of the pieces at the start, whose labels leave out a sequence's first token."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = None
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "base")
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"id": "a", "text": "abcdefg"}\n{"id": "b", "text": "xyz"}\n')
    records = train(tmp_path / "base", texts, tmp_path / "out", "max_tokens=4")
    nats = n = 0
    for piece in ("abcd", "defg", "xyz"):
        tokens = torch.tensor([tokenizer(piece)["input_ids"]])
        nats += model(tokens, labels=tokens).loss.item() * (len(piece) - 1)
        n += len(piece) - 1
    assert records[0]["count"] == n == 8 and records[0]["loss"] == pytest.approx(nats / n, rel=1e-5)
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["rows"] == {"in": 2, "out": 2, "rejected": 0} and metrics["n_sequences"] == 3
    for settings in (
        ["objective=likelihood_matching", f"teacher={tiny}"],
        ["objective=forward_kl", f"teacher={tiny}", "on_policy_share=1"],
    ):
        train(tiny, texts, tmp_path / "none", *settings, code=2)
        assert f"and the rows of {texts} are texts; give traces" in capsys.readouterr().err
        train(tiny, texts, tmp_path / "none", *settings, "learned_tokens=all", code=2)
        assert "and learned_tokens=all learns every turn; leave one of the two out" in capsys.readouterr().err


def test_all_turns_of_traces_can_be_learned(tiny: Path, tmp_path: Path):
    """Oracle: transformers' own loss of the whole conversation, of two turns of each, its last end included."""
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    records = train(tiny, file, tmp_path / "out", "learned_tokens=all")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    text = "".join(f"<s>{role}:{text}</s>\n" for role, text in turns).removesuffix("\n")
    tokens = torch.tensor([AutoTokenizer.from_pretrained(tiny)(text)["input_ids"]])
    assert records[0]["count"] == tokens.shape[1] - 1
    assert records[0]["loss"] == pytest.approx(model(tokens, labels=tokens).loss.item(), rel=1e-5)
