"""Show a run on HTML pages: the funnel, rates, samples, time, how all of it was made; and any row's whole way."""

import shutil
from collections.abc import Mapping
from typing import Any

from datagen.contracts.dataset import content_hash, replace_directory, write_json
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.stage import Run, Stage, main
from datagen.lineage import find_directories
from datagen.report.browser import write_browser
from datagen.report.corpus import corpus_sections
from datagen.report.domains import domain_section
from datagen.report.extraction import extraction_section
from datagen.report.figures import ALL, count
from datagen.report.graphs import graph_sections
from datagen.report.images import image_sections
from datagen.report.page import render


class Config(Params):
    """The report has no parameter: it shows everything."""


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    return validate(section, Config)


def run(run: Run) -> dict[str, Any]:
    """Write `index.html`, the page, `rows.html`, the row browser, and `families.json`, the rates for `dvc plots`."""
    folders = ("condensed", "condensed_graphs")
    made_of = {name: path for name, path in run.inputs.items() if name not in ("run_metrics", *folders)}
    figures = count(made_of, run.inputs.get("run_metrics"))
    corpus = run.inputs.get("corpus")
    more = corpus_sections(corpus, run.inputs.get("encoder_evaluation")) if corpus else ""
    more += image_sections(run.inputs.get("condensed"), run.inputs.get("image_evaluation"))
    more += graph_sections(run.inputs.get("condensed_graphs"), run.inputs.get("graph_evaluation"))
    if weights := run.inputs.get("domain_weights"):
        more += domain_section(weights)
    if (extracted := run.inputs.get("extracted")) and (match := run.inputs.get("match")):
        more += extraction_section(extracted, match, run.inputs.get("matched_against", run.inputs["verified"]))
    writing = run.out.with_name(f".{run.out.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    between = find_directories(made_of["between"]) if "between" in made_of else []
    n_rows = write_browser(
        [*(path for name, path in made_of.items() if name != "between"), *between], writing / "rows.html"
    )
    (writing / "index.html").write_text(render(figures, more, n_rows), encoding="utf-8")
    plotted = [
        {"family": family or "all", "who": who, "rate": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
        for who, by_family in figures.rates.items()
        for family, rate in by_family.items()
    ]
    write_json(writing / "families.json", plotted)
    made_of.pop("between", None)
    others = {f"between/{path.name}": path for path in between}
    for name in folders:
        if folder := run.inputs.get(name):
            others |= {f"{name}/{path.name}": path for path in find_directories(folder)} or {name: folder}
    hashes = {name: content_hash(path) for name, path in (made_of | others).items()}
    write_json(writing / "manifest.json", {"format": "datastill", "stage": run.name, "inputs": hashes})
    replace_directory(writing, run.out)
    return {"verified": figures.steps["verified"].n_out, "families": len(figures.rates["teacher"].keys() - {ALL})}


STAGE = Stage(
    name="report",
    parse=parse,
    inputs={
        "prompts": "dataset of Prompts",
        "traces": "dataset of Traces",
        "verified": "dataset that verify wrote",
    },
    optional_inputs={
        "prompts_heldout": "dataset of the Prompts that the student was judged on",
        "between": "folder of datasets made on the way to the student, such as what select and filter wrote",
        "student": "folder that train_lm wrote",
        "evaluation": "dataset that evaluate_lm wrote",
        "corpus": "dataset that the corpus stage wrote",
        "encoder_evaluation": "dataset that evaluate_encoder wrote of the corpus's student",
        "condensed": "folder with a condensed image set for each method, named so, or one set",
        "image_evaluation": "dataset that evaluate_images wrote of them",
        "condensed_graphs": "folder with a condensed graph set for each method, named so, or one set",
        "graph_evaluation": "dataset that evaluate_graphs wrote of them",
        "domain_weights": "dataset that domain_weights wrote",
        "extracted": "dataset that extract wrote",
        "match": "dataset that match wrote of it",
        "matched_against": "what it was matched with, where that is not the verified rows",
        "run_metrics": "folder with the NAME.run.json of the stages, where they were measured",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
