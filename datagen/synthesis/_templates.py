"""Prompts as files: the packaged ones of a method, and what a user puts in their place."""

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from datagen.backends.fence import fence_code, fenced
from datagen.contracts.errors import ParamsError


class Templates:
    """A method's prompts by name; a `$name` in one stands for a value. `revision` changes with any of them."""

    def __init__(self, method: str, own: Path | None = None) -> None:
        """Those in templates/`method`, each of which a file of its name in the folder `own` replaces.

        Raises:
            ParamsError: `own` holds none, or one that the method does not ask by.
        """
        packaged = resources.files("datagen.synthesis") / "templates" / method
        texts = {Path(one.name).stem: one.read_text(encoding="utf-8") for one in packaged.iterdir()}
        if own is not None:
            given = {file.stem: file.read_text(encoding="utf-8") for file in sorted(own.glob("*.txt"))}
            unknown = sorted(given.keys() - texts.keys())
            if unknown or not given:
                wrong = f"{unknown[0]}.txt is none of them" if unknown else "it holds none"
                there = ", ".join(f"{one}.txt" for one in sorted(texts))
                raise ParamsError(f"templates: {own}: {wrong}; there are {there}")
            for name, text in given.items():
                wanted, known = set(Template(text).get_identifiers()), set(Template(texts[name]).get_identifiers())
                if not Template(text).is_valid() or wanted - known:
                    wrong = ", ".join(f"${one}" for one in sorted(wanted - known)) or "a $ without a name"
                    values = ", ".join(f"${one}" for one in sorted(known))
                    raise ParamsError(f"templates: {own / name}.txt: holds {wrong}; there are {values}, and $$ for $")
            texts |= given
        self._templates = {name: Template(text) for name, text in texts.items()}
        self.revision = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]

    def __getitem__(self, name: str) -> Template:
        """The template of that name."""
        return self._templates[name]

    def ask(self, name: str, material: Mapping[str, str], **values: object) -> list[Any]:
        """One message of a user: the template, filled.

        Args:
            name: of the template.
            material: texts that somebody else wrote, each of which gets a fence that nothing in it can close.
            values: what stands in the question itself.
        """
        code = fence_code(list(material.values()))
        fences = {key: fenced(key.upper(), text, code) for key, text in material.items()}
        return [{"role": "user", "content": self._templates[name].substitute(values, **fences).strip()}]
