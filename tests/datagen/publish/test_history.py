"""What a card tells of the making; oracle: a pipeline whose every row is known, and the modules' own docstrings."""

import ast
import re
from pathlib import Path

import pytest

from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.errors import DataError
from datagen.contracts.stage import find_methods, find_stages
from datagen.listing import find_families
from datagen.publish.history import Step, read_history
from datagen.publish.papers import Paper, known_papers, modules_of, papers_of, read_module
from tests.datagen.publish.projects import PRICES, add_student, make_project, run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    return make_project(tmp_path / "project")


def test_steps_of_a_pipeline_whose_rows_are_known(pipeline: Path, monkeypatch: pytest.MonkeyPatch):
    """By hand: 12 attempts were answered, 11 and 7 tokens each; every second one passed."""
    monkeypatch.chdir(pipeline)
    found = read_history(Path("data/verified"))
    assert [(step.path, step.stage, step.method) for step in found.steps] == [
        ("data/prompts", "prompts", "instruction_families"), ("data/traces", "traces", "n_samples"),
        ("data/verified", "verify", "instruction_constraints"),
    ]  # fmt: skip
    assert found.published == ["data/verified"] and found.last.parents == {"traces": "data/traces"}
    assert found.steps[1].tokens == (12 * 11, 12 * 7) and found.steps[0].tokens is None
    assert [(one.method, one.n, one.n_passed) for one in found.last.judged] == [("instruction_constraints", 12, 6)]
    assert found.last.rejected == {"keywords:existence": 6}
    assert [(one.role, one.name, one.stage) for one in found.models] == [("teacher", "tiny", "traces")]
    assert found.models[0].sampling == {"temperature": 0.5, "max_new_tokens": 48, "samples_per_prompt": 3}
    assert found.is_synthetic and found.extracted_from is None
    assert [paper.arxiv for paper in found.papers] == ["2311.07911", "2505.14464", "2507.02833"]


def test_costs_are_tokens_at_the_prices_of_the_parameters(project: Path):
    step = read_history(project / "data" / "traces").last
    prompt, completion = step.tokens or (0, 0)
    assert PRICES == ("price_per_million_prompt_tokens=2", "price_per_million_completion_tokens=8")
    assert completion == 20  # one word each
    assert step.cost == pytest.approx((2 * prompt + 8 * completion) / 1e6)
    halved = Step(**{**vars(step), "manifest": {**step.manifest, "params": {**step.params, "batch_price_share": 0.5}}})
    assert halved.cost == pytest.approx((step.cost or 0) / 2)
    assert read_history(project / "data" / "verified").last.cost is None


def test_rows_read_from_a_file_are_not_synthetic(project: Path):
    found = read_history(project / "data" / "prompts")
    assert not found.is_synthetic and found.last.given("raw") == ""
    assert found.last.hashes == {"raw": content_hash(project / "raw" / "questions.jsonl")}


def test_a_student_has_its_evaluations_and_its_data_and_no_other_s(project: Path):
    student = add_student(project)
    add_student(project, "other", seed=1)
    (project / "dvc.yaml").write_text("stages: {}\n")
    found = read_history(student)
    assert [step.path for step in found.steps] == ["data/prompts", "data/traces", "data/verified", "models/student"]
    assert [step.path for step in found.evaluations] == ["data/evaluation_student"]
    assert found.evaluations[0].parents["data"] == "data/prompts"
    answers = read_history(project / "data" / "evaluation_student")
    assert answers.is_synthetic and answers.last.parents == {"data": "data/prompts", "model": "models/student"}
    assert [one.name for one in answers.models if one.role == "student"] == ["student"]


def test_what_was_extracted_leads_back_to_the_student_s_own_data(project: Path):
    """The model that is asked is no input, but its revision is the hash of a student that is here."""
    (project / "dvc.yaml").write_text("stages: {}\n")
    student = add_student(project)
    write_json(
        project / "data" / "extracted" / "manifest.json",
        {
            "format": "datastill", "stage": "extract", "params": {}, "inputs": {},
            "teacher": {"model": "student", "revision": content_hash(student), "backend": "local"},
        },
    )  # fmt: skip
    found = read_history(project / "data" / "extracted")
    assert [step.stage for step in found.steps] == ["prompts", "traces", "verify", "train_lm", "extract"]
    assert found.extracted_from is not None and found.extracted_from.name == "student"
    assert [step.stage for step in found.behind_rows] == ["extract"]


def test_splits_share_their_steps(project: Path):
    run("verify", "--traces", str(project / "data" / "traces"), "--out", str(project / "data" / "strict"),
        "--set", "method=short_answer", "measure=f1")  # fmt: skip
    found = read_history(project / "data" / "verified", project / "data" / "strict")
    assert sorted(step.stage for step in found.steps) == ["prompts", "traces", "verify", "verify"]
    assert len(found.published) == 2 and found.last.path.endswith("verified")


