"""The real pipeline under real DVC in a checkout of its own, killed in every way.

Oracles: the bytes of an unbroken run, the process table, and the ledger's own count at the moment of the kill.
"""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Prompt
from tests.tiny_encoder import write_tiny_encoder
from tests.tiny_graphs import random_graphs, write_tu
from tests.tiny_model import write_tiny_model
from tests.waiting import wait_until

KEY = "sk-planted-5f0c2d9e7b1a"
STAGES = (
    "prompts", "prompts_heldout", "traces", "verify", "train_lm@student", "train_lm@distilled", "evaluate_lm",
    "narratives", "corpus", "label_quality", "train_encoder", "evaluate_encoder",
    "images", "images_validation", "images_test", "experts", "condense_images@trajectory_matching",
    "condense_images@difficulty_aligned", "train_image", "evaluate_images",
    "graphs", "graphs_validation", "graphs_test", "condense_graphs@mirage", "train_graph", "evaluate_graphs",
    "domains", "domains_held_out", "domain_weights", "mix", "extract", "match", "report",
)  # fmt: skip
OUTPUT = {
    "prompts": "data/prompts", "traces": "data/traces", "verify": "data/verified",
    "train_lm@student": "models/student",
}  # fmt: skip
N_PROMPTS, N_SAMPLES, CONCURRENCY = 120, 4, 8
N_NARRATIVES, N_CALLS = 40, 6
TOLD = [  # an answer to every step's question
    json.dumps({
        "actors": [{"name": "Fox", "description": "wants grapes"}], "utterances": [f"They hang {n} feet high!"],
        "neutral": [], "labels": [{"label": ("joy", "fear")[n % 2], "expressiveness": 0.5}],
        "context": "The vine is high.", "sentences": [], "utterance": f"It is {n} feet.",
    })
    for n in range(8)
]  # fmt: skip
CONDENSING = {
    "iterations": 3, "student_steps": 2, "expert_epochs": 1, "max_start_epoch": 1, "augmentation": "none",
    "n_threads": 1,
}  # fmt: skip
PARAMS = {
    "prompts": {"method": "user_rows"},
    "prompts_heldout": {"method": "user_rows"},
    "traces": {
        "method": "n_samples", "backend": "scripted", "samples_per_prompt": N_SAMPLES, "delay_s": 0.05,
        "answers": [f"The answer is {n}, said the fox." for n in range(8)],
    },
    "verify": {"method": "by_row"},
    "train_lm_student": {
        "student": "models/tiny", "objective": "supervised", "epochs": 2, "batch_size": 8, "max_tokens": 256,
        "max_rows_per_prompt": 1,
    },
    "train_lm_distilled": {
        "student": "models/tiny", "teacher": "models/tiny", "objective": "forward_kl", "epochs": 1, "max_tokens": 256,
        "max_rows_per_prompt": 1,
    },
    "evaluate_lm": {"method": "by_row", "before": "models/tiny", "max_new_tokens": 4},
    "narratives": {"method": "user_texts", "min_words": 1},
    "corpus": {
        "method": "emo_pillars", "backend": "scripted", "delay_s": 0.2, "answers": TOLD, "n_actors": 1,
        "n_utterances": 1, "n_neutral": 0, "max_cosine": 1.0, "n_measured": 0, "unknown_labels": "drop",
        "language": None,
    },
    "label_quality": {"taxonomy": "goemotions"},
    "train_encoder": {
        "model": "models/tiny_encoder", "labels": ["joy", "fear"], "max_tokens": 64, "epochs": 1, "n_threads": 1,
    },
    "evaluate_encoder": {"n_threads": 1},
    "images": {"method": "digits", "max_images": 200},
    "images_validation": {"method": "digits", "split": "validation", "max_images": 50},
    "images_test": {"method": "digits", "split": "test", "max_images": 50},
    "experts": {
        "method": "sgd", "net": "convnet1", "width": 8, "n_trajectories": 1, "epochs": 20, "learning_rate": 0.3,
        "batch_size": 32, "augmentation": "none", "n_threads": 1,
    },
    "condense_images_trajectory_matching": {**CONDENSING, "method": "trajectory_matching"},
    "condense_images_difficulty_aligned": {**CONDENSING, "method": "difficulty_aligned", "first_max_start_epoch": 1},
    "train_image": {"net": "convnet1", "width": 4, "n_steps": 3, "seeds": 2, "augmentation": "none", "n_threads": 1},
    "evaluate_images": {
        "nets": ["convnet1", "convnet1-batch", "mlp"], "width": 4, "coresets": ["at_random"],
        "regimes": ["hard", "soft"], "learning_rates": [0.01], "n_steps": 2, "whole_steps": 2, "multiples": [],
        "augmentation": "none", "n_threads": 1,
    },
    "graphs": {"method": "tu_folder", "split": "train"},
    "graphs_validation": {"method": "tu_folder", "split": "validation"},
    "graphs_test": {"method": "tu_folder", "split": "test"},
    "condense_graphs_mirage": {"method": "mirage", "layers": 1, "byte_budget": 200},
    "train_graph": {"net": "gin", "hidden": 4, "layers": 1, "seeds": 2, "epochs": 2, "n_threads": 1},
    "evaluate_graphs": {
        "nets": ["gin", "gcn"], "hidden": 4, "layers": 1, "coresets": ["at_random"], "learning_rates": [0.01],
        "seeds": 5, "n_steps": 2, "whole_steps": 2, "multiples": [], "n_threads": 1,
    },
    "domains": {"held_out_rows": 2, "tokenizer": "models/tiny"},
    "domains_held_out": {"held_out_rows": 2, "split": "held_out", "tokenizer": "models/tiny"},
    "domain_weights": {
        "mixture": "ddk", "mixture_every": 1, "student": "models/distilled", "teacher": "models/tiny",
        "objective": {"supervised": 1, "forward_kl": 0.2}, "steps": 2, "batch_size": 4, "max_tokens": 64,
        "n_threads": 1,
    },
    "mix": {"n_rows": 20, "tokenizer": "models/tiny"},
    "extract": {
        "backend": "scripted", "template_model": "models/student", "n_samples": 12,
        "answers": [f"What did the fox say on day {n}? It said {n * n}." for n in range(40)],
    },
    "match": {"embedder": "models/tiny_embedder", "false_match_rate": 0.05},
}  # fmt: skip


