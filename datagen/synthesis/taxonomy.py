"""A taxonomy: the labels that a corpus is written for, each with what it means.

It is data, a YAML file:

    name: weather
    neutral: none of these            # of those below, the label of a text without one; may be left out
    labels:
      - name: storm
        definition: strong wind, with or without rain
        examples: [The roof tiles are flying down the street.]
      - name: none of these
    synonyms: {storm: [gale, tempest]}   # what a teacher may say in place of a label; see `label_map`
    no_class: [happiness, monday]        # what it may say that is none of them

The packaged `goemotions` has the 27 emotions and neutral of Demszky et al. 2020, GoEmotions: A Dataset of Fine-Grained
Emotions, arXiv:2005.00547, table 1; its definitions and examples are not the paper's.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from pydantic import AfterValidator, Field, StringConstraints

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params, validate

_FOLDER = resources.files("datagen.synthesis") / "taxonomies"
_SEPARATORS = re.compile(r"[\s_\-\u2010-\u2015]+")


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1:
        raise ValueError("a name is one line of text")
    return text


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_one_line)]
Text = Annotated[str, StringConstraints(strip_whitespace=True)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class LabelClass(Params):
    """A label, what it means, and texts that bear it."""

    name: Name
    definition: Text = ""
    examples: tuple[Sentence, ...] = ()

    @property
    def described(self) -> str:
        """`name: definition`, or the name alone."""
        return f"{self.name}: {self.definition}" if self.definition else self.name


class Taxonomy(Params):
    """Labels in order.

    Attributes:
        name: of the taxonomy.
        labels: at least two, no two of them equal after `fold`.
        neutral: the label among them of a text that bears no other, where there is one.
        synonyms: for some labels, other words for them.
        no_class: words that are none of the labels.
    """

    name: Name
    labels: tuple[LabelClass, ...]
    neutral: Name | None = None
    synonyms: Mapping[Name, tuple[Name, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    no_class: tuple[Name, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the labels, in order."""
        return tuple(self._by_fold.values())

    def find(self, name: str) -> str | None:
        """The label of that name, but for case, spaces, hyphens and what surrounds it; None where there is none."""
        return self._by_fold.get(fold(name))

    @cached_property
    def revision(self) -> str:
        """16 hex digits that change with anything in it."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _by_fold(self) -> dict[str, str]:
        return {fold(label.name): label.name for label in self.labels}


def fold(name: str) -> str:
    """What two names have in common that differ in case, in spaces, hyphens and underscores, or in quotes around them.

    A sign that may be the name itself stays: C++ is not C.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return _SEPARATORS.sub(" ", folded).strip(" \"'`*.,:;!?\u2018\u2019\u201c\u201d")


def packaged() -> list[str]:
    """Names of the taxonomies that come with the package."""
    return sorted(Path(one.name).stem for one in _FOLDER.iterdir() if one.name.endswith(".yaml"))


def read_taxonomy(path_or_name: str | Path) -> Taxonomy:
    """The packaged taxonomy of that name, else the one in that YAML file.

    Raises:
        ParamsError: there is none, or with one line for each thing that is wrong with it.
    """
    name = str(path_or_name)
    if name in packaged():
        return parse_taxonomy((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), name)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(
            f"taxonomy: {name!r}: {error.strerror}; name a YAML file with name and labels, or one of those that come "
            f"with datastill: {', '.join(packaged())}"
        ) from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{name}: not UTF-8 ({error}); save the taxonomy as UTF-8") from None
    return parse_taxonomy(text, name)


