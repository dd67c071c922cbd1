"""Labels outside a taxonomy, and how diverse a corpus is that was written with narratives beside one without.

    python -m benchmarks.synthesis [--only labels] [--only diversity --grounded DIR --ungrounded DIR] [--out FILE.json]

labels: the threshold of `datagen.synthesis.label_map` for the packaged goemotions, read off one half of its listed
words at several target precisions, and what it does on the other half; the interval of a precision is Wilson's (1927,
Probable inference, JASA 22). The words are the taxonomy's own lists, so other labels may fare otherwise.

diversity: two datasets of Examples, such as two of `datastill corpus` with the same model and budget, one with
`grounded=false`, both with `max_cosine=1`, which refuses nothing. Of each, `--utterances` texts without a context are
drawn by a seed. Figures of `datagen.synthesis.diversity`, distinct-n of equally many words. Their intervals come from
halves: 200 times half of the sources of each dataset are drawn without replacement, and the spread of the halves'
figures stands around the figure of the whole (delete-half jackknife: Shao and Wu 1989, A general theory for jackknife
variance estimation, Annals of Statistics 17). A bootstrap would draw a source twice, and so make near-duplicates. Where
a dataset has fewer than 20 sources, its texts take their place, and the first line says so.
"""

import argparse
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datagen.backends.embeddings import EMBEDDED, embed
from datagen.contracts.dataset import write_json
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Example
from datagen.contracts.words import find_words, normalise
from datagen.synthesis.diversity import label_figures, measure_group
from datagen.synthesis.label_map import LabelMap, evaluate, split_words
from datagen.synthesis.taxonomy import read_taxonomy

TARGETS = (0.8, 0.9, 0.95)
N_HALVES, MIN_SOURCES, LEVEL = 200, 20, 0.95
SHARES = ("near_by_cosine", "near_by_words", "distinct_1", "distinct_2", "self_bleu")
FIGURES = (*SHARES, "nearest_cosine", "topics")


class Arm(NamedTuple):
    """A dataset's drawn texts, with a vector each, and the places of the texts of each unit that is drawn."""

    texts: list[str]
    labels: list[list[str]]
    vectors: Any
    units: list[list[int]]
    by_source: bool


def wilson(n_right: int, n: int, z: float = 1.959964) -> list[float]:
    """The ends of the 95 % interval of a share."""
    if not n:
        return [0.0, 1.0]
    share, spread = n_right / n, z * ((n_right / n) * (1 - n_right / n) / n + (z / (2 * n)) ** 2) ** 0.5
    return [round((share + z * z / (2 * n) + sign * spread) / (1 + z * z / n), 3) for sign in (-1, 1)]


def labels() -> list[dict[str, Any]]:
    """A row for each target precision and half of the words."""
    taxonomy = read_taxonomy("goemotions")
    vectors: dict[str, Any] = {}

    def embed_once(texts: Sequence[str]) -> Any:
        new = [text for text in texts if text not in vectors]
        vectors.update(zip(new, embed(new, EMBEDDED).numpy() if new else (), strict=True))
        return np.array([vectors[text] for text in texts])

    rows: list[dict[str, Any]] = []
    for target in TARGETS:
        label_map = LabelMap(taxonomy, embed_once, target_precision=target)
        for part, words in zip(("read off", "tested"), split_words(taxonomy), strict=True):
            found = evaluate(label_map, words)
            rows.append(
                {
                    "labels": part, "target": target, "threshold": label_map.threshold, "words": found.n_words,
                    "of a label": found.n_of_class, "mapped": found.n_mapped, "right": found.n_right,
                    "precision": rounded(found.precision), "interval": wilson(found.n_right, found.n_mapped),
                    "recall": rounded(found.recall),
                }
            )  # fmt: skip
    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """The rows under their names, each column as wide as it must be."""
    columns = list(zip([*rows[0]], *([str(cell) for cell in row.values()] for row in rows), strict=True))
    for line in zip(*([cell.rjust(max(map(len, column)) + 2) for cell in column] for column in columns), strict=True):
        print("".join(line), flush=True)


def rounded(value: float | None) -> float | None:
    """To four digits."""
    return None if value is None else round(value, 4)


def within(name: str, ends: Sequence[float]) -> list[float]:
    """The ends of an interval; of a share none is outside [0, 1]."""
    return [min(max(end, 0.0), 1.0) for end in ends] if name in SHARES else list(ends)


