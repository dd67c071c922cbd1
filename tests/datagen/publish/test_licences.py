"""What licences add up to, against what Creative Commons, the FSF and the models' terms say of each pair."""

from pathlib import Path

import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import ParamsError
from datagen.contracts.licences import join, source
from datagen.contracts.records import Document
from datagen.publish.gates import Checked
from datagen.publish.licences import RULES, Resolved, resolve
from datagen.publish.sections import licence


def _dataset(out: Path, *licences: str, kind: str = "data") -> Path:
    made = join(*(source(f"source {i}", kind, licence) for i, licence in enumerate(licences)))  # type: ignore[arg-type]
    with DatasetWriter(out, Document, {"stage": "domains", "licences": made}):
        pass
    return out


def _resolve(folder: Path, *licences: str) -> Resolved:
    return resolve(_dataset(folder / "data", *licences), stated={})


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["public-domain", "cc0-1.0"], "cc0-1.0"),
        (["public-domain", "mit"], "mit"),
        (["mit", "apache-2.0", "bsd-3-clause"], "apache-2.0"),
        (["apache-2.0", "cc-by-4.0", "psf-2.0", "cc0-1.0"], "cc-by-4.0"),
        (["cc-by-3.0", "cc-by-4.0"], "cc-by-4.0"),
        (["cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"], "cc-by-sa-4.0"),  # a later version
        (["cc-by-sa-4.0", "gpl-3.0"], "gpl-3.0"),  # one way, says Creative Commons' list of compatible licences
        (["apache-2.0", "gpl-3.0"], "gpl-3.0"),  # the FSF's list
        (["lgpl-2.1", "gpl-2.0", "cc-by-4.0"], "gpl-2.0"),
        (["lgpl-2.1", "gpl-3.0"], "gpl-3.0"),  # its section 3
        (["cc-by-nc-4.0", "cc-by-4.0", "mit"], "cc-by-nc-4.0"),
        (["cc-by-nc-4.0", "cc-by-nc-sa-3.0"], "cc-by-nc-sa-4.0"),
        (["gemma", "apache-2.0", "cc-by-4.0"], "gemma"),
        (["llama3.1", "public-domain"], "llama3.1"),
        (["odbl", "mit"], "odbl"),
        (["odc-by", "cc-by-4.0", "mit"], "odc-by"),  # its section 4.2(a): only under its own terms
    ],
)
def test_the_most_demanding_licence_that_takes_all(tmp_path: Path, licences: list[str], expected: str):
    found = _resolve(tmp_path, *licences)
    assert (found.licence, found.name, found.url, found.refused) == (expected, expected, RULES[expected].url, None)
    assert _resolve(tmp_path, *reversed(licences)).licence == expected


@pytest.mark.parametrize(
    ("licences", "name"),
    [
        (["psf-2.0", "mit"], "psf-2.0"),
        (["gemma", "llama3.1"], "gemma and llama3.1"),
        (["gemma", "cc-by-nc-4.0", "mit"], "gemma and cc-by-nc-4.0"),
    ],
)
def test_what_the_hub_s_list_lacks_is_other_with_its_name(tmp_path: Path, licences: list[str], name: str):
    found = _resolve(tmp_path, *licences)
    assert (found.licence, found.name) == ("other", name)


@pytest.mark.parametrize(
    "licences",
    [
        ["cc-by-sa-4.0", "cc-by-nc-4.0"], ["cc-by-sa-4.0", "gemma"], ["gpl-2.0", "apache-2.0"], ["gpl-2.0", "gpl-3.0"],
        ["gpl-3.0", "cc-by-nc-4.0"], ["odbl", "cc-by-sa-4.0"], ["cc-by-sa-3.0", "gpl-3.0"], ["gpl-3.0", "llama3.1"],
        ["cc-by-4.0", "odbl"], ["cc-by-3.0", "cdla-sharing-1.0"],  # OpenStreetMap asks owners for a waiver
        ["odc-by", "odbl"], ["odc-by", "cc-by-nc-4.0"], ["odc-by", "gemma"],  # no further restrictions, says its 4.4
        ["gpl-3.0", "agpl-3.0"],  # combined, each part stays under its own: section 13
    ],
)  # fmt: skip
def test_pairs_that_exclude_each_other_are_refused_by_name(tmp_path: Path, licences: list[str]):
    found = _resolve(tmp_path, "mit", *licences)
    assert found.licence is None and found.refused
    assert all(licence in found.refused for licence in licences) and "publish them apart" in found.refused


def test_no_derivatives_are_refused(tmp_path: Path):
    found = _resolve(tmp_path, "mit", "cc-by-nd-4.0")
    assert found.licence is None and "'source 1' is under cc-by-nd-4.0" in str(found.refused)


def test_unknown_blocks_until_it_is_stated(tmp_path: Path):
    data = _dataset(tmp_path / "data", "mit", "")
    found = resolve(data, stated={})
    assert found.licence is None and "--licence-of 'source 1'=ID" in str(found.refused)
    found = resolve(data, stated={"source 1": "CC BY 4.0"})
    assert found.licence == "cc-by-4.0" and [one.stated for one in found.sources] == [False, True]


