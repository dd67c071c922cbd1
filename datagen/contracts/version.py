"""The version of datastill as a parameter, for projects that have no code files of ours to depend on.

A params file may hold

    datastill:
      version: 0.1.0

which each stage of such a project's dvc.yaml lists among its params. `datastill init --upgrade` writes the installed
version there, so `dvc repro` runs everything again; until then a stage refuses, and no version's rows are taken for
another's. What teachers answered is in the ledger and is not asked again.
"""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

SECTION = "datastill"


def installed_version() -> str:
    """Of the distribution, such as 0.1.0."""
    return importlib.metadata.version("datastill")


def version_problems(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with that section, as `check_section` says it."""
    if list(content) != ["version"]:
        return [f"{SECTION}: expected `version` alone (got {', '.join(content) or 'nothing'})"]
    if str(content["version"]) != installed_version():
        return [
            f"{SECTION}.version: the project is of another version than {installed_version()}, which is installed; "
            f"`datastill init --upgrade` writes that, and `dvc repro` runs what it must (got {content['version']})"
        ]
    return []
