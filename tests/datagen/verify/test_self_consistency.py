"""Oracles: votes counted by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.stage import main
from datagen.stages.verify import STAGE
from datagen.verify.self_consistency import Config, self_consistency


def judge(prompts: list[tuple[str, list[str]]], **changed: Any) -> list[Verdict]:
    """Verdicts on attempts at each prompt, all in one run."""
    traces = [
        Trace(id=f"{id}#{i}", prompt=Prompt(id=id, messages=[]), sample_index=i, completion=text)
        for id, texts in prompts
        for i, text in enumerate(texts)
    ]
    verdicts = list(self_consistency(Config.model_validate({"method": "self_consistency"} | changed), traces))
    assert [verdict.id for verdict in verdicts] == [trace.id for trace in traces]
    return verdicts


def found(verdicts: list[Verdict]) -> list[str]:
    return [verdict.reason or verdict.status for verdict in verdicts]


def test_spellings_vote_together():
    """A half is written three ways, by exact arithmetic and by Math-Verify, against two votes for 7."""
    texts = ["The answer is 1/2.", r"\boxed{0.5}", "#### 7", r"so \boxed{\frac{2}{4}}", "#### 7", "no idea"]
    verdicts = judge([("p", texts)])
    assert found(verdicts) == ["pass", "pass", "minority", "pass", "minority", "no_answer"]
    assert [verdict.score for verdict in verdicts] == [1, 1, 0, 1, 0, 0]
    assert "3 of 5 votes are for" in str(verdicts[2].detail) and verdicts[2].answer == "7"


def test_symbolic_answers_are_compared():
    texts = [r"\boxed{x^2 + 2x + 1}", r"\boxed{(x+1)^2}", r"\boxed{x^2}"]
    assert found(judge([("p", texts)])) == ["pass", "pass", "minority"]


def test_without_a_winner_nobody_passes():
    """A tie, a lone vote, nothing to read, and a plurality that is too small."""
    prompts = [("tie", ["#### 1", "#### 2"]), ("lone", ["#### 1", "eh"]), ("none", ["eh", "ah"])]
    assert found(judge(prompts)) == ["tie", "tie", "too_few_votes", "no_answer", "no_answer", "no_answer"]
    plural = [("p", ["#### 1", "#### 1", "#### 2", "#### 3", "#### 4"])]
    assert Counter(found(judge(plural))) == {"pass": 2, "minority": 3}
    assert Counter(found(judge(plural, min_share=0.5))) == {"no_majority": 5}
    assert Counter(found(judge(plural, min_votes=6))) == {"too_few_votes": 5}


def test_attempts_that_stand_apart_are_refused():
    with pytest.raises(DataError, match=r"attempts at the prompt 'a' stand apart.*sort the rows by prompt"):
        judge([("a", ["#### 1"]), ("b", ["#### 1"]), ("a", ["#### 1"])])


def test_prompts_do_not_share_votes_and_order_is_kept(monkeypatch: pytest.MonkeyPatch):
    """300 prompts of three attempts, two of them agreeing; the number of workers changes nothing."""
    prompts = [(f"p{i}", [rf"\boxed{{{i}x}}", rf"\boxed{{x \cdot {i}}}", "#### 0.5"]) for i in range(1, 301)]
    monkeypatch.setenv("DATASTILL_WORKERS", "2")
    verdicts = judge(prompts)
    assert found(verdicts) == ["pass", "pass", "minority"] * 300
    monkeypatch.setenv("DATASTILL_WORKERS", "1")
    assert judge(prompts) == verdicts


@pytest.mark.parametrize("given", [{"min_votes": 1}, {"min_share": 1.5}, {"timeout_s": 0}])
def test_bad_params(given: dict[str, Any]):
    with pytest.raises(ParamsError, match=next(iter(given))):
        validate({"method": "self_consistency"} | given, Config)


def test_agreement_is_not_published_as_a_rate_of_passing(tmp_path: Path):
    """Two of three agree on 7, and the reference is 8: by the reference one of three passes."""
    answers, traces = ("7", "8", "7"), tmp_path / "traces.jsonl"
    rows = [
        {"id": f"p#{i}", "prompt_id": "p", "prompt": "3 + 5?", "completion": text} for i, text in enumerate(answers)
    ]
    traces.write_text("".join(json.dumps(row | {"reference": "8"}) + "\n" for row in rows))
    metrics: dict[str, Any] = {}
    for method in ("self_consistency", "math_answer"):
        out = tmp_path / method
        given = f"--traces {traces} --out {out} --metrics {out}.json --set method={method}".split()
        assert main(STAGE, given) == 0
        metrics[method] = json.loads(out.with_suffix(".json").read_text())
    assert metrics["self_consistency"]["status"] == {"pass": 2, "fail": 1}
    assert not {"pass_at_k", "lucky_passes"} & metrics["self_consistency"].keys()
    assert metrics["math_answer"]["pass_at_k"]["overall"]["1"] == {"rate": 0.3333, "prompts": 1}