def test_a_licence_without_a_rule_is_refused_with_its_name(tmp_path: Path):
    found = _resolve(tmp_path, "our-own-terms")
    assert found.licence is None and "'our-own-terms'" in str(found.refused)


def test_a_judge_and_what_is_compared_bind_nothing(tmp_path: Path):
    data = tmp_path / "data"
    made = source("a", "data", "mit") | source("b", "judge", "") | source("c", "compared", "cc-by-nd-4.0")
    with DatasetWriter(data, Document, {"licences": made}):
        pass
    found = resolve(data, stated={})
    assert found.licence == "mit" and {one.name for one in found.sources} == {"a", "b", "c"}


def test_a_dataset_that_names_no_source_is_refused(tmp_path: Path):
    with DatasetWriter(tmp_path / "data", Document, {}):
        pass
    assert resolve(tmp_path / "data", stated={}).licence is None
    assert resolve(tmp_path / "data", stated={"rows": "mit"}).licence == "mit"


@pytest.mark.parametrize("known", ["gemma", "cc-by-nd-4.0", "mit"])
def test_a_publisher_s_word_does_not_change_a_known_licence(tmp_path: Path, known: str):
    data = _dataset(tmp_path / "data", known, "our-own-terms")
    with pytest.raises(ParamsError, match=rf"'source 0'=apache-2\.0: its manifest says {known}.*--allow licence"):
        resolve(data, stated={"source 0": "apache-2.0"})
    found = resolve(data, stated={"source 0": known, "source 1": "mit"})  # the same again, and one without a rule
    assert [one.stated for one in found.sources] == [False, True]


def test_what_only_judges_were_named_for_has_no_licence(tmp_path: Path):
    judged = _dataset(tmp_path / "judged", "cc0-1.0", kind="judge")
    found = resolve(judged, stated={})
    assert found.licence is None and "--licence-of rows=ID" in str(found.refused)
    assert resolve(judged, stated={"rows": "cc-by-4.0"}).licence == "cc-by-4.0"


def test_paths_in_manifests_are_named_by_their_last_part(tmp_path: Path):
    made = source("/srv/ann/tiny", "teacher", "") | source("/home/bob/tiny", "data", "mit")
    with DatasetWriter(tmp_path / "data", Document, {"licences": made}):
        pass
    found = resolve(tmp_path / "data", stated={})
    assert {one.name: one.licence for one in found.sources} == {"tiny": "mit", "tiny 2": "unknown"}
    assert found.refused and "ann" not in found.refused


@pytest.mark.parametrize(
    ("teacher", "base", "expected"),
    [
        ("llama3", "apache-2.0", None), ("llama2", "llama3", None), ("llama3", "llama3.1", None), ("llama3", "", None),
        ("llama3", "llama3", "llama3"), ("llama3.1", "apache-2.0", "llama3.1"), ("mit", "llama3", "llama3"),
    ],
)  # fmt: skip
def test_a_student_of_llama_2_or_3_is_refused_unless_it_is_one_itself(
    tmp_path: Path, teacher: str, base: str, expected: str | None
):
    """Section 1(b)(v) of their licences; those of Llama 3.1 and later lack it."""
    made = source("theirs", "teacher", teacher) | (source("start", "base", base) if base else {})
    for name in ("student", "rows"):
        with DatasetWriter(tmp_path / name, Document, {"licences": made}):
            pass
    (tmp_path / "student" / "config.json").write_text("{}")
    found = resolve(tmp_path / "student", stated={})
    assert found.licence == expected
    if expected is None:
        assert f"start from a model under {teacher}" in str(found.refused)
    if not base:  # rows are no model
        assert resolve(tmp_path / "rows", stated={}).licence == teacher


def test_the_card_says_what_each_licence_that_binds_asks(tmp_path: Path):
    data = tmp_path / "data"
    made = source("a", "data", "mit") | source("b", "teacher", "llama3.1") | source("c", "judge", "gemma")
    with DatasetWriter(data, Document, {"licences": made}):
        pass
    checked = Checked(refused={}, allowed={}, passed={}, resolved=resolve(data, stated={}))
    _, _, told = licence(checked).partition("What each asks")
    assert "a name that begins with Llama" in told and "[mit](https://opensource.org/license/mit)" in told
    assert "gemma" not in told


def test_the_parts_of_a_dataset_count_together(tmp_path: Path):
    first = _dataset(tmp_path / "train", "mit")
    with DatasetWriter(tmp_path / "test", Document, {"licences": source("other", "data", "cc-by-nc-4.0")}):
        pass
    assert resolve(first, tmp_path / "test", stated={}).licence == "cc-by-nc-4.0"


def test_a_stated_source_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"--licence-of mine: no such source; there are source 0"):
        resolve(_dataset(tmp_path / "data", "mit"), stated={"mine": "mit"})


def test_every_rule_has_a_source_and_leads_to_licences_that_have_one():
    for name, rule in RULES.items():
        assert rule.says and rule.url.startswith("http"), name
        assert {*rule.into, *rule.not_into} <= RULES.keys(), name
