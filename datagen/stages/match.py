"""Find what a model gives back of its training data: extracted texts beside the rows that it may have been trained on.

Three measures, each at the threshold at which texts that the model never saw match equally seldom: the cosine of
embeddings, edit similarity and indel similarity. Memorisation is told in both directions: the share of the extracted
texts that match any row, and the share of the rows that any extracted text matches.

The output holds a Match for each extracted text, `nearest.parquet` with the nearest by every measure on either side,
`curves.json` with every share at thresholds from 0 to 1, and `examples.md`, pairs for a person to judge. It is for
auditing one's own and open models; what was extracted keeps its source's licence.

Vectors are kept outside the output, so a run that was killed embeds no text twice.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.inputs import InputParams
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection
from datagen.contracts.stage import Run, Stage, main
from datagen.extraction.match_table import Match, NearestText
from datagen.extraction.texts import Text, read_texts, unseen_texts, usable

if TYPE_CHECKING:
    from datagen.extraction.calibration import Threshold
    from datagen.extraction.matching import Compared, Measure

N_STEPS = 100  # thresholds of a curve, and one more


class Config(Params):
    """By what texts are compared, and how often an unseen one may match.

    Attributes:
        embedder: `all-minilm-l6-v2`, or another name that `datagen.backends.embeddings` takes.
        false_match_rate: the probability that a text which was never seen matches; 0.01 takes 99 such texts or more.
        n_examples: pairs in each section of `examples.md`.
    """

    embedder: str = "all-minilm-l6-v2"
    false_match_rate: float = Field(default=0.01, gt=0, lt=1)
    n_examples: int = Field(default=10, ge=0)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    return validate(section, Config, InputParams)


def run(run: Run) -> dict[str, Any]:
    """Compare, calibrate, count.

    Raises:
        DataError: an input without a text, unseen texts that were seen or are too few, vectors that are not finite.
        MissingError: no such embedder.
    """
    config = run.params[Config]
    paths = [run.inputs[name] for name in ("extracted", "against", "calibration")]
    rows, others, held_out = (read_texts(path, run.name, run.params[InputParams]) for path in paths)
    extracted, against = usable(paths[0], rows), usable(paths[1], others)
    unseen = unseen_texts(
        paths[2], held_out, [one.text for one in extracted], [one.text for one in against],
        run.params[InputParams].max_rejected_share,
    )  # fmt: skip

    from datagen.backends.embeddings import find_revision
    from datagen.extraction.calibration import allowed_matches, calibrate
    from datagen.extraction.judging import examples_page
    from datagen.extraction.matching import compare

    allowed_matches(len(unseen.texts), config.false_match_rate)  # before anything is embedded
    compared = compare(
        [one.text for one in extracted], [one.text for one in against], [one.text for one in unseen.texts],
        embedder=config.embedder, workers=len(os.sched_getaffinity(0)),
    )  # fmt: skip
    thresholds: dict[Measure, Threshold] = {
        measure: calibrate(one.unseen_in_against, one.unseen_by_extracted, config.false_match_rate)
        for measure, one in compared.items()
    }
    curves, recalls = _curves(config, compared, thresholds, unseen.texts)
    manifest = {
        "stage": run.name,
        "params": run.params.values(),
        **made_of(run.inputs, of_asked(run.params.values(), "judge")),
        "embedder": {"name": config.embedder, "revision": find_revision(config.embedder)},
        "thresholds": {measure: one.value for measure, one in thresholds.items()},
    }
    with DatasetWriter(run.out, Match, manifest, {"nearest": NearestText}) as writer:
        matches = _matches(extracted, against, compared["cosine"])
        for row in rows:
            writer.read()
            writer.put(row if isinstance(row, Rejection) else next(matches))
        for one in _nearest(extracted, against, compared, thresholds):
            writer.add("nearest", one)
        writer.attach("curves.json", json.dumps(curves, indent=1) + "\n")
        writer.attach("examples.md", examples_page(extracted, against, compared, thresholds, config.n_examples))
    not_used = Counter(row.reason for row in others if isinstance(row, Rejection))
    return {
        "rows": writer.rows,
        "rejected": dict(sorted(writer.reasons.items())),
        "against": {"rows": len(against), "not_used": dict(sorted(not_used.items()))},
        "calibration": {
            "rows": len(unseen.texts),
            "paraphrases": sum(one.paraphrase is not None for one in unseen.texts),
            "in_extracted": unseen.n_in_extracted,
            "not_used": dict(sorted(unseen.not_used.items())),
        },
        **_figures(compared, thresholds, recalls),
    }


def _curves(
    config: Config,
    compared: "Mapping[Measure, Compared]",
    thresholds: "Mapping[Measure, Threshold]",
    unseen: Sequence[Text],
) -> tuple[list[dict[str, float]], dict[str, float | None]]:
    """Shares by threshold, a row each; and by measure the share of paraphrases that match at its own threshold."""
    from datagen.extraction.calibration import shares_from
    from datagen.extraction.matching import pair_similarities

    steps = [i / N_STEPS for i in range(N_STEPS + 1)]
    pairs = [(one.text, one.paraphrase) for one in unseen if one.paraphrase is not None]
    columns: dict[str, list[float]] = {"threshold": steps}
    recalls: dict[str, float | None] = {measure: None for measure in compared}
    for measure, one in compared.items():
        columns |= {
            f"{measure}_extracted": shares_from(one.of_extracted.similarities, steps),
            f"{measure}_against": shares_from(one.of_against.similarities, steps),
            f"{measure}_false_extracted": shares_from(one.unseen_in_against, steps),
            f"{measure}_false_against": shares_from(one.unseen_by_extracted, steps),
        }
        if pairs:
            texts, paraphrases = zip(*pairs, strict=True)
            similarities = pair_similarities(texts, paraphrases, measure, embedder=config.embedder)
            columns[f"{measure}_recall"] = shares_from(similarities, steps)
            recalls[measure] = shares_from(similarities, [thresholds[measure].value])[0]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], recalls


def _matches(extracted: Sequence[Text], against: Sequence[Text], cosine: "Compared") -> Iterator[Match]:
    from datagen.extraction.string_match import edit_similarity, indel_similarity

    found = cosine.of_extracted
    for i, one in enumerate(extracted):
        neighbour = against[int(found.rows[i])]
        yield Match(
            id=one.id,
            neighbour_id=neighbour.id,
            cosine=float(found.similarities[i]),
            edit_similarity=edit_similarity(one.text, neighbour.text),
            indel_similarity=indel_similarity(one.text, neighbour.text),
        )


def _nearest(
    extracted: Sequence[Text],
    against: Sequence[Text],
    compared: "Mapping[Measure, Compared]",
    thresholds: "Mapping[Measure, Threshold]",
) -> Iterator[NearestText]:
    for measure, one in compared.items():
        sides = (
            ("extracted", extracted, against, one.of_extracted),
            ("against", against, extracted, one.of_against),
        )
        for side, texts, others, found in sides:
            for i, text in enumerate(texts):
                similarity = float(found.similarities[i])
                yield NearestText(
                    side=side,
                    id=text.id,
                    measure=measure,
                    neighbour_id=others[int(found.rows[i])].id,
                    similarity=similarity,
                    matches=similarity >= thresholds[measure].value,
                )


def _figures(
    compared: "Mapping[Measure, Compared]",
    thresholds: "Mapping[Measure, Threshold]",
    recalls: Mapping[str, float | None],
) -> dict[str, Any]:
    """By measure its threshold and the shares at it; and how many times as many texts the embedding finds."""
    from datagen.extraction.matching import rates

    figures: dict[str, Any] = {}
    for measure, one in compared.items():
        threshold = thresholds[measure]
        figures[measure] = {
            "threshold": threshold.value,
            **asdict(rates(one, threshold.value)),
            "false_at_most": threshold.at_most,
            "recall": recalls[measure],
        }
    shown = figures["cosine"]["extracted"]
    times = {
        f"cosine_over_{measure}": shown / figures[measure]["extracted"] if figures[measure]["extracted"] else None
        for measure in ("edit", "indel")
    }
    return figures | times


STAGE = Stage(
    name="match",
    parse=parse,
    inputs={
        "extracted": "what the model wrote: dataset of Traces, Prompts, Documents or Examples, .jsonl or .parquet file "
        "of rows with a text",
        "against": "rows that it may have been trained on, likewise",
        "calibration": "texts of the same kind that it never saw, likewise; a row may have a paraphrase",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