class Project:
    """A checkout of the pipeline with small params."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *targets: str) -> "subprocess.Popen[str]":
        """`dvc repro`, as the Makefile starts it."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "DATASTILL_"))}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1",
            "DATASTILL_CONCURRENCY": str(CONCURRENCY), "DATASTILL_CHECKPOINT_S": "0", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *targets],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def repro(self, *targets: str) -> str:
        """Run to the end; what it said."""
        process = self.start(*targets)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def processes(self, module: str = "") -> list[psutil.Process]:
        """Living processes that work in the checkout and have `module` in their command."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found += [process] if module in " ".join(process.cmdline()) else []
            except psutil.Error:
                continue
        return found

    def n_answers(self) -> int:
        """Answers in the ledger."""
        ledger = self.folder / ".cache" / "ledger.sqlite"
        if not ledger.exists():
            return 0
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
            try:
                (n,) = database.execute("SELECT count(*) FROM answers").fetchone()
            except sqlite3.OperationalError:
                return 0
        return n

    def has_begun(self, stage: str) -> bool:
        """Whether the stage is in the midst of its work."""
        if stage == "traces":
            return self.n_answers() >= N_PROMPTS * N_SAMPLES // 4
        if stage == "verify":
            return (self.folder / "data" / ".verified.writing").exists()
        return any((self.folder / ".cache" / "checkpoints").glob("*/step-*"))

    def hashes(self, outputs: Sequence[str]) -> dict[str, str]:
        """Every file of the outputs to its hash."""
        return {
            file.relative_to(self.folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for out in outputs
            for file in sorted((self.folder / out).rglob("*"))
            if file.is_file()
        }


@pytest.fixture(scope="module")
def projects(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Stage to the project just before it; `done` is the unbroken run."""
    folder = tmp_path_factory.mktemp("projects")
    project = Project(folder / "done")
    for name in ("datagen", "condense", "trainers"):
        shutil.copytree(root / name, project.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project.folder / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(root / name, project.folder / name)
    (project.folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (project.folder / "data").mkdir()
    with DatasetWriter(project.folder / "data" / "raw", Prompt, {}) as writer:
        for index in range(N_PROMPTS):
            writer.read()
            keywords = json.dumps({"keywords": [("fox", "owl")[index // 2 % 2]]})
            writer.write(
                Prompt(
                    id=f"p{index}",
                    messages=[{"role": "user", "content": f"Say {index}."}],
                    family=("answer", "word")[index % 2],
                    reference=None if index % 2 else str(index % 7),
                    constraints=[{"id": "keywords:existence", "kwargs": keywords}] if index % 2 else [],
                )
            )
    write_raw_texts(project.folder / "data" / "raw")
    write_tu(project.folder / "data" / "raw", random_graphs(60, 0), "molbace")
    write_tiny_model(project.folder / "models" / "tiny")
    write_tiny_encoder(project.folder / "models" / "tiny_encoder")
    embedder = write_tiny_encoder(project.folder / "models" / "tiny_embedder")
    (embedder / "1_Pooling").mkdir()
    (embedder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (embedder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64}))
    subprocess.run(["git", "init", "--quiet"], cwd=project.folder, check=True)
    before: dict[str, Project] = {}
    for stage in STAGES:
        before[stage] = project.copy(folder / f"before-{stage}")
        project.repro(stage)
    return before | {"done": project}


def write_raw_texts(raw: Path) -> None:
    """Narratives, texts with labels, and texts of two domains."""
    rows = {
        "narratives/narratives.jsonl": [
            {"id": f"n{i}", "text": f"A fox saw {i} grapes on a vine."} for i in range(N_NARRATIVES)
        ],
        "goemotions_labels/validation.jsonl": [
            {"text": "How high!", "labels": ["fear"]},
            {"text": "Ha!", "labels": ["joy"]},
        ],
        **{
            f"domains/{name}.jsonl": [
                {"id": str(i), "text": " ".join(f"{name} {i * i + n} was {n} days by the sea." for n in range(6))}
                for i in range(10)
            ]
            for name in ("fox", "owl")
        },
        "goemotions_labels/test.jsonl": [{"text": "So high!", "labels": ["fear"]}, {"text": "Hey!", "labels": ["joy"]}],
    }
    for name, content in rows.items():
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    (raw / "licences.yaml").write_text("sources: {made up: {licence: cc0-1.0, files: ['*/*.jsonl']}}\n")


@pytest.mark.parametrize("stage", ["traces", "verify", "train_lm@student"])
@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_a_killed_run_leaves_no_process_and_its_rerun_equals_an_unbroken_one(
    projects: dict[str, Project], tmp_path: Path, stage: str, victim: str
):
    """SIGKILL in the midst of the stage. No answer is bought twice, and every file of every output is the same."""
    project = projects[stage].copy(tmp_path / "project")
    target = "train_lm@student" if stage == "train_lm@student" else "verify"
    dvc = project.start(target)
    assert wait_until(lambda: project.has_begun(stage), timeout_s=120), dvc.communicate()
    (running,) = [p for p in project.processes(f".stages.{stage.partition('@')[0]}") if p.ppid() == dvc.pid]
    os.kill(dvc.pid if victim == "dvc" else running.pid, signal.SIGKILL)
    said, _ = dvc.communicate(timeout=60)
    assert dvc.returncode != 0
    assert wait_until(lambda: not project.processes(), timeout_s=20), project.processes()
    assert not (project.folder / OUTPUT[stage]).exists(), f"the stage had ended before the kill: {said}"

    n_answers = project.n_answers()
    project.repro(target)
    outputs = list(OUTPUT.values())[: list(OUTPUT).index(target) + 1]
    written = project.hashes(outputs)
    assert {f"{out}/manifest.json" for out in outputs} <= written.keys()
    assert written == projects["done"].hashes(outputs)
    if stage == "traces":
        facts = json.loads((project.folder / "metrics" / "traces.run.json").read_text())
        assert 0 < n_answers < N_PROMPTS * N_SAMPLES
        assert facts["requests"] == N_PROMPTS * N_SAMPLES - n_answers
        assert facts["ledger_hits"] == n_answers


@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_a_killed_corpus_goes_on_to_the_same_bytes(projects: dict[str, Project], tmp_path: Path, victim: str):
    """SIGKILL in the midst of its steps; the rerun asks for what the ledger lacks, and for nothing twice."""
    project = projects["corpus"].copy(tmp_path / "project")
    n_before = project.n_answers()
    dvc = project.start("corpus")
    has_begun = wait_until(lambda: project.n_answers() >= n_before + N_NARRATIVES * N_CALLS // 4, timeout_s=120)
    assert has_begun, dvc.communicate()
    (running,) = [p for p in project.processes(".stages.corpus") if p.ppid() == dvc.pid]
    os.kill(dvc.pid if victim == "dvc" else running.pid, signal.SIGKILL)
    dvc.communicate(timeout=60)
    assert wait_until(lambda: not project.processes(), timeout_s=20), project.processes()
    assert not (project.folder / "data" / "corpus").exists()

    n_answers = project.n_answers() - n_before
    project.repro("corpus")
    assert project.hashes(["data/corpus"]) == projects["done"].hashes(["data/corpus"])
    facts = json.loads((project.folder / "metrics" / "corpus.run.json").read_text())
    assert 0 < n_answers < N_NARRATIVES * N_CALLS
    assert (facts["requests"], facts["ledger_hits"]) == (N_NARRATIVES * N_CALLS - n_answers, n_answers)


def test_a_second_run_runs_nothing(projects: dict[str, Project]):
    """DVC's own word, for every stage."""
    said = projects["done"].repro()
    assert "Running stage" not in said
    assert all(f"Stage '{stage}' didn't change, skipping" in said for stage in STAGES)


def test_the_planted_key_is_nowhere(projects: dict[str, Project]):
    """Neither in outputs and their cache, nor in metrics, dvc.lock, the ledger or what DVC keeps."""
    files = [file for file in projects["done"].folder.rglob("*") if file.is_file() and not file.is_symlink()]
    names = {file.name for file in files}
    assert {"dvc.lock", "ledger.sqlite", "traces.run.json", "model.safetensors"} <= names
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
