"""Names of licences: as the Hub writes them, from what people write, licences' own texts and cards of the Hub.

Source: https://huggingface.co/docs/hub/repositories-licenses and https://spdx.org/licenses; "public-domain" and
"psf-2.0" are ours, since the Hub has no name for them.
"""

import re
from pathlib import Path
from typing import Any, cast

import yaml

UNKNOWN = "unknown"
_SAYS_NOTHING = ("", "unknown", "other", "cc", "not-stated")
_ALIASES = {"public-domain": r"public-domain|pd", "psf-2.0": r"(psf|python)-?(2\.0)?(-license)?"} | {
    "apache-2.0": r"apache(-software)?(-license)?,?-?(version-)?2(\.0)?", "mit": r"(the-)?mit(-license)?|expat",
    "bsd-3-clause": r"bsd-3(-clause)?|(new|modified)-bsd", "bsd-2-clause": r"bsd-2(-clause)?|simplified-bsd",
    "cc0-1.0": r"cc-?0(-1\.0)?", "odc-by": r"odc-by(-1\.0)?", "odbl": r"odbl(-1\.0)?", "pddl": r"pddl(-1\.0)?",
}  # fmt: skip
_TEXTS = (
    ("apache-2.0", r"apache license,? version 2\.0"),
    ("mit", r"permission is hereby granted, free of charge, to any person obtaining a copy of this software.*"
            r"the above copyright notice and this permission notice"),
    ("bsd-3-clause", r"redistribution and use in source and binary forms.*neither the name"),
    ("bsd-2-clause", r"redistribution and use in source and binary forms"),
    ("psf-2.0", r"python software foundation license version 2"),
    ("cc0-1.0", r"cc0 1\.0 universal"),
    ("unlicense", r"this is free and unencumbered software released into the public domain"),
    ("agpl-3.0", r"gnu affero general public license version 3"),
    ("lgpl-3.0", r"gnu lesser general public license version 3"),
    ("gpl-3.0", r"gnu general public license version 3"),
    ("gpl-2.0", r"gnu general public license version 2"),
    ("odbl", r"open database licen[cs]e"),
    ("odc-by", r"open data commons attribution licen[cs]e"),
    ("gemma", r"gemma terms of use"),
)  # fmt: skip
_N_HEAD = 3000  # letters in which a text says what it is: Python's begins with a history of 2458
_TAKES_BACK = re.compile(r"commons clause|advertising materials|attribution-noncommercial|no-?deriv|\bcc by-n[cd]")
_ONLY = re.compile(r"non-?commercial")
_SPEAKS_OF_IT = ("unlicense", "gpl-2.0", "gpl-3.0", "agpl-3.0")  # of what is non-commercial, and asks nothing of it
_CC_TEXT = re.compile(r"attribution(-noncommercial)?(-sharealike|-noderiv(?:ative)?s)? (\d\.\d)(?! \w+ compat)")
_LLAMA_TEXT = re.compile(r"llama (\d(?:\.\d)?) community license")


def licence_id(text: str) -> str:
    """A licence's name as the Hub writes it, of one in words or SPDX; "unknown" where the text says nothing.

    One that is none of those known stays as it is written, in lower case.
    """
    name = re.sub(r"[\s_]+", "-", text.strip().lower().removesuffix("."))
    if name in _SAYS_NOTHING or name.startswith("see-the-"):
        return UNKNOWN
    name = re.sub(r"^(a?l?gpl|gfdl)(?:-?v)?-?(\d)(?:\.0)?(?:-only|-or-later|\+)?$", r"\1-\2.0", name)
    for id, pattern in _ALIASES.items():
        if re.fullmatch(pattern, name):
            return id
    return name


def recognise(text: str) -> str:
    """The licence whose text this is; "unknown" where it is none of the known ones, several, or one with more asked.

    Its name must be near the head: what comes later is about another's work.
    """
    flat = " ".join(text.lower().replace("*", " ").split())
    found = [(id, match) for id, pattern in _TEXTS if (match := re.search(pattern, flat))]
    found += [(f"llama{match[1].removesuffix('.0')}", match) for match in _LLAMA_TEXT.finditer(flat)]
    if "creative commons" in flat:
        found += [(_creative_commons(match), match) for match in _CC_TEXT.finditer(flat)]
    named = {id for id, _ in found}
    named -= {"bsd-2-clause"} if "bsd-3-clause" in named else set()  # whose text is the first part of the other's
    if len(named) != 1 or min(match.start() for _, match in found) >= _N_HEAD:
        return UNKNOWN
    (licence,) = named
    if licence.startswith(("cc-by-nc", "cc-by-nd")):
        return licence
    takes_back = _TAKES_BACK.search(flat) or (licence not in _SPEAKS_OF_IT and _ONLY.search(flat))
    return UNKNOWN if takes_back else licence


def _creative_commons(title: re.Match[str]) -> str:
    noncommercial, second, version = title.groups()
    then = {"-s": "-sa", "-n": "-nd"}.get((second or "")[:2], "")
    return f"cc-by{'-nc' if noncommercial else ''}{then}-{version}"


def of_card(card: Path) -> str:
    """The licence in the YAML head of a Hub's card (README.md)."""
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        content: Any = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError:
        return UNKNOWN
    if not isinstance(content, dict):
        return UNKNOWN
    said = cast(dict[str, Any], content)
    named = said.get("license")
    several = [str(one) for one in cast(list[Any], named)] if isinstance(named, list) else [str(named or "")]
    if several == ["other"]:
        several = [str(said.get("license_name") or "")]
    return licence_id(" and ".join(several))
