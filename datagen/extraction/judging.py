"""Pairs that a person can judge: do they say the same, or does a measure see what is not there?

Source: none.
"""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from datagen.backends.neighbours import Neighbours
from datagen.extraction.calibration import Threshold
from datagen.extraction.matching import Compared, Measure
from datagen.extraction.texts import Text

SHOWN_CHARS = 800  # of a text


def examples_page(
    extracted: Sequence[Text],
    against: Sequence[Text],
    compared: Mapping[Measure, Compared],
    thresholds: Mapping[Measure, Threshold],
    n: int,
) -> str:
    """Markdown: up to `n` pairs a section, each as its two texts and what every measure says of the extracted one."""
    found: dict[Measure, Neighbours] = {measure: one.of_extracted for measure, one in compared.items()}
    cosines = found["cosine"].similarities
    bound = thresholds["cosine"].value
    matches: dict[Measure, NDArray[np.bool_]] = {
        measure: one.similarities >= thresholds[measure].value for measure, one in found.items()
    }
    by_strings = matches["edit"] | matches["indel"]
    everyone = range(len(extracted))

    def highest(measure: Measure, rows: Iterable[int]) -> list[int]:
        return sorted(rows, key=lambda i: (-found[measure].similarities[i], i))[:n]

    near = sorted(everyone, key=lambda i: (abs(cosines[i] - bound), i))[:n]
    sections: list[tuple[str, Measure, list[int]]] = [
        ("The highest cosines", "cosine", highest("cosine", everyone)),
        (f"Around the threshold of {bound:.4f}", "cosine", highest("cosine", near)),
        (
            "Found by embedding, not by strings",
            "cosine",
            highest("cosine", (i for i in everyone if matches["cosine"][i] and not by_strings[i])),
        ),
        (
            "Found by strings, not by embedding",
            "edit",
            highest("edit", (i for i in everyone if by_strings[i] and not matches["cosine"][i])),
        ),
    ]

    def scores(i: int) -> str:
        return ", ".join(
            f"{measure} {one.similarities[i]:.4f}{' (match)' if matches[measure][i] else ''}"
            for measure, one in found.items()
        )

    lines = ["# Pairs to judge", "", "Each measure's number is that of the extracted text with its own nearest row."]
    for title, measure, rows in sections:
        lines += ["", f"## {title}", ""]
        if not rows:
            lines.append("There is none.")
        for i in rows:
            neighbour = against[int(found[measure].rows[i])]
            lines += [f"### {extracted[i].id} and {neighbour.id}", "", scores(i), "", "Extracted:", ""]
            lines += [*_quoted(extracted[i].text), "", f"Nearest by {measure}:", "", *_quoted(neighbour.text), ""]
    return "\n".join(lines).rstrip() + "\n"


def _quoted(text: str) -> list[str]:
    """Indented, so that nothing in the text is read as Markdown."""
    shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} [{len(text) - SHOWN_CHARS} characters more]"
    return [f"    {part}" for line in shown.splitlines() for part in wrap(line, 110) or [""]]