def parse_taxonomy(text: str, place: str) -> Taxonomy:
    """The taxonomy in a YAML text; `place` says in errors where it stands.

    Raises:
        ParamsError: with one line for each thing that is wrong with it.
    """
    try:
        content: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ParamsError(f"{place}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not _is_mapping(content):
        kind = type(cast(object, content)).__name__
        raise ParamsError(f"{place}: expected a mapping with name and labels, found {kind}; see datastill's goemotions")
    problems: list[str] = []
    try:
        taxonomy = validate(content, Taxonomy)[Taxonomy]
    except ParamsError as error:
        taxonomy = None
        problems += str(error).splitlines()
    problems += _find_clashes(content)
    if problems or taxonomy is None:
        raise ParamsError("\n".join(f"{place}: {problem}" for problem in problems))
    return _by_their_names(taxonomy)


def _by_their_names(taxonomy: Taxonomy) -> Taxonomy:
    """The same, with `neutral` and the keys of `synonyms` spelt as the labels are."""
    synonyms: dict[str, tuple[str, ...]] = {}
    for label, words in taxonomy.synonyms.items():
        name = taxonomy.find(label)
        assert name is not None
        synonyms[name] = (*synonyms.get(name, ()), *words)
    neutral = taxonomy.find(taxonomy.neutral) if taxonomy.neutral else None
    return taxonomy.model_copy(update={"synonyms": synonyms, "neutral": neutral})


def _is_mapping(content: object) -> bool:
    return isinstance(content, dict) and all(isinstance(key, str) for key in cast(dict[object, object], content))


def _find_clashes(content: Mapping[str, Any]) -> list[str]:
    """What is wrong between the parts of a taxonomy, looked for in those that are texts, whatever else is wrong."""
    problems: list[str] = []
    if isinstance(content.get("labels"), list) and (n := len(content["labels"])) < 2:
        problems.append(f"labels: a taxonomy has two or more (got {n})")
    labels: dict[str, str] = {}  # folded, and where it stands
    for place, name in _names(content.get("labels")):
        folded = fold(name)
        if not folded and name.strip():
            problems.append(f"{place}: {name!r} has no letter, digit or sign to know it by; name it otherwise")
        elif folded in labels:
            problems.append(f"{place}: {name!r} is the same label as {labels[folded]}; drop one, or name it otherwise")
        elif folded:
            labels[folded] = place
    neutral = content.get("neutral")
    if isinstance(neutral, str) and labels and fold(neutral) not in labels:
        problems.append(f"neutral: {neutral!r} is none of the labels; add it to them, or leave neutral out")
    words: dict[str, str] = {}
    for place, label, word in _listed(content):
        if label is not None and labels and fold(label) not in labels:
            problems.append(f"{place}: {label!r} is none of the labels; name one of them (got {word!r})")
        elif fold(word) in labels:
            problems.append(f"{place}: {word!r} is itself the label at {labels[fold(word)]}; drop it here")
        elif fold(word) in words:
            problems.append(f"{place}: {word!r} stands at {words[fold(word)]} too; drop one of the two")
        else:
            words[fold(word)] = place
    return problems


def _names(labels: object) -> list[tuple[str, str]]:
    """Where each label's name stands, and the name."""
    rows = cast(Sequence[object], labels) if isinstance(labels, list) else ()
    found: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        name = cast(dict[object, object], row).get("name") if isinstance(row, dict) else None
        if isinstance(name, str):
            found.append((f"labels.{number}.name", name))
    return found


def _listed(content: Mapping[str, Any]) -> list[tuple[str, str | None, str]]:
    """Where each word of `synonyms` and `no_class` stands, the label that it is for, and the word."""
    synonyms: object = content.get("synonyms")
    lists: list[tuple[str, str | None, object]] = [("no_class", None, content.get("no_class"))]
    if isinstance(synonyms, dict):
        of_label = cast(dict[object, object], synonyms)
        lists += [(f"synonyms.{label}", label, words) for label, words in of_label.items() if isinstance(label, str)]
    return [
        (f"{place}.{number}", label, word)
        for place, label, words in lists
        if isinstance(words, list)
        for number, word in enumerate(cast(list[object], words))
        if isinstance(word, str)
    ]