def read_arm(path: Path, n: int, seed: int) -> Arm:
    """`n` texts without a context, drawn by the seed, of the dataset or file at `path`."""
    rows = [
        row for row in Rows(path, Example, "benchmark", InputParams()) if isinstance(row, Example) and not row.context
    ]
    if len(rows) < n:
        raise SystemExit(f"{path}: {len(rows)} examples without a context; --utterances asks for {n}")
    drawn = random.Random(seed).sample(rows, n)
    of_source: defaultdict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(drawn):
        of_source[row.source].append(i)
    by_source = len(of_source) >= MIN_SOURCES
    units = [*of_source.values()] if by_source else [[i] for i in range(n)]
    texts = [row.text for row in drawn]
    of_text = [[label["name"] for label in row.labels] for row in drawn]
    return Arm(texts, of_text, embed(texts, EMBEDDED).numpy(), units, by_source)


def compare(arms: Sequence[Arm], rows: Sequence[Sequence[int]], seed: int) -> list[dict[str, float]]:
    """The figures of some rows of each arm, at equally many texts and words."""
    n_texts = min(map(len, rows))
    chosen = [random.Random(seed).sample(list(of_arm), n_texts) for of_arm in rows]
    texts = [[arm.texts[i] for i in of_arm] for arm, of_arm in zip(arms, chosen, strict=True)]
    n_tokens = min(sum(len(find_words(normalise(text))) for text in of_arm) for of_arm in texts)
    found = [
        measure_group(of_arm, arm.vectors[of_rows], n_tokens=n_tokens, seed=seed)
        for arm, of_arm, of_rows in zip(arms, texts, chosen, strict=True)
    ]
    return [{name: one[name] or 0.0 for name in FIGURES} for one in found]


def diversity(paths: Sequence[Path], n: int, seed: int) -> list[dict[str, Any]]:
    """A row for each figure: of the grounded dataset, of the other, and their difference, with intervals."""
    arms = [read_arm(path, n, seed) for path in paths]
    whole = compare(arms, [range(n) for _ in arms], seed)
    spread = random.Random(seed)
    halves: list[list[dict[str, float]]] = []
    for draw in range(N_HALVES):
        units = [spread.sample(arm.units, len(arm.units) // 2) for arm in arms]
        halves.append(compare(arms, [[i for unit in of_arm for i in unit] for of_arm in units], draw))

    def interval(value: float, drawn: Sequence[float]) -> list[float]:
        ends = np.quantile(np.array(drawn) - np.mean(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return [round(value + float(end), 4) for end in ends]

    table: list[dict[str, Any]] = []
    for name in FIGURES:
        values = [of_arm[name] for of_arm in whole]
        drawn = [[half[arm][name] for half in halves] for arm in (0, 1)]
        difference = [one - other for one, other in zip(*drawn, strict=True)]
        table.append(
            {
                "diversity": name, "grounded": rounded(values[0]), "ungrounded": rounded(values[1]),
                "difference": rounded(values[0] - values[1]),
                "interval": interval(values[0] - values[1], difference),
                "ratio": rounded(values[0] / values[1]) if values[1] else None,
                "of grounded": within(name, interval(values[0], drawn[0])),
                "of ungrounded": within(name, interval(values[1], drawn[1])),
            }
        )  # fmt: skip
    names = sorted({name for arm in arms for of_text in arm.labels for name in of_text})
    effective = [
        label_figures({name: sum(name in of_text for of_text in arm.labels) for name in names}, 1)["effective"]
        for arm in arms
    ]
    table.append(
        dict.fromkeys(table[0]) | {
            "diversity": "labels", "grounded": rounded(effective[0]), "ungrounded": rounded(effective[1]),
            "difference": rounded(effective[0] - effective[1]),
        }
    )  # fmt: skip
    units = ["sources" if arm.by_source else "texts" for arm in arms]
    print(f"{n} texts each; {len(arms[0].units)} {units[0]} and {len(arms[1].units)} {units[1]} are halved", flush=True)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("labels", "diversity"), default=("labels", "diversity"))
    parser.add_argument("--grounded", type=Path, help="dataset, .jsonl or .parquet of Examples")
    parser.add_argument("--ungrounded", type=Path, help="likewise")
    parser.add_argument("--utterances", type=int, default=500, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    if "diversity" in options.only and not (options.grounded and options.ungrounded):
        parser.error("diversity needs --grounded and --ungrounded; or give --only labels")
    result: dict[str, Any] = {"benchmark": "synthesis", "cpus": os.cpu_count(), "embedder": EMBEDDED}
    if "labels" in options.only:
        result["labels"] = labels()
        print_table(result["labels"])
    if "diversity" in options.only:
        result["utterances"] = options.utterances
        result["diversity"] = diversity([options.grounded, options.ungrounded], options.utterances, options.seed)
        print_table(result["diversity"])
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
