"""pipelines/teachers, apart from the main pipeline; oracles: DVC's own reading, the imports that grimp finds."""

import os
import posixpath
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dvc.repo import Repo

from datagen.contracts.params import load_file
from datagen.contracts.stage import check_sections
from tests.test_dvc import UNCONDITIONAL, files_of

ROOT = Path(__file__).parents[1]
FOLDER = Path("pipelines/teachers")
PARAMS = ROOT / FOLDER / "params.yaml"


@cache
def stages() -> dict[str, tuple[list[str], set[str], set[str]]]:
    """Stage to the words of its command, its dependencies and its outputs, as DVC resolves them."""
    with TemporaryDirectory() as root:
        shutil.copytree(ROOT / FOLDER, Path(root) / FOLDER, ignore=shutil.ignore_patterns("data", "metrics"))
        with Repo.init(root, no_scm=True) as repo:
            return {
                stage.addressing.rpartition(":")[2]: (
                    str(stage.cmd).split(),
                    {str(dep.def_path) for dep in stage.deps},
                    {str(out.def_path) for out in stage.outs},
                )
                for stage in repo.stage.load_all(os.path.join(root, FOLDER, "dvc.yaml"))
            }


def argument(words: list[str], name: str, default: str) -> str:
    return words[words.index(name) + 1] if name in words else default


def test_every_teacher_is_asked_judged_and_compared():
    """Each name among the teachers has its own section, and the comparison reads the folders that they are in."""
    names = {"cool", "warm", "student"}
    assert {name.partition("@")[2] for name in stages() if name.startswith("verify@")} == names
    for name in names:
        traced = next(one for one in stages().values() if f"data/traces/{name}" in one[2])
        assert argument(traced[0], "--section", "") == f"traces_{name}"
        assert f"data/traces/{name}" in stages()[f"verify@{name}"][1]
    assert {"data/traces", "data/verified"} <= stages()["compare_teachers"][1]


def test_the_student_is_the_main_pipeline_s():
    assert "../../models/student" in stages()["traces_student"][1]
    assert load_file(PARAMS)["traces_student"]["model"] == "../../models/student"


@pytest.mark.parametrize(
    "stage", ["prompts", "traces@cool", "traces@warm", "traces_student", "verify@cool", "compare_teachers"]
)
def test_a_stage_depends_on_the_code_that_it_imports_and_on_no_other(stage: str):
    words, deps, _ = stages()[stage]
    module = argument(words, "-m", "")
    files = files_of(module, load_file(PARAMS)[argument(words, "--section", module.rpartition(".")[2])])
    ours = {posixpath.normpath(posixpath.join(FOLDER.as_posix(), dep)) for dep in deps}
    assert not {file for file in files if not any(file == dep or file.startswith(f"{dep}/") for dep in ours)}
    code = {dep for dep in ours if dep.split("/")[0] in ("datagen", "condense", "trainers")} - UNCONDITIONAL
    assert not {dep for dep in code if not any(file == dep or file.startswith(f"{dep}/") for file in files)}


def test_the_params_are_valid():
    assert check_sections(load_file(PARAMS)) == []
