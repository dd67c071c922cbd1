"""Tell how far the labels of Examples can be trusted: who else gives the same ones, and a sheet to ask people by.

Three judges, each where it is given: a classifier (`classifier`, any that transformers serves, trained on real rows), a
teacher asked again (`backend` and its parameters), and people (`--reviews`, a folder of filled sheets, one a person).
With `--reference`, rows that people labelled, the classifier's agreement with them is told beside its agreement with
these labels, which it cannot be expected to exceed.

The output holds the rows that were drawn, `judged.parquet` with each judge's labels of them, and the sheet to fill, on
which nobody sees the labels: `review.html` for a browser, `review.csv` for a spreadsheet.
"""

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from datagen.agreement.labels import Answers, Judged, Labels, LabelSet, NoAnswer, of_rows, of_taxonomy
from datagen.agreement.reviews import read_reviews
from datagen.agreement.sheet import BYTE_ORDER_MARK, Choice, check_choices, row_code, write_page, write_table
from datagen.backends.asking import Drawing, Generate, backend_configs, opened_backend
from datagen.backends.models import resolve_model
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Example, Rejection
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, main
from datagen.synthesis.taxonomy import read_taxonomy


class Config(Params):
    """Who judges, which rows, and from where on a label holds.

    Attributes:
        taxonomy: `goemotions`, or a YAML file: the labels that there are. Without one, those that the rows have.
        positive_from: the weight from which a label holds, whoever gave it.
        classifier: a folder or a hub name.
        classifier_revision: the Hub's commit, branch or tag; of a folder the hash of its files, or its start.
        threshold: from which probability the classifier's labels hold, in place of its own.
        backend: a name of datagen/backends, whose own parameters, those of sampling and of the budget stand beside it.
        structured_output: `json_schema` asks the backend to hold each answer to its schema, `none` by the prompt alone.
        n_rows: that are judged; those that people judged are so in any case.
        n_review: of these, on the sheet; 0 writes none.
        n_resamples: for the intervals.
        draw_seed: draws the rows, their order on the sheet, and resamples; a request's seed derives from `seed`.
    """

    taxonomy: str | None = None
    positive_from: float = Field(default=0.3, gt=0, le=1)
    classifier: str = ""
    classifier_revision: str = ""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    backend: str | None = None
    structured_output: Literal["json_schema", "none"] = "json_schema"
    n_rows: int = Field(default=1000, ge=1, le=10_000)
    n_review: int = Field(default=100, ge=0)
    n_resamples: int = Field(default=1000, ge=1)
    draw_seed: int = Field(default=0, ge=0)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config and, where a backend is named, those of asking it."""
    asking = backend_configs(section) if section.get("backend") is not None else ()
    return validate(section, Config, InputParams, *asking)


def run(run: Run) -> dict[str, Any]:
    """Write the rows that were drawn, every judge's labels of them, and the sheet.

    Raises:
        ParamsError: `--reference` without a classifier.
        DataError: no row can be judged, or a judge cannot be used.
        BackendError: the teacher cannot be asked.
    """
    config = run.params[Config]
    if "reference" in run.inputs and not config.classifier:
        raise ParamsError("--reference: the classifier is measured on it; name one with classifier=, or leave it out")
    given = list(Rows(run.inputs["examples"], Example, run.name, run.params[InputParams]))
    labels = _find_labels(config, [row for row in given if isinstance(row, Example)])
    rows = [_checked(row, labels, config.taxonomy, run.name) for row in given]
    usable = [row for row in rows if isinstance(row, Example)]
    reviews = _read_reviews(run, usable, labels)
    drawn = _draw(config, usable, {id for answers in reviews.values() for id in answers})
    if not drawn:
        raise DataError(f"{run.inputs['examples']}: none of {len(rows)} rows can be judged; give rows with labels")
    own = _own(config, drawn, labels)
    judges, identities, metrics = _ask_judges(run, drawn, own, labels, reviews)
    manifest = {
        "stage": run.name,
        "params": run.params.values(),
        **made_of(run.inputs, of_asked(run.params.values(), "judge")),
        "judges": identities,
        "taxonomy": read_taxonomy(config.taxonomy).revision if config.taxonomy else None,
    }
    tables: dict[str, Any] = {"judged": Judged}
    is_drawn = {row.id for row in drawn}
    with DatasetWriter(run.out, Example, manifest, tables) as writer:
        for row in rows:
            writer.read()
            if isinstance(row, Example) and row.id not in is_drawn:
                detail = f"{len(drawn)} of {len(usable)} rows were drawn with draw_seed={config.draw_seed}"
                row = Rejection(id=row.id, stage=run.name, reason="not_drawn", detail=detail)
            writer.put(row)
        judged: Iterator[Any] = _judged(drawn, own, judges, reviews, labels)
        for row in judged:
            writer.add("judged", row)
        n_review = _attach_sheet(config, writer, drawn, labels)
    return {
        "rows": writer.rows,
        "rejected": dict(sorted(writer.reasons.items())),
        "review": {"rows": n_review},
        **metrics,
    }


def _ask_judges(
    run: Run,
    drawn: Sequence[Example],
    own: Sequence[LabelSet],
    labels: Labels,
    reviews: Mapping[str, Mapping[str, LabelSet]],
) -> tuple[dict[str, Answers], dict[str, Any], dict[str, Any]]:
    """By judge: its answers, which model it is, and what metrics say of it."""
    from datagen.agreement.figures import of_judge, of_people

    config = run.params[Config]
    drawing = {"n_resamples": config.n_resamples, "seed": config.draw_seed}
    judges: dict[str, Answers] = {}
    identities: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    if config.classifier:
        judges["classifier"], identities["classifier"], metrics["classifier"] = _classify(run, drawn, own, labels)
    if config.backend is not None:
        judges["second_pass"], identities["second_pass"] = _ask_again(run, drawn, labels)
        metrics["second_pass"] = of_judge(
            own, judges["second_pass"], labels.names, "second_pass", _families(drawn), **drawing
        )
    if reviews:
        by_id = {row.id: mine for row, mine in zip(drawn, own, strict=True)}
        families = {row.id: row.family for row in drawn}
        metrics["people"] = of_people(by_id, reviews, labels, families, **drawing)
    return judges, identities, metrics


def _find_labels(config: Config, rows: Sequence[Example]) -> Labels:
    labels = of_rows(rows) if config.taxonomy is None else of_taxonomy(read_taxonomy(config.taxonomy))
    if not labels.names:
        raise DataError("no row has a label, and no taxonomy= says which there are; give one of the two")
    return labels


def _checked(row: Example | Rejection, labels: Labels, taxonomy: str | None, stage: str) -> Example | Rejection:
    """The row, or its rejection where it has a label that the taxonomy lacks."""
    if isinstance(row, Rejection):
        return row
    unknown = [one["name"] for one in row.labels if labels.find(one["name"]) is None]
    if not unknown:
        return row
    detail = f"the label {unknown[0]!r} is none of the taxonomy {taxonomy}"
    return Rejection(id=row.id, stage=stage, reason="unknown_label", detail=detail)


def _read_reviews(run: Run, rows: Sequence[Example], labels: Labels) -> dict[str, dict[str, LabelSet]]:
    if "reviews" not in run.inputs:
        return {}
    codes = {row_code(row): row.id for row in rows}
    given = read_reviews(run.inputs["reviews"], codes, labels.find, ", ".join(labels.names))
    return {person: {id: labels.of(names) for id, names in answers.items()} for person, answers in given.items()}


def _draw(config: Config, rows: Sequence[Example], reviewed: set[str]) -> list[Example]:
    """The rows with the least hashes of seed and id, and those that people judged, in the input's order."""
    hashed = ((derive_seed(config.draw_seed, "label_quality", row.id), i) for i, row in enumerate(rows))
    places = {i for _, i in heapq.nsmallest(config.n_rows, hashed)}
    return [row for i, row in enumerate(rows) if i in places or row.id in reviewed]


