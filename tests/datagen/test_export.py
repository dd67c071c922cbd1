import json
import math
from pathlib import Path
from typing import Any

import pytest

from datagen.cli import main
from datagen.contracts.dataset import DatasetWriter, read_manifest
from datagen.contracts.errors import DataError, LockedError, ParamsError
from datagen.contracts.records import Constraint, Message, Prompt, Rejection, Trace, Verdict
from datagen.contracts.stage import locked
from datagen.export import FORMATS, export

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# prompt, then status and completion of each of its traces
ATTEMPTS = [
    ("p0", ["pass: four", "fail: five", "pass: 4", "fail: six", "pass: 2 + 2 = 4"]),
    ("p1", ["pass: seven", "pass: 7"]),
    ("p2", ["fail: nine", "timeout: 9^9^9"]),
    ("p3", ["unparsed: well", "error: ?"]),
]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, **more: str | None) -> dict[str, str | None]:
    return {"role": "assistant", "content": text, **more}


def write_verified(
    out: Path, prompts: dict[str, Prompt], reasoning: str | None = None, tool_calls: str | None = None
) -> Path:
    """What the verify stage writes of ATTEMPTS."""
    with DatasetWriter(out, Trace, {"stage": "verify"}, {"verdicts": Verdict, "rejected": Trace}) as writer:
        for prompt_id, attempts in ATTEMPTS:
            for i, attempt in enumerate(attempts):
                status, _, completion = attempt.partition(": ")
                id = f"{prompt_id}#{i}"
                trace = Trace(
                    id=id,
                    prompt=prompts[prompt_id],
                    completion=completion,
                    reasoning=reasoning,
                    tool_calls=tool_calls,
                )
                writer.read()
                writer.add("verdicts", Verdict(id=id, method="m", status=status, score=float(status == "pass")))  # pyright: ignore[reportArgumentType]  # a Status
                if status == "pass":
                    writer.write(trace)
                else:
                    writer.add("rejected", trace)
                    writer.reject(Rejection(id=id, stage="verify", reason=status, detail=""))
    return out


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = {id: Prompt(id=id, messages=[user(f"question {id}")], reference="4", family="sum") for id, _ in ATTEMPTS}
    return write_verified(tmp_path_factory.mktemp("verified") / "data", prompts)


def rows(directory: Path) -> list[dict[str, Any]]:
    """As a user of the datasets library reads them."""
    from datasets import load_dataset

    files = str(directory / "part-*.parquet")
    return load_dataset("parquet", data_files=files, split="train", cache_dir=str(directory / "cache")).to_list()  # pyright: ignore[reportAttributeAccessIssue]  # a Dataset


def rejections(directory: Path) -> dict[str, str]:
    import polars as pl

    return dict(pl.read_parquet(directory / "rejections.parquet").select("id", "reason").iter_rows())


def test_sft_and_prompt_completion_are_the_kept_traces(verified: Path, tmp_path: Path):
    """Written out by hand."""
    assert export(verified, "sft", tmp_path / "sft")["rows"] == {"in": 5, "out": 5, "rejected": 0}
    first, *_, last = rows(tmp_path / "sft")
    assert first == {"id": "p0#0", "messages": [user("question p0"), assistant("four")]}
    assert last == {"id": "p1#1", "messages": [user("question p1"), assistant("7")]}
    export(verified, "prompt_completion", tmp_path / "pc")
    assert rows(tmp_path / "pc")[0] == {
        "id": "p0#0",
        "prompt": [user("question p0")],
        "completion": [assistant("four")],
    }


def test_preference_pairs_are_of_one_prompt(verified: Path, tmp_path: Path):
    """Three kept and two failed traces of p0: the first failed one comes again. p1 has none that failed."""
    assert export(verified, "preference", tmp_path / "out")["rows"] == {"in": 5, "out": 3, "rejected": 2}
    found = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows(tmp_path / "out")]
    assert found == [("four", "five"), ("4", "six"), ("2 + 2 = 4", "five")]
    assert rows(tmp_path / "out")[1] == {
        "id": "p0#2",
        "prompt": [user("question p0")],
        "chosen": [assistant("4")],
        "rejected": [assistant("six")],
        "rejected_id": "p0#3",
    }
    assert rejections(tmp_path / "out") == {"p1#0": "no_failed_trace", "p1#1": "no_failed_trace"}