def test_dvc_says_the_command_but_not_of_stages_that_are_gone(project: Path):
    """dvc.lock keeps what dvc.yaml defines no more, and here a plain stage became one for each key."""
    (project / "dvc.yaml").write_text("stages:\n  verify:\n    foreach: [verified]\n    do: {cmd: x}\n")
    out = "{path: data/verified}, {path: metrics/verified.json}"
    (project / "dvc.lock").write_text(
        f"stages:\n  verify:\n    cmd: old\n    outs: [{out}]\n"
        f"  verify@verified:\n    cmd: python -m v --traces data/traces\n    outs: [{out}]\n"
        f"  gone:\n    cmd: gone\n    outs: [{out}]\n"
    )
    (project / "metrics").mkdir()
    (project / "metrics" / "verified.run.json").write_text('{"seconds": 1.5}')
    last = read_history(project / "data" / "verified").last
    assert (last.dvc_stage, last.command[2], last.run) == ("verify@verified", "v", {"seconds": 1.5})
    assert last.given("traces") == "data/traces"


def test_nothing_says_where_it_lies_on_this_machine(project: Path):
    elsewhere = read_history(project / "data" / "verified")
    assert all(str(project) not in step.path for step in elsewhere.steps)


def test_what_no_stage_wrote_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing: not a dataset directory"):
        read_history(tmp_path / "nothing")


def methods() -> list[str]:
    families = [f"{family}.{name}" for family in find_families() for name in find_methods(family)]
    return [*families, *find_stages().values()]


def test_every_paper_of_a_method_has_its_title():
    named = {paper.arxiv for paper in papers_of(methods())}
    assert len(named) > 50 and named <= known_papers().keys()


def test_titles_are_those_of_the_docstrings():
    """`Title. Year. arXiv:NUMBER`, where a docstring has one; it may cut a title short."""
    cited = re.compile(r"(?<=\. )([A-Z][^.]+?)[.?]* (20\d\d)\. arXiv:(\d{4}\.\d{4,5})")
    n_compared = 0
    for module in methods():
        docstring = " ".join((ast.get_docstring(ast.parse(read_module(module))) or "").split())
        for title, year, number in cited.findall(docstring):
            known = known_papers()[number]
            authors = title.endswith(" et al") or re.split(r"\W", title)[0] == re.split(r"\W", known.authors)[0]
            if authors or title in ("AAAI", "ICML", "ICLR"):
                continue
            assert known.title.startswith(title), (module, title)
            assert known.year <= int(year) <= known.year + 1, (module, year)  # of its conference
            n_compared += 1
    assert n_compared > 30


def test_entries_are_bibtex():
    paper = Paper(arxiv="2203.11932", authors="Cazenavette and Wang", title="Dataset Distillation")
    assert paper.bibtex == "\n".join([
        "@misc{cazenavette2203_11932,", "  author = {Cazenavette and Wang},", "  title = {{Dataset Distillation}},",
        "  year = {2022},", "  eprint = {2203.11932},", "  archivePrefix = {arXiv},",
        "  url = {https://arxiv.org/abs/2203.11932},", "}",
    ])  # fmt: skip
    assert "title" not in Paper(arxiv="2203.11932").bibtex
    assert r"{{Methods \& Insights}}" in Paper(arxiv="2203.11932", title="Methods & Insights").bibtex


@pytest.mark.parametrize(
    ("stage", "params", "wanted"),
    [
        ("experts", {"method": "sgd", "net": "convnet2"}, {"condense.experts.sgd", "condense.nets.convnet"}),
        ("train_lm", {"objective": {"forward_kl": 0.5, "supervised": 0.5}, "adapter": "lora"},
         {"trainers.objectives.forward_kl", "trainers.objectives.supervised", "trainers.lora"}),
        ("extract", {"backend": "local"}, {"datagen.backends.local", "datagen.extraction.chat_prefix"}),
        ("domains", {"method": "folder"}, {"datagen.domains.folder", "datagen.filter.near_duplicates"}),
        ("select", {"method": "at_random"}, {"datagen.select.at_random"}),
        ("condense_images", {"method": "at_random"}, {"condense.coresets.at_random"}),
        ("no_such_stage", {"method": "sgd"}, set()),
    ],
)  # fmt: skip
def test_methods_are_those_that_the_parameters_and_the_stage_name(
    stage: str, params: dict[str, object], wanted: set[str]
):
    found = modules_of(stage, params)
    assert set(found[1:]) == wanted and found[:1] == ([find_stages()[stage]] if wanted else [])
