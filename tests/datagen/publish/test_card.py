"""The card of a dataset.

Oracles: huggingface_hub and datasets read its metadata, markdown-it its text; its own commands make the dataset again.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import polars as pl
import pytest
import yaml
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt

from datagen.contracts.dataset import content_hash, write_json
from datagen.publish.card import dataset_card
from datagen.publish.facts import licence_fields, size_category, title_of
from datagen.publish.folder import lay_out
from datagen.publish.history import read_history
from datagen.publish.layout import Layout
from datagen.publish.licences import Resolved
from datagen.publish.picture import pipeline_svg
from tests.datagen.publish.projects import add_student, checked, run
from tests.hub_server import HubServer

DATASTILL = Path(sys.executable).with_name("datastill")


def carded(folder: Path, *paths: Path, **allowed: str) -> tuple[Layout, str]:
    """The folder in the Hub's form, with its card."""
    folder.mkdir()
    splits: dict[str, Path] = dict(zip(("train", "test"), paths, strict=False))
    layout, history = lay_out(splits, folder), read_history(*paths)
    text = dataset_card(layout, history, checked(**allowed), repo="org/colours")
    (folder / "README.md").write_text(text)
    (folder / "pipeline.svg").write_text(pipeline_svg(history))
    return layout, text


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_hub_s_own_library_reads_the_metadata(project: Path, tmp_path: Path):
    layout, _ = carded(tmp_path / "folder", project / "data" / "verified")
    data: Any = DatasetCard.load(layout.folder / "README.md").data
    assert (data.pretty_name, data.license) == ("Verified answers of scripted", "cc-by-4.0")
    assert (data.size_categories, data.task_categories) == (["n<1K"], ["text-generation"])
    assert data.tags == ["datastill", "synthetic"] and data.source_datasets == ["original"]
    assert [one["config_name"] for one in data.configs] == ["default", "rejected", "rejections", "verdicts"]