def _own(config: Config, rows: Sequence[Example], labels: Labels) -> list[LabelSet]:
    return [labels.of_example(row, config.positive_from) for row in rows]


def _families(rows: Sequence[Example]) -> list[str]:
    return [row.family for row in rows]


def _classify(
    run: Run, drawn: Sequence[Example], own: Sequence[LabelSet], labels: Labels
) -> tuple[Answers, dict[str, Any], dict[str, Any]]:
    """The classifier's answers, which model it is, and its agreement with the rows and with the reference."""
    from datagen.agreement.classifier import classify
    from datagen.agreement.figures import of_judge

    config = run.params[Config]
    drawing = {"n_resamples": config.n_resamples, "seed": config.draw_seed}
    model = resolve_model(config.classifier, config.classifier_revision)
    found = classify(model, drawn, labels, config.threshold)
    not_known = [name for name in labels.names if name not in found.labels]
    metrics = {
        "labels_not_compared": {"of_classifier": found.unknown, "of_dataset": not_known},
        **of_judge(own, found.answers, found.labels, "classifier", _families(drawn), **drawing),
    }
    if "reference" in run.inputs:
        real = Rows(run.inputs["reference"], Example, run.name, run.params[InputParams])
        checked = [_checked(row, labels, config.taxonomy, run.name) for row in real]
        people = _draw(config, [row for row in checked if isinstance(row, Example)], set())
        if not people:
            known = ", ".join(labels.names[:5])
            raise DataError(f"{run.inputs['reference']}: no row has labels of these alone ({known}, ...); give others")
        answers = classify(model, people, labels, config.threshold).answers
        theirs = _own(config, people, labels)
        not_used = Counter(row.reason for row in checked if isinstance(row, Rejection))
        metrics["on_reference"] = {
            "not_used": dict(sorted(not_used.items())),
            **of_judge(theirs, answers, found.labels, "classifier", _families(people), **drawing),
        }
    return found.answers, {"model": model.name, "revision": model.revision, "thresholds": found.thresholds}, metrics


