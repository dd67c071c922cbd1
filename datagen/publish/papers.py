"""Which methods made a dataset, and the papers that their modules name, as BibTeX.

A module's docstring says what it is from by arXiv numbers; papers.csv has the titles and authors of those. Modules are
found by folder and read as text: none is imported.
"""

import ast
import csv
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from datagen.contracts.stage import find_methods, find_stages
from datagen.listing import find_families

_FAMILY_OF = {  # a parameter whose value is a method of one family, whatever the stage
    "backend": ("datagen.backends",),
    "mixture": ("datagen.mixture",),
    "net": ("condense.nets", "trainers.graph_nets"),
    "objective": ("trainers.objectives",),
}
_WITHOUT_FUNCTION = "datagen.extraction."  # modules there are methods, though none has a function of its name
_ADAPTERS = {"lora": "trainers.lora"}
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One of arXiv's; authors and title are empty where papers.csv lacks it."""

    arxiv: str
    authors: str = ""
    title: str = ""

    @property
    def url(self) -> str:
        """Of its abstract."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def year(self) -> int:
        """In which it came to arXiv."""
        return 2000 + int(self.arxiv[:2])

    @property
    def bibtex(self) -> str:
        """An entry of its own; authors by family name."""
        title = self.title.replace("&", r"\&")
        fields = {
            "author": self.authors, "title": f"{{{title}}}" if title else "", "year": str(self.year),
            "eprint": self.arxiv, "archivePrefix": "arXiv", "url": self.url,
        }  # fmt: skip
        name = re.sub(r"\W", "", self.authors.partition(" and ")[0]).lower() or "arxiv"
        lines = [f"  {key} = {{{value}}}," for key, value in fields.items() if value]
        return "\n".join([f"@misc{{{name}{self.arxiv.replace('.', '_')},", *lines, "}"])


def modules_of(stage: str, params: Mapping[str, Any], more: Iterable[str] = ()) -> list[str]:
    """Modules whose methods made a dataset: the stage's, those that its parameters name, and those it always uses.

    Args:
        stage: name of the stage; one that this version lacks has none.
        params: of its manifest.
        more: verifiers that judged its rows, by name.
    """
    module = find_stages().get(stage)
    if not module:
        return []
    source = read_module(module)
    methods = _methods()
    named = [family for family in _families() if re.search(rf"\b{re.escape(family)}\b", source)]
    found = [module]
    for key, value in _strings(params):
        families = _FAMILY_OF.get(key, named)
        names = (value, value.rstrip("0123456789")) if key == "net" else (value,)
        found += [f"{family}.{name}" for family in families for name in names if f"{family}.{name}" in methods]
        found += [_ADAPTERS[value]] if key == "adapter" and value in _ADAPTERS else []
    found += [
        one for one in _imports(source) if one in methods or (one.startswith(_WITHOUT_FUNCTION) and read_module(one))
    ]
    found += [f"datagen.verify.{name}" for name in more if f"datagen.verify.{name}" in methods]
    return list(dict.fromkeys(found))


def papers_of(modules: Iterable[str]) -> list[Paper]:
    """What their docstrings name, each once, in the order of arXiv's numbers."""
    numbers = {number for one in modules for number in _ARXIV.findall(_docstring(one))}
    return [known_papers().get(number, Paper(arxiv=number)) for number in sorted(numbers)]


@cache
def known_papers() -> dict[str, Paper]:
    """papers.csv, by arXiv's number."""
    text = (resources.files("datagen.publish") / "papers.csv").read_text(encoding="utf-8")
    return {row["arxiv"]: Paper(**row) for row in csv.DictReader(text.splitlines())}


def read_module(name: str) -> str:
    """Source of a module of ours, which is not imported; empty where there is none."""
    package, *names = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return ""
    path = Path(spec.submodule_search_locations[0], *names)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _docstring(module: str) -> str:
    return ast.get_docstring(ast.parse(read_module(module))) or ""


def _imports(source: str) -> Iterator[str]:
    """Modules that a source imports, at any place in it; a name that it takes from a package may be one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _strings(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each text in params with the name of its parameter; keys of a mapping, and what lists hold, are texts too."""
    for key, value in params.items():
        several: Sequence[Any] = (
            value if isinstance(value, list) else list(value) if isinstance(value, dict) else [value]
        )
        yield from ((key, one) for one in several if isinstance(one, str))
        if isinstance(value, dict):
            yield from _strings(value)


@cache
def _families() -> list[str]:
    return find_families()


@cache
def _methods() -> set[str]:
    return {f"{family}.{name}" for family in _families() for name in find_methods(family)}
