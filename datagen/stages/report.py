"""Show a run on HTML pages: the funnel, rates, samples, time, how all of it was made; and any row's whole way.

`datastill report --compare EXP` shows two runs side by side instead, by the metrics that DVC keeps of them.
"""

import shutil
from collections.abc import Mapping
from typing import Any

from datagen.contracts.dataset import content_hash, replace_directory, write_json
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.stage import Run, Stage, main
from datagen.lineage import find_directories
from datagen.report.browser import write_browser
from datagen.report.corpus import corpus_sections
from datagen.report.costs import cost_section, read_runs
from datagen.report.distributions import spread_sections
from datagen.report.domains import domain_section
from datagen.report.extraction import extraction_section
from datagen.report.figures import ALL, count
from datagen.report.graphs import graph_sections
from datagen.report.images import image_sections
from datagen.report.map import pipeline_map
from datagen.report.page import render

PARTS = {  # input to the id of the page's part that shows it
    "prompts": "funnel", "traces": "funnel", "verified": "funnel", "prompts_heldout": "rates", "student": "loss",
    "evaluation": "rates", "corpus": "texts", "encoder_evaluation": "texts", "condensed": "images",
    "image_evaluation": "images", "condensed_graphs": "graphs", "graph_evaluation": "graphs",
    "domain_weights": "domains", "extracted": "extraction", "match": "extraction",
}  # fmt: skip


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
    more = "".join(f'<div id="{part}">{html}</div>\n' for part, html in _parts(run).items() if html)
    writing = run.out.with_name(f".{run.out.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    between = find_directories(made_of["between"]) if "between" in made_of else []
    places = {path: PARTS[name] for name, path in made_of.items() if name not in ("between", "matched_against")}
    places |= dict.fromkeys(between, "funnel")
    for name in folders:
        if folder := run.inputs.get(name):
            places |= dict.fromkeys(find_directories(folder), PARTS[name])
    n_rows = write_browser(
        [*(path for name, path in made_of.items() if name != "between"), *between], writing / "rows.html"
    )
    page = render(figures, more, n_rows, pipeline_map(places), spread_sections(run.inputs["verified"]))
    (writing / "index.html").write_text(page, encoding="utf-8")
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


def _parts(run: Run) -> dict[str, str]:
    """The page's parts besides the funnel's, by id."""
    given = run.inputs.get
    corpus, weights, extracted, match = map(given, ("corpus", "domain_weights", "extracted", "match"))
    against = given("matched_against", run.inputs["verified"])
    metrics = given("run_metrics")
    return {
        "texts": corpus_sections(corpus, given("encoder_evaluation")) if corpus else "",
        "images": image_sections(given("condensed"), given("image_evaluation")),
        "graphs": graph_sections(given("condensed_graphs"), given("graph_evaluation")),
        "domains": domain_section(weights) if weights else "",
        "extraction": extraction_section(extracted, match, against) if extracted and match else "",
        "asked": cost_section(read_runs(metrics)) if metrics else "",
    }


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
