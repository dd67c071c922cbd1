"""Rows of a user's file that are a text: Documents, and Examples, which have labels.

    id         optional, else a hash of text, context and character
    text       what is classified
    context    what a reader must know to classify it
    character  who speaks
    labels     names, or {name: weight}, or [{name, weight}], weights in [0, 1]; an empty list says that none holds
    reason     why these labels
    family     the set that the row belongs to
    domain     of a Document: the kind of text
    licence    of a Document: what it may be used for; `license` is read too

A weight of null is no label: a Parquet struct holds every name of the column, null where the row has none.
"""

from collections.abc import Iterator

from datagen.contracts.fields import BadRow, Row, id_of, info_of, is_object, list_of, text_of
from datagen.contracts.records import Document, Example, Label, content_id

_READ_OF_TEXT = frozenset(("id", "text", "source", "info"))
_READ_OF_DOCUMENT = _READ_OF_TEXT | {"domain", "licence", "license"}
_READ = _READ_OF_TEXT | {"context", "character", "labels", "reason", "family", "teacher"}


def document_of(row: Row, source: str) -> Document:
    """The row as a Document; `source` is where it stands.

    Raises:
        BadRow: it has no text.
    """
    text = _text(row)
    return Document(
        id=id_of(row) or content_id([], text),
        text=text,
        source=text_of(row, "source") or source,
        domain=text_of(row, "domain") or "",
        licence=text_of(row, "licence") or text_of(row, "license") or "",
        info=info_of(row, _READ_OF_DOCUMENT),
    )


def example_of(row: Row, source: str) -> Example:
    """The row as an Example; `source` is where it stands.

    Raises:
        BadRow: it has no text or no labels, or a label that cannot be read.
    """
    text, context, character = _text(row), _optional(row, "context"), _optional(row, "character")
    return Example(
        id=id_of(row) or content_id([], text, context, character),
        text=text,
        context=context,
        character=character,
        labels=_labels(row),
        reason=_optional(row, "reason"),
        family=text_of(row, "family") or "",
        source=text_of(row, "source") or source,
        teacher=text_of(row, "teacher") or "",
        info=info_of(row, _READ),
    )


def _text(row: Row) -> str:
    text = text_of(row, "text")
    if text is None:
        raise BadRow("missing_field", "no `text`; the row needs one")
    if not text.strip():
        raise BadRow("empty_text", "the text is empty; fill it or remove the row")
    return text


def _optional(row: Row, key: str) -> str | None:
    """A text; one of white space alone is none."""
    text = text_of(row, key)
    return text if text and text.strip() else None


def _labels(row: Row) -> list[Label]:
    """The labels in the order of the row, each once."""
    given: object = row.get("labels")
    if given is None:
        raise BadRow("missing_field", "no `labels`; the row needs a list of names, empty where none holds")
    labels = list(_of_object(given) if is_object(given) else _of_list(given))
    names = [label["name"] for label in labels]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadRow("duplicate_label", f"the label {twice!r} stands twice in `labels`; name it once")
    return labels


def _of_object(given: Row) -> Iterator[Label]:
    for name, weight in given.items():
        if weight is not None:
            yield {"name": _name(name), "weight": _weight(name, weight)}


def _of_list(given: object) -> Iterator[Label]:
    for one in list_of(given, "labels"):
        if is_object(one):
            if "name" not in one or "weight" not in one:
                raise BadRow("wrong_type", "an object in `labels` has a `name` and a `weight`")
            yield {"name": _name(one["name"]), "weight": _weight(one["name"], one["weight"])}
        else:
            yield {"name": _name(one), "weight": 1.0}


def _name(given: object) -> str:
    """Its name without white space around it; a number is one too, as datasets write class ids."""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise BadRow("wrong_type", f"each of `labels` is a name (got {type(given).__name__})")
    if not (name := str(given).strip()):
        raise BadRow("empty_label", "a label's name is empty; fill it or remove the label")
    return name


def _weight(name: object, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise BadRow("wrong_type", f"the weight of label {name!r} must be a number (got {type(given).__name__})")
    if not 0 <= given <= 1:  # NaN too
        raise BadRow("bad_weight", f"the weight of label {name!r} must be in [0, 1] (got {given})")
    return float(given)