def _ask_again(run: Run, rows: Sequence[Example], labels: Labels) -> tuple[Answers, dict[str, Any]]:
    from datagen.agreement.second_pass import ask_again

    config = run.params[Config]
    assert config.backend is not None

    def answers(generate: Generate) -> Iterator[LabelSet | NoAnswer]:
        return ask_again(
            rows,
            labels,
            generate,
            sampling=run.params[Drawing],
            guided=config.structured_output == "json_schema",
            positive_from=config.positive_from,
            stage=run.name,
        )

    with opened_backend(run, config.backend, answers) as backend, run.progress(len(rows), "rows") as bar:
        found: list[LabelSet | NoAnswer] = []
        for one in answers(backend.generate):
            found.append(one)
            bar.advance(1)
        return found, dict(backend.identity)


def _judged(
    drawn: Sequence[Example],
    own: Sequence[LabelSet],
    judges: Mapping[str, Answers],
    reviews: Mapping[str, Mapping[str, LabelSet]],
    labels: Labels,
) -> Iterator[Judged]:
    from datagen.agreement.figures import by_most, judged_by

    people = judged_by(reviews)
    for i, (row, mine) in enumerate(zip(drawn, own, strict=True)):
        said = {judge: answers[i] for judge, answers in judges.items()}
        why_not = {judge: one.reason for judge, one in said.items() if isinstance(one, NoAnswer)}
        given = people.get(row.id, [])
        yield Judged(
            id=row.id,
            labels=sorted(mine),
            **{judge: sorted(one) for judge, one in said.items() if not isinstance(one, NoAnswer)},
            people=sorted(by_most(given, labels)) if given else None,
            n_people=len(given),
            why_not=json.dumps(why_not, sort_keys=True) if why_not else None,
        )


def _attach_sheet(config: Config, writer: DatasetWriter, rows: Sequence[Example], labels: Labels) -> int:
    """Put the sheet beside the tables, its rows in an order of its own; how many there are."""
    shown = sorted(rows, key=lambda row: derive_seed(config.draw_seed, "review", row.id))[: config.n_review]
    if shown:
        choices = [Choice(name, meaning) for name, meaning in labels.definitions.items()]
        check_choices(choices)
        writer.attach("review.html", write_page(shown, choices))
        writer.attach("review.csv", BYTE_ORDER_MARK + write_table(shown))
    return len(shown)


STAGE = Stage(
    name="label_quality",
    parse=parse,
    inputs={"examples": "dataset of Examples, or .jsonl or .parquet file of rows with a text and labels"},
    optional_inputs={
        "reference": "such rows that people labelled, on which the classifier is measured too",
        "reviews": "folder of filled review sheets, a CSV file for each person",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
