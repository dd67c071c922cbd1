"""A small pipeline of dataset directories, written as the stages write them, whose every row is known."""

import json
from pathlib import Path

import pytest

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.records import Prompt, Rejection, Trace, Verdict

FAMILIES = ("one_keyword", "repeat")
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)> [bold]&amp; \x1b[31m"


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six prompts, three attempts each, as `write_pipeline` says."""
    root = tmp_path_factory.mktemp("pipeline")
    write_pipeline(root)
    return root


def write_pipeline(root: Path, n_prompts: int = 6, n_samples: int = 3) -> None:
    """data/prompts, data/traces, data/verified, models/student, trained on what was kept, and data/evaluation.

    Of each prompt's attempts 0 passes, 1 fails and 2 got no answer. One raw row is no prompt.
    """
    prompts = [
        Prompt(
            id=f"p{i}",
            messages=[{"role": "user", "content": f"Use the word zebra{i}. {HOSTILE if i == 0 else ''}"}],
            family=FAMILIES[i % len(FAMILIES)],
            constraints=[{"id": "keywords:existence", "kwargs": f'{{"keywords": ["zebra{i}"]}}'}],
            source=f"animals.txt:{i}",
        )
        for i in range(n_prompts)
    ]
    raw = root / "data" / "prompts"
    with DatasetWriter(
        raw, Prompt, {"stage": "prompts", "method": "instruction_families", "params": {"seed": 3}, "inputs": {}}
    ) as writer:
        for prompt in prompts:
            writer.read()
            writer.write(prompt)
        writer.read()
        writer.reject(Rejection(id="animals.txt:99", stage="prompts", reason="empty_prompt", detail="nothing in it"))
    traces: list[Trace] = []
    manifest = {
        "stage": "traces", "method": "n_samples", "inputs": {"prompts": content_hash(raw)},
        "params": {"temperature": 0.5, "max_new_tokens": 48, "samples_per_prompt": n_samples},
        "teacher": {"model": "tiny"},
    }  # fmt: skip
    with DatasetWriter(root / "data" / "traces", Trace, manifest) as writer:
        for prompt in prompts:
            writer.read(n_samples)
            for index in range(n_samples):
                id = f"{prompt.id}#{index}.{index:08x}"
                if index == 2:
                    writer.reject(Rejection(id=id, stage="traces", reason="http_500", detail="the server fell over"))
                    continue
                traces.append(
                    Trace(
                        id=id,
                        prompt=prompt,
                        sample_index=index,
                        finish_reason="stop",
                        teacher="tiny",
                        seed=index + 70,
                        completion=f"A {'zebra' if index == 0 else 'horse'}{prompt.id[1:]} ran. {HOSTILE}",
                        request_key=f"{index:08x}ffff",
                        n_prompt_tokens=11,
                        n_completion_tokens=7,
                    )
                )
                writer.write(traces[-1])
    manifest = {
        "stage": "verify", "method": "instruction_constraints", "params": {},
        "inputs": {"traces": content_hash(root / "data" / "traces")},
    }  # fmt: skip
    with DatasetWriter(
        root / "data" / "verified", Trace, manifest, tables={"verdicts": Verdict, "rejected": Trace}
    ) as writer:
        for trace in traces:
            writer.read()
            passed = trace.sample_index == 0
            detail = None if passed else f"the word {trace.prompt.constraints[0]['kwargs']} does not occur"
            writer.add(
                "verdicts",
                Verdict(
                    id=trace.id, method="instruction_constraints", status="pass" if passed else "fail",
                    score=float(passed), detail=detail,
                ),
            )  # fmt: skip
            if passed:
                writer.write(trace)
            else:
                writer.add("rejected", trace)
                writer.reject(Rejection(id=trace.id, stage="verify", reason="keywords:existence", detail=detail or ""))
    student = root / "models" / "student"
    student.mkdir(parents=True)
    manifest = {
        "stage": "train_lm", "params": {"epochs": 2}, "base": {"name": "tiny", "licence": "Apache-2.0"},
        "inputs": {"traces": content_hash(root / "data" / "verified")},
        "rows": {"in": n_prompts, "out": n_prompts, "rejected": 0}, "rejected": {},
    }  # fmt: skip
    (student / "manifest.json").write_text(json.dumps(manifest))
    (student / "loss.json").write_text(json.dumps([{"step": i, "loss": 2.0 / i} for i in range(1, 9)]))
    write_evaluation(root)


def write_evaluation(root: Path) -> None:
    """data/evaluation: of four unseen prompts, two a family, the student passes h0 before training, h0 to h2 after."""
    passes = {"before": 1, "after": 3}
    prompts = [
        Prompt(id=f"h{i}", messages=[{"role": "user", "content": f"Use gnu{i}."}], family=FAMILIES[i % 2])
        for i in range(4)
    ]
    rate = {who: n / len(prompts) for who, n in passes.items()}
    figures = {
        "n_prompts": len(prompts), "verified_rate": rate, "difference": {"mean": 0.5, "low": 0.0, "high": 1.0},
        "by_family": {
            "one_keyword": {"n": 2, "before": 0.5, "after": 1.0}, "repeat": {"n": 2, "before": 0.0, "after": 0.5}
        },
    }  # fmt: skip
    manifest = {"stage": "evaluate_lm", "method": "by_row", "params": {}, "inputs": {}, "figures": figures}
    with DatasetWriter(root / "data" / "evaluation", Trace, manifest, tables={"verdicts": Verdict}) as writer:
        for i, prompt in enumerate(prompts):
            writer.read(len(passes))
            for who, n_passed in passes.items():
                id = f"{prompt.id}#0.{who.encode().hex()[:8]}"
                writer.write(Trace(id=id, prompt=prompt, completion=f"{who} {HOSTILE}", teacher=who))
                status = "pass" if i < n_passed else "fail"
                reason = None if status == "pass" else "keywords:existence"
                writer.add(
                    "verdicts",
                    Verdict(id=id, method="by_row", status=status, score=float(status == "pass"), reason=reason),
                )
