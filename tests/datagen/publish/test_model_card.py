"""The card of a student; oracle: huggingface_hub reads its evaluations back, and a student whose figures are known."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import ModelCard

from datagen.contracts.dataset import content_hash, write_json
from datagen.publish.history import read_history
from datagen.publish.layout import Layout
from datagen.publish.model_card import hub_name, results_of, student_card
from datagen.publish.weights import lay_out_student
from tests.datagen.publish.projects import add_student, checked, make_project
from tests.hub_server import HubServer


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    root = make_project(tmp_path / "project")
    (root / "dvc.yaml").write_text("stages: {}\n")
    return root


def carded(student: Path, folder: Path, **allowed: str) -> tuple[Layout, str]:
    folder.mkdir()
    layout = lay_out_student(student, folder)
    text = student_card(layout, read_history(student), checked(**allowed), repo="org/colours-student")
    (folder / "README.md").write_text(text)
    return layout, text


def test_the_hub_reads_its_evaluation(project: Path, tmp_path: Path):
    """3 of 4 prompts after training, 1 of 4 before."""
    layout, _ = carded(add_student(project), tmp_path / "folder")
    data: Any = ModelCard.load(layout.folder / "README.md").data
    assert data.eval_results is not None
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.task_type) == ("accuracy", 0.75, "text-generation")
    assert (result.dataset_name, result.dataset_split) == ("data/prompts", "test")
    assert result.dataset_revision == content_hash(project / "data" / "prompts")
    assert data.model_name == "colours-student"
    assert (data.base_model, data.to_dict()["base_model_relation"]) == (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "finetune",
    )
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "text-generation", "cc-by-4.0")
    assert data.tags == ["datastill", "distillation"]


def test_the_hub_validates_it(project: Path, tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    layout, _ = carded(add_student(project), tmp_path / "folder")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    ModelCard.load(layout.folder / "README.md").validate(repo_type="model")
    assert hub.asked["validate-yaml"] == 1


def test_it_tells_its_lineage_and_where_it_got_worse(project: Path, tmp_path: Path):
    _, text = carded(add_student(project), tmp_path / "folder", duplicates="2 rows are equal")
    assert "on 8 rows of `data/verified`. What it learned is from `scripted`." in text
    assert (
        "| share of answers that pass their verifier | 0.7500 |  | 0.2500 | `data/prompts` | 4 | `evaluate_lm` |"
        in text
    )
    assert "+0.5000 (+0.1000 to +0.9000), 95 % by a bootstrap" in text
    assert "- On `hard` it is worse than before training (0.0000, 0.5000 before)." in text and "On `easy`" not in text
    assert re.findall(r"^\d\. \*\*(\w+)\*\*", text, re.MULTILINE) == ["prompts", "traces", "verify", "train_lm"]
    assert "| steps | 42 |" in text and "| learning rate | 0.0001 |" in text and "| objective | supervised |" in text
    assert "Published over a failed check" in text and "arXiv" in text and "1606.07947" in text
    assert str(project) not in text


def test_a_student_that_nobody_evaluated_says_so(project: Path, tmp_path: Path):
    student = add_student(project)
    (project / "data" / "evaluation_student" / "manifest.json").unlink()
    _, text = carded(student, tmp_path / "folder")
    assert "model-index" not in text and "Nobody has evaluated it" in text


def test_a_student_with_fewer_layers_is_no_finetune_of_its_base(project: Path, tmp_path: Path):
    student = add_student(project)
    manifest = json.loads((student / "manifest.json").read_text())
    manifest["params"] |= {"student_layers": 8}
    write_json(student / "manifest.json", manifest)
    _, text = carded(student, tmp_path / "folder")
    assert "base_model: HuggingFaceTB" in text and "base_model_relation" not in text


@pytest.mark.parametrize("stage", ["train_lm", "train_encoder", "train_image"])
def test_its_lines_of_code_are_python_that_names_the_repository(project: Path, tmp_path: Path, stage: str):
    student = add_student(project)
    manifest = json.loads((student / "manifest.json").read_text())
    write_json(student / "manifest.json", manifest | {"stage": stage})
    _, text = carded(student, tmp_path / "folder")
    (code,) = re.findall(r"## Use it\n\n```python\n(.*?)```", text, re.DOTALL)
    names = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert "org/colours-student" in names


def test_image_students_are_judged_on_the_test_split_that_they_were_given(project: Path):
    student = project / "models" / "images"
    write_json(
        student / "manifest.json",
        {
            "format": "datastill", "stage": "train_image", "params": {"net": "mlp"}, "files": {},
            "inputs": {"test": "ab"},
            "accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6}, "auc": {"mean": 0.7}, "n_test_images": 360,
        },
    )  # fmt: skip
    found = [(one.metric, one.value, one.low, one.high, one.data, one.n) for one in results_of(read_history(student))]
    assert found == [("accuracy", 0.5, 0.4, 0.6, "test", 360), ("roc_auc", 0.7, None, None, "test", 360)]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("models/student", ""), ("/home/me/model", ""), ("gpt-x", ""), ("./mine/model", ""),
    ],
)  # fmt: skip
def test_models_have_the_hub_s_names_or_none(name: str, wanted: str):
    assert hub_name(name) == wanted


def test_a_folder_of_the_project_is_no_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the project's root, and from the working folder; where it is gone nothing tells."""
    (tmp_path / "checkpoints" / "mine").mkdir(parents=True)
    assert hub_name("checkpoints/mine", tmp_path) == ""
    assert hub_name("checkpoints/mine") == "checkpoints/mine"
    monkeypatch.chdir(tmp_path)
    assert hub_name("checkpoints/mine") == ""