def test_unpaired_leaves_out_what_has_no_finding(verified: Path, tmp_path: Path):
    """Six kept or failed before p2's timeout, in input order; timeout, unparsed and error are no bad examples."""
    assert export(verified, "unpaired", tmp_path / "out")["rows"] == {"in": 11, "out": 8, "rejected": 3}
    labels = {row["id"]: row["label"] for row in rows(tmp_path / "out")}
    assert list(labels.items()) == [
        ("p0#0", True), ("p0#1", False), ("p0#2", True), ("p0#3", False), ("p0#4", True),
        ("p1#0", True), ("p1#1", True), ("p2#0", False),
    ]  # fmt: skip
    assert rejections(tmp_path / "out") == dict.fromkeys(("p2#1", "p3#0", "p3#1"), "no_finding")


def test_prompt_only_has_the_pass_rate_of_each_prompt(verified: Path, tmp_path: Path):
    """p0: 3 of 5; p1: 2 of 2; p2: 0 of 1, its timeout says nothing; p3: nothing is known."""
    assert export(verified, "prompt_only", tmp_path / "out")["rows"] == {"in": 4, "out": 3, "rejected": 1}
    found = rows(tmp_path / "out")
    assert {row["id"]: row["pass_rate"] for row in found} == {"p0": 0.6, "p1": 1.0, "p2": 0.0}
    assert (found[0]["prompt"], found[0]["answer"], found[0]["family"]) == ([user("question p0")], "4", "sum")
    assert rejections(tmp_path / "out") == {"p3": "no_finding"}


def test_what_was_dropped_for_other_attempts_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As verify itself wrote them: answers that passed are neither bad examples nor unjudged ones.

    One at a and the only one at c pass alone, which min_agreement=2 drops; at b one of two constraints is enough at
    threshold 0.5, but not the best.
    """
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    both = [Constraint(id="keywords:existence", kwargs=json.dumps({"keywords": [word]})) for word in ("red", "blue")]
    a, c = (Prompt(id=id, messages=[user("2 + 2?")], reference="4") for id in "ac")
    b = Prompt(id="b", messages=[user("Say.")], constraints=both)
    given = [(a, "4", True), (a, "5", False), (b, "red", False), (b, "red blue", True), (c, "4", True)]
    with DatasetWriter(tmp_path / "traces", Trace, {"stage": "traces", "method": "best_of_n"}) as writer:
        for i, (prompt, completion, best) in enumerate(given):
            writer.read()
            writer.write(Trace(id=f"{prompt.id}#{i}", prompt=prompt, completion=completion, score=0.5, best=best))
    paths = ["--traces", str(tmp_path / "traces"), "--out", str(tmp_path / "verified")]
    assert main(["verify", *paths, "--set", "min_agreement=2", "keep=best", "threshold=0.5"]) == 0
    export(tmp_path / "verified", "unpaired", tmp_path / "out")
    assert {row["id"]: row["label"] for row in rows(tmp_path / "out")} == {"a#1": False, "b#3": True}
    assert rejections(tmp_path / "out") == {"a#0": "no_agreement", "b#2": "not_best", "c#4": "no_agreement"}
    export(tmp_path / "verified", "prompt_only", tmp_path / "prompts")
    assert {row["id"]: row["pass_rate"] for row in rows(tmp_path / "prompts")} == {"a": 0.0, "b": 1.0}
    assert rejections(tmp_path / "prompts") == {"c": "no_agreement"}
    export(tmp_path / "verified", "preference", tmp_path / "pairs")
    assert rejections(tmp_path / "pairs") == {"b#3": "no_failed_trace"}


def test_reasoning_tools_and_tool_calls_stand_where_chat_templates_look(tmp_path: Path):
    """OpenAI's shapes; keys that no message uses are not there, and a row without a prompt is left out."""
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    tools = '[{"type": "function", "function": {"name": "add"}}]'
    messages: list[Message] = [
        user("2 + 2?"),
        {"role": "assistant", "tool_calls": json.dumps([call])},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]
    prompts = {id: Prompt(id=id, messages=messages if id == "p0" else [], tools=tools) for id, _ in ATTEMPTS}
    verified = write_verified(tmp_path / "verified", prompts, reasoning="easy")
    export(verified, "prompt_completion", tmp_path / "out")
    (row, *_) = rows(tmp_path / "out")
    absent = {"tool_calls": None, "tool_call_id": None}
    called = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    assert row["prompt"] == [
        {"role": "user", "content": "2 + 2?", **absent},
        {"role": "assistant", "content": None, "tool_calls": [called], "tool_call_id": None},
        {"role": "tool", "content": "4", "tool_calls": None, "tool_call_id": "1"},
    ]
    assert row["completion"] == [assistant("four", reasoning_content="easy")]
    assert row["tools"] == tools
    assert rejections(tmp_path / "out") == {"p1#0": "no_prompt", "p1#1": "no_prompt"}


