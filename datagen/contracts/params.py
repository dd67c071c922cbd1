"""Parameters: frozen pydantic models that refuse unknown keys and report every problem of a file at once.

A section of params.yaml is flat. A stage validates it against several models at a time (its own, its method's, its
backend's), each of which takes the keys it declares; a key that none of them declares is an error.
"""

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, cast

import yaml

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for some reads every package's metadata

from pydantic import BaseModel, ConfigDict, ValidationError

from datagen.contracts.errors import ParamsError


class Params(BaseModel):
    """Base of every Config: frozen; unknown keys, NaN and infinity refused.

    `Field(json_schema_extra={"connection": True})` marks what says how a server is reached, such as its address and the
    time limits: it changes no row, so no manifest holds it. `{"unless_default": True}` marks what came later than
    manifests that must not change: only another value than the default is in them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


C = TypeVar("C", bound=Params)


class Parts:
    """A validated section: `parts[Config]` is the Config that the section holds."""

    def __init__(self, configs: Iterable[Params]) -> None:
        """Keep one instance a type."""
        self._by_type = {type(config): config for config in configs}

    def __getitem__(self, config: type[C]) -> C:
        """The instance of `config`."""
        found = self._by_type[config]
        assert isinstance(found, config)
        return found

    def values(self, *, connection: bool = False) -> dict[str, Any]:
        """Every parameter with its value, as the manifest keeps them; see `Params` for those that it does not.

        With `connection` those are there that say how a server is reached, for whoever goes on with the section.
        """
        merged: dict[str, Any] = {}
        for kind, config in self._by_type.items():
            left_out = {
                name
                for name, one in kind.model_fields.items()
                if (one.json_schema_extra == {"connection": True} and not connection)
                or (one.json_schema_extra == {"unless_default": True} and getattr(config, name) == one.default)
            }
            merged |= config.model_dump(mode="json", exclude=left_out)
        return dict(sorted(merged.items()))


def validate(section: Mapping[str, Any], *configs: type[Params]) -> Parts:
    """Validate one flat section against several models.

    Raises:
        ParamsError: with one line a problem, `KEY: what is wrong (got VALUE)`; the stage runner puts file and section
            before each.
    """
    declared = {name for config in configs for name in config.model_fields}
    problems = [f"{key}: unknown parameter{_nearest(key, declared)}" for key in section if key not in declared]
    valid: list[Params] = []
    for config in configs:
        mine = {key: value for key, value in section.items() if key in config.model_fields}
        try:
            valid.append(config.model_validate(mine))
        except ValidationError as error:
            problems += [_problem(one) for one in error.errors()]
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    return Parts(valid)


def load_file(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a params file.

    Raises:
        ParamsError: no such file, not YAML, or not a mapping of sections.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}; name a params file with --params, or leave it out") from None
    except (yaml.YAMLError, ValueError) as error:  # YAML's own types too: 2024-99-99 is no date
        raise ParamsError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not _is_section(content):
        raise ParamsError(f"{path}: expected sections, each a name and a mapping of parameter to value")
    if wrong := [name for name, section in content.items() if not _is_section(section)]:
        raise ParamsError("\n".join(f"{path}: {name}: expected a mapping of parameter to value" for name in wrong))
    return content


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`key=value` pairs of the command line; values are read as YAML, so `8`, `0.7`, `true` and `null` are typed.

    A value that YAML cannot read is a text.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ParamsError(f"--set {assignment}: expected key=value")
        try:
            values[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            values[key] = value
    return values


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def _is_section(content: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(content, dict) and all(isinstance(key, str) for key in cast(dict[object, object], content))


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{place}: required, and not given"
    if error["type"] == "secret":  # a model's own error type for a value that must not be shown
        return f"{place}: {error['msg']}"
    got = json.dumps(error["input"], default=str, ensure_ascii=False)
    return f"{place}: {error['msg']} (got {got if len(got) <= 80 else got[:77] + '...'})"
