"""Oracles: the import graph that grimp reads from the source, and the modules that a stage's own `parse` loads."""

import ast
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grimp
import pytest
import yaml
from dvc.repo import Repo

from datagen.contracts.params import load_file
from datagen.contracts.stage import check_sections, find_stages

ROOT = Path(__file__).parents[1]


def pairs(foreach: list[str] | dict[str, str]) -> list[tuple[str, str]]:
    """Key and item, of a list its item twice."""
    return list(foreach.items()) if isinstance(foreach, dict) else [(item, item) for item in foreach]


WRITTEN: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# By the name that DVC gives: one of a `foreach` is STAGE@ITEM.
STAGES: dict[str, Any] = {
    f"{name}@{key}" if key else name: json.loads(
        json.dumps(one.get("do", one)).replace("${item}", item).replace("${key}", key)
    )
    for name, one in WRITTEN.items()
    for key, item in pairs(one.get("foreach", [""]))
}
PROFILES = ("params.yaml", "params.full.yaml")
UNCONDITIONAL = {  # one method's data or helper: `deps` know no condition
    "condense/experts/_penalty.py", "condense/experts/_sharpness.py", "condense/images/_aligned.py",
    "condense/sources/_split.py", "datagen/prompts/wordings.json", "trainers/teachers/online.py",
}  # fmt: skip

# Prints the modules of ours that are loaded once the stage has parsed its section.
LOADED = """
import importlib, json, sys
module, section = sys.argv[1], json.loads(sys.argv[2])
importlib.import_module(module).STAGE.parse(section)
print(json.dumps([name for name in sys.modules if name.split(".")[0] in ("datagen", "condense", "trainers")]))
"""


@cache
def dependencies(profile: str) -> dict[str, set[str]]:
    """Stage to paths, as DVC resolves them where `profile` is params.yaml."""
    with TemporaryDirectory() as folder:
        shutil.copy(ROOT / "dvc.yaml", folder)
        shutil.copy(ROOT / profile, Path(folder) / "params.yaml")
        with Repo.init(folder, no_scm=True) as repo:
            stages = repo.stage.load_all(str(Path(folder) / "dvc.yaml"))
            return {stage.addressing.rpartition(":")[2]: {str(dep.def_path) for dep in stage.deps} for stage in stages}


def words(stage: str) -> list[str]:
    return str(STAGES[stage]["cmd"]).split()


def argument(stage: str, name: str, default: str = "") -> str:
    command = words(stage)
    return command[command.index(name) + 1] if name in command else default


@cache
def imported(stage: str, profile: str) -> set[str]:
    """Files of ours that a stage's module, and the method modules that its params name, import or read."""
    module = argument(stage, "-m")
    return files_of(module, load_file(ROOT / profile).get(argument(stage, "--section", module.rpartition(".")[2]), {}))


def files_of(module: str, section: dict[str, Any]) -> set[str]:
    """Files of ours, relative to the root, that a stage's module imports or reads with these params."""
    printed = subprocess.run(
        [sys.executable, "-c", LOADED, module, json.dumps(section)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    roots = set(json.loads(printed))
    if "objective" in section:  # needs torch, so no `parse` loads it
        named = section["objective"]
        roots |= {f"trainers.objectives.{name}" for name in ([named] if isinstance(named, str) else named)}
    graph = grimp.build_graph("datagen", "condense", "trainers")
    names = roots.union(*map(graph.find_upstream_modules, roots))
    files = {ROOT / name.replace(".", "/") / "__init__.py" for name in names} | {
        (ROOT / name.replace(".", "/")).with_suffix(".py") for name in names
    }
    code = {file for file in files if file.exists() and not is_docstring_alone(file)}
    data = {
        beside for file in code for beside in file.parent.iterdir()
        if beside.suffix in {".json", ".css", ".html", ".js"} and beside.name in file.read_text()
    }  # fmt: skip
    return {file.relative_to(ROOT).as_posix() for file in code | data}


def is_docstring_alone(file: Path) -> bool:
    """A package's `__init__.py` that says what it is and does nothing."""
    return file.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_imports(stage: str, profile: str):
    """DVC does not follow imports: a file outside `deps` could change and nothing would run."""
    deps = dependencies(profile)[stage]
    files = imported(stage, profile)
    assert not {file for file in files if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_import(stage: str, profile: str):
    """Else a change there would buy every answer and train every student again."""
    files = imported(stage, profile)
    code = {
        dep
        for dep in dependencies(profile)[stage]
        if dep.endswith(".py") or dep.split("/")[0] in ("datagen", "condense", "trainers")
    } - UNCONDITIONAL
    assert not {dep for dep in code if not any(file == dep or file.startswith(f"{dep}/") for file in files)}


@pytest.mark.parametrize("stage", STAGES)
def test_names_are_one(stage: str):
    """Stage, module and section bear one name; every path of the command is declared, and params are the section's."""
    module = argument(stage, "-m")
    assert find_stages()[module.rpartition(".")[2]] == module
    section = argument(stage, "--section", module.rpartition(".")[2])
    assert stage.replace("@", "_") == section and STAGES[stage].get("params", [section]) == [section]
    assert ("--params params.yaml" in STAGES[stage]["cmd"]) == ("params" in STAGES[stage])
    metrics = [path for one in STAGES[stage].get("metrics", []) for path in one]
    declared = {*STAGES[stage]["deps"], *STAGES[stage]["outs"], *metrics}
    given = {word for option, word in zip(words(stage), words(stage)[1:], strict=False) if option.startswith("--")}
    undeclared = given - declared - {"params.yaml", section}
    assert undeclared <= {"metrics"}  # the report shows times where they were measured, and depends on none


def test_no_machine_fact_in_a_command():
    """They land in dvc.lock, and would make another machine run everything again."""
    for stage in STAGES.values():
        assert not {"--concurrency", "--device", "--workers"} & set(str(stage["cmd"]).split())
        assert str(stage["cmd"]).startswith("python -m ")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_valid(profile: str):
    assert check_sections(load_file(ROOT / profile)) == []


def test_the_profiles_are_in_step():
    """The same sections; a key of one is in the other, unless it belongs to a method or backend of the one alone."""
    mine, full = (load_file(ROOT / profile) for profile in PROFILES)
    assert list(mine) == list(full)
    for section in mine:
        for given, other in ((mine[section], full[section]), (full[section], mine[section])):
            for key in given.keys() - other.keys():
                problems = check_sections({section: other | {key: given[key]}})
                assert any(f"{section}.{key}: unknown parameter" in problem for problem in problems), (section, key)


def test_the_sections_are_those_of_the_pipeline():
    sections = [stage.replace("@", "_") for stage in STAGES if "params" in STAGES[stage]]
    assert list(load_file(ROOT / "params.yaml")) == sections