def test_the_hub_validates_it(project: Path, tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    layout, _ = carded(tmp_path / "folder", project / "data" / "verified")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    DatasetCard.load(layout.folder / "README.md").validate(repo_type="dataset")
    assert hub.asked["validate-yaml"] == 1


def test_datasets_loads_every_config_as_the_card_says(project: Path, tmp_path: Path):
    """`datasets` checks the numbers of rows that the metadata names, and takes columns and files from it."""
    layout, text = carded(tmp_path / "folder", project / "data" / "verified", project / "data" / "traces")
    loading = re.findall(r"= (load_dataset\(.*\))", section(text, "Load it"))
    assert len(loading) == len(layout.configs) == 4
    for config in layout.configs:
        found = datasets.load_dataset(str(layout.folder), config, cache_dir=str(tmp_path / "cache"))
        assert {str(split): rows.num_rows for split, rows in found.items()} == dict(layout.n_rows[config])  # pyright: ignore
    rows = datasets.load_dataset(str(layout.folder), split="train", cache_dir=str(tmp_path / "cache"))
    wanted = pl.read_parquet(project / "data" / "verified" / "part-*.parquet")
    assert rows["completion"][:] == wanted["completion"].to_list()  # pyright: ignore


def test_its_commands_make_the_dataset_again(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Elsewhere, with nothing but what the card says and the file that it names: the same manifest, to the byte."""
    _, text = carded(tmp_path / "folder", project / "data" / "verified")
    told = section(text, "Make it again")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    raw = project / "raw" / "questions.jsonl"
    name = re.search(r"--raw (\S+)", told)
    assert name and content_hash(raw) in told and str(project) not in text
    shutil.copy(raw, elsewhere / "questions.jsonl")
    (elsewhere / "params.yaml").write_text(re.findall(r"```yaml\n(.*?)```", told, re.DOTALL)[0])
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    for command in re.findall(r"```bash\n(.*?)```", told, re.DOTALL)[0].splitlines():
        program, *words = shlex.split(command.replace(name[1], "questions.jsonl"))
        assert program == "datastill"
        subprocess.run([DATASTILL, *words], cwd=elsewhere, check=True, capture_output=True)
    made = elsewhere / "data" / "verified"
    assert content_hash(made) == content_hash(project / "data" / "verified")
    assert f"`{content_hash(made)}`" in told


def test_sections_tell_the_run_in_numbers_counted_by_hand(project: Path, tmp_path: Path):
    _, text = carded(tmp_path / "folder", project / "data" / "verified")
    verdicts = pl.read_parquet(project / "data" / "verified" / "verdicts.parquet")
    n_passed = verdicts.filter(pl.col("status") == "pass").height
    share = f"{100 * n_passed / 20:.1f} %"
    assert 0 < n_passed < 20
    assert "| `short_answer` | A short answer against the reference" in section(text, "Checks of the rows")
    assert f"| 20 | {n_passed} | {share} |" in section(text, "Checks of the rows")
    funnel = section(text, "Rows kept and dropped")
    assert f"| `verify` | 20 | {n_passed} | {20 - n_passed} | {100 - 100 * n_passed / 20:.1f} % |" in funnel
    assert f"| `verify` | `wrong_answer` | {20 - n_passed} |" in funnel
    rows = pl.read_parquet(project / "data" / "traces" / "part-*.parquet")
    tokens = int(rows["n_prompt_tokens"].sum()), int(rows["n_completion_tokens"].sum())
    cost = (2 * tokens[0] + 8 * tokens[1]) / 1e6
    assert f"| `traces` | 20 | {tokens[0]} | {tokens[1]} | {cost:.4g} |" in section(text, "Cost")
    assert f"{cost / n_passed:.4g} a row" in section(text, "Cost")
    assert "| teacher | `traces` | `scripted` |" in section(text, "Models")
    assert "backend" not in section(text, "Checks of the rows") and "arXiv" in section(text, "Citation")
    assert "cc-by-4.0, as its publisher states | Copyright (c) 2026 \\| A. B. |" in section(text, "Licence")
    assert f"| `completion` | 0 | 1 | characters | 3 | 3 | 3 | `red` {n_passed} |" in section(text, "Statistics")
    assert section(text, "Evaluation sets").strip() == "Decontamination: nothing was found."
    assert "overridden" not in text and "Extracted" not in text


def test_a_gate_that_was_overridden_is_said_first_and_again(project: Path, tmp_path: Path):
    said = "data/verified: 2 rows are equal; filter them"
    layout, text = carded(
        tmp_path / "folder", project / "data" / "verified", duplicates=said, decontamination="unknown"
    )
    before = text.partition("\n## ")[0]
    assert "Published over 2 failed checks" in before and f"`duplicates`: {said}" in before
    assert f"| `duplicates` | **overridden** | {said} |" in section(text, "Checks before publishing")
    assert "failed and was overridden. unknown" in section(text, "Evaluation sets")
    assert "- The check `duplicates` failed and was overridden." in section(text, "Known limits")
    assert layout.folder.exists()


def test_personal_data_that_is_published_all_the_same_is_not_said_in_the_card(project: Path, tmp_path: Path):
    _, text = carded(tmp_path / "folder", project / "data" / "verified", personal_data="an address in row q0")
    assert "## An example" not in text and "What colour has thing" not in text
    assert "| `completion` | 0 | 1 | characters | 3 | 3 | 3 |  |" in section(text, "Statistics")  # `red` in all rows
    assert "`red`" not in text


def test_both_splits_are_made_again(project: Path, tmp_path: Path):
    paths = [project / "data" / name for name in ("verified", "traces")]
    _, text = carded(tmp_path / "folder", *paths)
    for path in paths:
        assert f"`{content_hash(path)}` of `data/{path.name}/manifest.json`" in section(text, "Make it again")


def test_extracted_text_is_said_to_keep_its_source_s_licence(project: Path, tmp_path: Path):
    extracted = tmp_path / "data" / "extracted"
    shutil.copytree(project / "data" / "traces", extracted)
    manifest = yaml.safe_load((extracted / "manifest.json").read_text())
    student = add_student(project)
    teacher = {"model": "student", "revision": content_hash(student), "backend": "local"}
    write_json(extracted / "manifest.json", manifest | {"stage": "extract", "inputs": {}, "teacher": teacher})
    shutil.copytree(project / "data", tmp_path / "data", dirs_exist_ok=True)
    shutil.copytree(project / "models", tmp_path / "models")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    _, text = carded(tmp_path / "folder", extracted)
    assert "keeps the licence of the data that it is from" in text.partition("\n## ")[0]
    assert "- extracted\n" in text.partition("\n---\n")[0]
    assert "**train_lm**" in section(text, "How it was made") and "verifier" not in section(text, "Checks of the rows")


def test_a_hostile_row_stays_text(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The only HTML is that of the folded parts, whatever rows, reasons and sources say."""
    monkeypatch.chdir(pipeline)
    _, text = carded(
        tmp_path / "folder", Path("data/verified"), lock="<img src=x onerror=alert(1)> | [b](javascript:1)"
    )
    tokens = MarkdownIt("commonmark").enable("table").parse(text.partition("\n---\n")[2])
    inline = [one for token in tokens for one in [token, *(token.children or [])]]
    html = {one.content.strip() for one in inline if one.type in ("html_block", "html_inline")}
    assert all(re.fullmatch(r"(</?details>\n?)?(<summary>[\w.]+</summary>)?", one) for one in html)
    assert not [one for one in inline if one.type == "link_open" and "javascript" in str(one.attrs.get("href"))]
    assert "alert('x')" in section(text, "An example")


def test_a_condensed_set_says_what_it_stands_for_and_what_networks_learn_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An evaluation of all sets of a folder names the one that is published by its own name."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    images, condensed = tmp_path / "data" / "images", tmp_path / "data" / "condensed" / "matched"
    run("images", "--out", str(images), "--set", "method=digits", "max_images=60")
    run("condense_images", "--images", str(images), "--out", str(condensed), "--set", "method=distribution_matching",
        "iterations=1", "images_per_class=1", "n_threads=1", "net=convnet2", "transform=standard")  # fmt: skip
    of = {"mean": 0.5, "low": 0.25, "high": 0.75}
    nets = {"mlp": {"accuracy": of, "over_random": of, "over_best_coreset": {"mean": -0.5, "low": -0.75, "high": 0}}}
    figures = {"condensed": {"matched": {"regimes": {"hard": nets}}, "other": {"regimes": {"hard": {"vit": {}}}}}}
    evaluation: dict[str, Any] = {"format": "datastill", "stage": "evaluate_images", "params": {}, "files": {}}
    evaluation |= {"inputs": {"condensed": content_hash(condensed.parent)}, "figures": figures}
    write_json(tmp_path / "data" / "evaluation" / "manifest.json", evaluation)
    layout, text = carded(tmp_path / "folder", condensed)
    n_bytes = json.loads((condensed / "manifest.json").read_text())["bytes"]["total"]
    assert f"They stand for the 60 rows of `data/images`, in {n_bytes:,} bytes" in text.partition("\n## ")[0]
    learned = section(text, "What networks learn from it")
    assert (
        "| `mlp` | 0.5000 (0.2500 to 0.7500) | +0.5000 (+0.2500 to +0.7500) | -0.5000 (-0.7500 to +0.0000) |" in learned
    )
    assert "vit" not in learned
    assert "`datastill train_image --images datastill/train " in section(text, "Load it")
    assert (layout.folder / "datastill" / "train" / "condensed.safetensors").is_file()
    assert "no samples of the data that they stand for" in section(text, "Known limits")
    assert "image-classification" in text.partition("\n---\n")[0] and "language" not in text.partition("\n---\n")[0]


@pytest.mark.parametrize(
    ("n", "wanted"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**12, "n>1T")],
)
def test_size_categories_are_the_hub_s(n: int, wanted: str):
    assert size_category(n) == wanted


def test_licences_outside_the_hub_s_list_have_name_and_link():
    url = "https://ai.google.dev/gemma/terms"
    other = Resolved(licence="other", name="gemma and cc-by-nc-4.0", url="", sources=(), refused=None)
    assert licence_fields(other) == {"license": "other", "license_name": "gemma and cc-by-nc-4.0"}
    named = Resolved(licence="other", name="x", url=url, sources=(), refused=None)
    assert licence_fields(named) == {"license": "other", "license_name": "x", "license_link": url}
    refused = Resolved(licence=None, name="", url="", sources=(), refused="nothing says it")
    assert licence_fields(refused) == {"license": "unknown"}


def test_titles_say_what_was_done(project: Path):
    titles = {name: title_of(read_history(project / "data" / name)) for name in ("prompts", "traces", "verified")}
    assert titles == {
        "prompts": "Prompts by user_rows", "traces": "Answers of scripted", "verified": "Verified answers of scripted",
    }  # fmt: skip
