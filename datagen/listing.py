"""`datastill list`: the stages with what they do and take, and the methods of each family, all found by folder."""

import argparse
import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datagen.contracts.stage import PACKAGES, find_methods, find_stages, load_stage


def main(argv: Sequence[str]) -> int:
    """Print both tables."""
    argparse.ArgumentParser(prog="datastill list", description=__doc__).parse_args(argv)
    console = Console(highlight=False)
    stages = Table("stage", "what it does", "inputs", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, module in find_stages().items():
        stage = load_stage(name)
        inputs = [f"--{one}" for one in stage.inputs] + [f"[--{one}]" for one in stage.optional_inputs]
        stages.add_row(f"[bold cyan]{name}[/]", summary(module), " ".join(inputs).replace("_", "-").replace("[", r"\["))
    console.print(stages)
    methods = Table("method", "what it does", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for family in find_families():
        methods.add_row(f"\n[bold]{family}[/]", f"\n[dim]{summary(family)}[/]")
        for name in find_methods(family):
            methods.add_row(f"  [bold cyan]{name}[/]", summary(f"{family}.{name}"))
    console.print(methods)
    return 0


def find_families() -> list[str]:
    """Packages whose modules are methods, at any depth: `datagen.backends`, `trainers.methods.graph`, ..."""
    packages = (
        ".".join(init.parent.relative_to(Path(root).parent).parts)
        for package in PACKAGES
        if (spec := importlib.util.find_spec(package))
        for root in spec.submodule_search_locations or ()
        for init in sorted(Path(root).glob("*/**/__init__.py"))
        if init.parent.name not in ("contracts", "stages")
    )
    return [name for name in packages if find_methods(name)]


def summary(module: str) -> str:
    """The first line of a module's docstring, found by folder: neither it nor its packages are imported."""
    package, *names = module.split(".")
    spec = importlib.util.find_spec(package)
    assert spec and spec.submodule_search_locations, module
    path = Path(spec.submodule_search_locations[0], *names)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
