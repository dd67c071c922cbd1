"""What the columns of a record mean, in the words of its class."""

import ast
import re
from functools import cache

from datagen.publish.papers import read_module

_RECORDS = ("datagen.contracts.records", "datagen.contracts.images", "datagen.contracts.graphs")
_ATTRIBUTE = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.+)$")


def column_meanings(record: str) -> dict[str, str]:
    """Column to what it holds, of a class of rows such as `Trace`; empty for one that is none."""
    classes = _classes()
    if record not in classes:
        return {}
    found: dict[str, str] = {}
    for field in (node for node in classes[record].body if isinstance(node, ast.AnnAssign)):
        if isinstance(field.annotation, ast.Name) and field.annotation.id in classes:
            inner = column_meanings(field.annotation.id)  # a row within the row: its columns are the row's
            within = ast.unparse(field.target)
            found |= inner | {f"{within}_id": f"id of the {within}."}
    return found | _attributes(ast.get_docstring(classes[record]) or "")


def _attributes(docstring: str) -> dict[str, str]:
    lines = docstring.partition("Attributes:\n")[2].partition("\n\n")[0].splitlines()
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        text = line.strip()
        matched = _ATTRIBUTE.match(text) if len(line) - len(text) <= 4 else None
        if matched:
            names, text = matched["names"].split(", "), matched["text"]
        for name in names:
            found[name] = f"{found[name]} {text}" if name in found and not matched else text
    return found


@cache
def _classes() -> dict[str, ast.ClassDef]:
    trees = (ast.parse(read_module(module)) for module in _RECORDS)
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