def test_the_tool_calls_of_an_answer_stand_in_the_assistant_s_message(tmp_path: Path):
    """As OpenAI writes them; the prompts have none."""
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    prompts = {id: Prompt(id=id, messages=[user("2 + 2?")], tools="[]") for id, _ in ATTEMPTS}
    verified = write_verified(tmp_path / "verified", prompts, tool_calls=json.dumps([call]))
    export(verified, "prompt_completion", tmp_path / "pc")
    assert rows(tmp_path / "pc")[0]["completion"] == [assistant("four") | {"tool_calls": [call]}]
    export(verified, "sft", tmp_path / "sft")
    assert rows(tmp_path / "sft")[0]["messages"] == [
        user("2 + 2?") | {"tool_calls": None},
        assistant("four") | {"tool_calls": [call]},
    ]


def test_the_same_input_gives_the_same_bytes(verified: Path, tmp_path: Path):
    for format in FORMATS:
        for name in ("a", "b"):
            export(verified, format, tmp_path / name)
        files = [{f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("a", "b")]
        assert files[0] == files[1]


def test_wrong_input_is_one_clear_line(verified: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ParamsError, match="no format 'sharegpt'; there are sft, prompt_completion"):
        export(verified, "sharegpt", tmp_path / "out")
    with pytest.raises(DataError, match="not a dataset directory"):
        export(tmp_path, "sft", tmp_path / "out")
    export(verified, "sft", tmp_path / "sft")
    assert main(["export", str(tmp_path / "sft"), "--format", "unpaired", "--out", str(tmp_path / "out")]) == 3
    assert "not written by the verify stage" in capsys.readouterr().err
    assert main(["export", str(verified), "--format", "preference", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["rejected"] == {"no_failed_trace": 2}
    assert read_manifest(tmp_path / "out")["rows"] == {"in": 5, "out": 3, "rejected": 2}


def test_nothing_is_replaced_but_what_was_written_by_datastill(
    verified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A folder of the user's, the dataset that is exported, and a directory that another export writes."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").touch()
    with pytest.raises(ParamsError, match="holds files that no stage wrote"):
        export(verified, "sft", tmp_path / "data")
    assert (tmp_path / "data" / "thesis.tex").exists()
    with pytest.raises(ParamsError, match="would replace the input"):
        export(verified, "sft", verified)
    with locked(tmp_path / "out"), pytest.raises(LockedError, match="is being written by process"):
        export(verified, "sft", tmp_path / "out")
    assert not (tmp_path / "out").exists() and (verified / "rejected.parquet").exists()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A Llama of 8 dimensions with random weights, and a byte-level tokenizer with a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    tokens = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(special + alphabet)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]  # settable
    tokens.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]  # settable
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<|pad|>", eos_token="<|end|>", additional_special_tokens=special[2:]
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("student")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LlamaForCausalLM.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.mark.parametrize(
    ("format", "trainer", "loss"),
    [
        ("sft", "SFT", math.log(260)),
        ("prompt_completion", "SFT", math.log(260)),
        ("preference", "DPO", math.log(2)),
        ("unpaired", "KTO", 0.5),
        ("prompt_only", "GRPO", 0.0),
    ],
)
def test_trl_trains_a_step_on_it(
    verified: Path, tmp_path: Path, student: tuple[Any, Any], format: str, trainer: str, loss: float
):
    """Oracle: TRL's own trainer takes the columns as they are, and starts from the loss that theory gives.

    Of small random weights over 260 tokens ln 260; of a policy that equals its reference -ln sigmoid(0) for DPO
    (arXiv:2305.18290, eq. 7) and 1 - sigmoid(0) for KTO (arXiv:2402.01306, eq. 8); of advantages that are centred 0.
    """
    import trl
    from datasets import load_dataset

    export(verified, format, tmp_path / "data")
    data = load_dataset(
        "parquet",
        data_files=str(tmp_path / "data" / "part-*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    model, tokenizer = student
    more: dict[str, Any] = {"GRPO": {"num_generations": 2, "max_completion_length": 4}}.get(trainer, {})
    arguments = getattr(trl, f"{trainer}Config")(
        output_dir=str(tmp_path / "student"), max_steps=1, per_device_train_batch_size=2, use_cpu=True, bf16=False,
        report_to="none", logging_steps=1, save_strategy="no", disable_tqdm=True, **more,
    )  # fmt: skip
    rewards = {"reward_funcs": lambda answer, **_: [float(len(text)) for text in answer]} if trainer == "GRPO" else {}
    training = getattr(trl, f"{trainer}Trainer")(
        model=model, args=arguments, train_dataset=data, processing_class=tokenizer, **rewards
    )
    assert training.train().training_loss == pytest.approx(loss, abs=0.02)
    assert training.state.global_step == 1
