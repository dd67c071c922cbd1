"""A project of stages that ran, and what its cards are made with."""

import json
import os
from pathlib import Path

from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.stage import load_stage, main
from datagen.publish.gates import Checked
from datagen.publish.licences import Resolved, Source

PRICES = ("price_per_million_prompt_tokens=2", "price_per_million_completion_tokens=8")
URL = "https://huggingface.co/datasets/org/colours"


def run(stage: str, *arguments: str) -> None:
    assert main(load_stage(stage), list(arguments)) == 0


def make_project(root: Path) -> Path:
    """raw/questions.jsonl, and data/prompts, data/traces, data/verified of it, by stages and a teacher with a script.

    Ten questions, two attempts each; an attempt says `red` or `blue`, by the hash of its request, and `red` is right.
    """
    here = Path.cwd()
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    try:
        Path("raw").mkdir()
        rows = [{"id": f"q{i}", "prompt": f"What colour has thing {i}?", "reference": "red"} for i in range(10)]
        Path("raw/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run("prompts", "--raw", "raw/questions.jsonl", "--out", "data/prompts", "--set", "method=user_rows")
        traces = ("backend=scripted", "answers=[red,blue]", "samples_per_prompt=2", *PRICES)
        run("traces", "--prompts", "data/prompts", "--out", "data/traces", "--set", *traces)
        run("verify", "--traces", "data/traces", "--out", "data/verified", "--set", "method=short_answer")
    finally:
        os.chdir(here)
    return root


def add_student(root: Path, name: str = "student", *, seed: int = 0) -> Path:
    """models/NAME, as if trained on data/verified, and data/evaluation_NAME, which found 3 of 4 prompts right."""
    student = root / "models" / name
    write_json(
        student / "manifest.json",
        {
            "format": "datastill", "stage": "train_lm",
            "params": {"objective": "supervised", "learning_rate": 1e-4, "seed": seed},
            "base": {"name": "smollm2-135m-instruct", "revision": "b17", "licence": "apache-2.0"}, "files": {},
            "inputs": {"data": content_hash(root / "data" / "verified")}, "n_steps": 42, "loss_last_epoch": 0.5,
            "rows": {"in": 9, "out": 8, "rejected": 1}, "rejected": {"too_long": 1},
        },
    )  # fmt: skip
    figures = {
        "n_prompts": 4, "verified_rate": {"after": 0.75, "before": 0.25},
        "difference": {"mean": 0.5, "low": 0.1, "high": 0.9},
        "by_family": {"easy": {"n": 2, "before": 0.5, "after": 1.0}, "hard": {"n": 2, "before": 0.5, "after": 0.0}},
    }  # fmt: skip
    write_json(
        root / "data" / f"evaluation_{name}" / "manifest.json",
        {
            "format": "datastill", "stage": "evaluate_lm", "params": {}, "figures": figures, "files": {},
            "models": {"after": {"model": name, "revision": content_hash(student), "backend": "local"}},
            "inputs": {"model": content_hash(student), "data": content_hash(root / "data" / "prompts")},
            "rows": {"in": 8, "out": 8, "rejected": 0}, "rejected": {},
        },
    )  # fmt: skip
    return student


def checked(**allowed: str) -> Checked:
    """All gates passed, but for those that were overridden, with what they said."""
    gates = ("lock", "schema", "decontamination", "duplicates", "personal_data", "licence")
    teacher = Source(name="scripted", kind="teacher", licence="apache-2.0", title="a script", url="", notice="")
    data = Source(
        name="questions.jsonl", kind="data", licence="cc-by-4.0", notice="Copyright (c) 2026 | A. B.", stated=True
    )
    resolved = Resolved(
        licence="cc-by-4.0",
        name="cc-by-4.0",
        url="https://creativecommons.org/licenses/by/4.0/",
        sources=(teacher, data),
        refused=None,
    )
    passed = {gate: f"{gate}: nothing was found" for gate in gates if gate not in allowed}
    return Checked(refused={}, allowed=allowed, passed=passed, resolved=resolved)
