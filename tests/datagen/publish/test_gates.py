"""Gates: a planted fault stops each, and nothing that is ordinary does; DVC's own hashes are the lock's oracle."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.images import ImageRow
from datagen.contracts.licences import made_of, source
from datagen.contracts.records import Document, Prompt, Record, Rejection
from datagen.publish.gate_lock import hash_of_output
from datagen.publish.gates import GATES, Checked, check
from datagen.publish.secret_patterns import LIKELY, find_kinds

RAW = Path(__file__).parents[3] / "data" / "raw"
NOVELS = [
    "The evening sun fell on the old harbour while three fishermen mended their nets without a word.",
    "Nobody in the village remembered who had first planted the walnut tree behind the chapel.",
    "She opened the letter slowly, as if the paper itself might tell her what to expect of it.",
]
EVALUATION = "A train leaves the northern station at nine and covers forty miles in each hour of its way south."


def _write(out: Path, rows: Sequence[Record], record: type[Record] = Document, **manifest: Any) -> Path:
    said = {"stage": "filter", "method": "decontamination", "params": {"n": 13}, "licences": source("a", "data", "mit")}
    with DatasetWriter(out, record, said | manifest) as writer:
        for row in rows:
            writer.read()
            writer.put(row)
    return out


def _documents(texts: Sequence[str]) -> list[Record]:
    return [Document(id=f"row-{i}", text=text) for i, text in enumerate(texts)]


def _check(path: Path, *allow: str, **given: Any) -> Checked:
    return check({"train": path}, allow=allow, stated={}, **given)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Ordinary texts, filtered, under a known licence."""
    return _write(tmp_path / "clean", _documents(NOVELS))


def test_an_ordinary_dataset_passes_every_gate(clean: Path):
    checked = _check(clean)
    assert not checked.refused and not checked.allowed and tuple(checked.passed) == GATES
    assert checked.resolved.licence == "mit"


def _with_secret(text: str) -> list[Record]:
    return _documents([*NOVELS, f"To sign in, use {text} and go on."])


@pytest.mark.parametrize(
    ("gate", "rows", "manifest"),
    [
        ("personal_data", _with_secret("AKIA" + "Q3EGRTX5VZ7NPL2M"), {}),
        ("personal_data", _with_secret("jane.doe@harbour-books.com"), {}),
        ("duplicates", _documents([*NOVELS, NOVELS[1]]), {}),
        ("licence", _documents(NOVELS), {"licences": source("a", "data", "")}),
        ("decontamination", _documents(NOVELS), {"stage": "domains", "method": "rows"}),
    ],
)
def test_one_planted_fault_stops_the_push_by_its_gate_alone(
    tmp_path: Path, gate: str, rows: list[Record], manifest: dict[str, Any]
):
    planted = _write(tmp_path / "planted", rows, **manifest)
    checked = _check(planted)
    assert set(checked.refused) == {gate}
    overridden = _check(planted, gate)
    assert not overridden.refused and overridden.allowed == checked.refused


def test_an_evaluation_row_stops_the_push(clean: Path, tmp_path: Path):
    items = tmp_path / "test.jsonl"
    items.write_text(json.dumps({"id": "item-7", "text": EVALUATION}) + "\n")
    assert "no row shares 13 words" in _check(clean, against=[items]).passed["decontamination"]
    planted = _write(tmp_path / "planted", _documents([*NOVELS, f"Once more. {EVALUATION}"]))
    checked = _check(planted, against=[items])
    assert set(checked.refused) == {"decontamination"}
    assert "'row-3'" in checked.refused["decontamination"] and "'item-7'" in checked.refused["decontamination"]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([{"id": "a", "text": "two words"}], None),
        ([{"id": "a", "text": "seven words are still one word short"}], None),
        (
            [{"id": "a", "text": "two words"}, {"id": "b", "text": "these eight words are just enough to compare"}],
            "1 of 2",
        ),
        ([{"id": "a", "prompt": "What then?", "reference": EVALUATION}], "1 of 1"),
    ],
)
def test_evaluation_items_too_short_to_compare_are_no_check(
    clean: Path, tmp_path: Path, items: list[dict[str, str]], says: str | None
):
    file = tmp_path / "short.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    checked = _check(clean, against=[file])
    if says:
        assert f"({says} items are long enough to compare, with 8 words or more)" in checked.passed["decontamination"]
    else:
        assert "none of its 1 items has 8 words or more" in checked.refused["decontamination"]


def test_a_changed_file_stops_the_push_by_schema(clean: Path):
    shard = clean / "part-00000.parquet"
    pl.read_parquet(shard).with_columns(text=pl.lit("another")).write_parquet(shard)
    assert "part-00000.parquet was changed" in _check(clean).refused["schema"]


def test_a_file_that_no_stage_wrote_stops_the_push(clean: Path):
    (clean / "notes.txt").write_text("mine")
    assert "notes.txt is not in manifest.json" in _check(clean).refused["schema"]


def test_counts_and_columns_are_the_manifest_s(clean: Path):
    manifest = json.loads((clean / "manifest.json").read_text())
    for change, said in (({"rows": {"in": 4, "out": 4, "rejected": 0}}, "holds 3 rows"), ({"schema": {}}, "")):
        (clean / "manifest.json").write_text(json.dumps(manifest | change))
        refused = _check(clean).refused
        assert said in refused["schema"] if said else not refused
    (clean / "manifest.json").write_text(json.dumps(manifest | {"schema": {**manifest["schema"], "text": "Int64"}}))
    assert "'text' is String, not Int64" in _check(clean).refused["schema"]


def test_every_gate_is_asked_though_one_refuses(tmp_path: Path):
    rows = _documents([*NOVELS, NOVELS[0], "write to jane@harbour-books.com"])
    planted = _write(tmp_path / "planted", rows, stage="domains", licences=source("a", "data", ""))
    (planted / "part-00000.parquet").write_bytes(b"no parquet")
    assert set(_check(planted).refused) == set(GATES) - {"lock"}


def _project(folder: Path) -> Path:
    """A DVC project without git, whose output is a dataset; the stage has run."""
    folder.mkdir()
    _write(folder / "made", _documents(NOVELS))
    (folder / "dvc.yaml").write_text("stages:\n  copy:\n    cmd: cp -r made data\n    deps: [made]\n    outs: [data]\n")
    for command in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True, timeout=120)
    return folder / "data"


def test_the_lock_is_dvc_s_own(tmp_path: Path):
    data = _project(tmp_path / "project")
    locked = re.search(r"md5: (\w+\.dir)\n", (tmp_path / "project" / "dvc.lock").read_text().partition("outs:")[2])
    assert locked and hash_of_output(data) == locked[1]
    assert locked[1][:12] in _check(data).passed["lock"]
    _write(data, _documents(NOVELS[:2]))  # by hand: the dataset is whole, and not what DVC has
    checked = _check(data)
    assert set(checked.refused) == {"lock"} and "`dvc repro`" in checked.refused["lock"]
    (tmp_path / "project" / "dvc.lock").unlink()
    assert "no hash" in _check(data).refused["lock"]
    assert "not applicable" in _check(tmp_path / "project" / "made").passed["lock"]


def test_an_output_of_a_template_that_never_ran_is_found(tmp_path: Path):
    data = _write(tmp_path / "data" / "small", _documents(NOVELS))
    stages = {"make": {"foreach": ["small"], "do": {"cmd": "x", "outs": ["data/${item}"]}}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    assert "no hash" in _check(data).refused["lock"]


def test_a_filter_on_every_way_to_the_rows_is_enough_and_on_one_of_two_is_not(tmp_path: Path):
    filtered = _write(tmp_path / "filtered", _documents(NOVELS), **made_of({}, source("a", "data", "mit")))
    other = _write(tmp_path / "other", _documents(NOVELS[:1]), stage="domains", method="rows")
    for name, inputs, is_refused in (("one", {"a": filtered}, False), ("both", {"a": filtered, "b": other}, True)):
        mixed = _write(tmp_path / name, _documents(NOVELS), stage="mix", method=None, **made_of(inputs))
        assert ("decontamination" in _check(mixed).refused) == is_refused
    compared = made_of({"a": filtered, "validation": other})
    assert not _check(_write(tmp_path / "third", _documents(NOVELS), stage="mix", method=None, **compared)).refused


def test_rows_of_two_splits_are_compared(clean: Path, tmp_path: Path):
    test = _write(tmp_path / "test", [Document(id="t", text=NOVELS[0])])
    checked = check({"train": clean, "test": test}, allow=(), stated={})
    assert set(checked.refused) == {"duplicates"}


def test_near_duplicates_are_refused_above_their_share(tmp_path: Path):
    long = " ".join(NOVELS)
    apples = [f"{i} {i + 1} {i * 7} apples" for i in range(60)]
    few = _write(tmp_path / "few", _documents([*apples, long, f"{long} Yes."]))
    assert "1 are nearly another" in _check(few).passed["duplicates"]
    many = _write(tmp_path / "many", _documents([long, f"{long} Yes.", *NOVELS[:1]]))
    assert "more than 5%" in _check(many).refused["duplicates"]


def test_side_tables_and_rejections_are_looked_at_too(tmp_path: Path):
    dropped = Rejection(id="x", stage="filter", reason="bad", detail="of jane@harbour-books.com")
    planted = _write(tmp_path / "planted", [*_documents(NOVELS), dropped])
    assert "rejections.parquet, row 0 ('x'), detail (e-mail address)" in _check(planted).refused["personal_data"]


def test_ids_and_files_beside_the_tables_are_looked_at(tmp_path: Path):
    named = [Document(id="jane@harbour-books.com", text=NOVELS[0]), Document(id="4539148803436467", text=NOVELS[1])]
    said = _check(_write(tmp_path / "named", named)).refused["personal_data"]
    assert "holds e-mail address 1;" in said and ", id (e-mail address)" in said  # an id's digits are no card
    with DatasetWriter(tmp_path / "page", Document, {"stage": "x", "licences": source("a", "data", "mit")}) as writer:
        writer.attach("page.html", f"<p>\n<a href='ftp://me:{'s3cr'}3t@files.harbour.net'>")
    assert "page.html:2 (password in an address)" in _check(tmp_path / "page").refused["personal_data"]


def test_an_exported_row_that_is_there_twice_stops_the_push(tmp_path: Path):
    again = [Document(id="a", text=NOVELS[0]), Document(id="b", text=NOVELS[0])]
    for rows, is_refused in ((again, True), (again[:1], False)):
        data = _write(tmp_path / f"{is_refused}", rows)
        manifest = json.loads((data / "manifest.json").read_text())
        (data / "manifest.json").write_text(json.dumps(manifest | {"stage": "export", "record": "sft"}))
        assert ("duplicates" in _check(data, "decontamination").refused) == is_refused


def test_what_is_in_messages_is_found_and_the_secret_is_not_told(tmp_path: Path):
    secret = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"My token is {secret}."}]
    said = _check(_write(tmp_path / "planted", [Prompt(id="p", messages=messages)], Prompt)).refused  # type: ignore[list-item]
    assert "part-00000.parquet, row 0 ('p'), messages (Hugging Face token)" in said["personal_data"]
    assert secret not in str(said)


def test_images_pass_where_there_is_no_text_and_are_stopped_where_one_repeats(tmp_path: Path):
    rows = [ImageRow(id=f"i{i}", image={"bytes": bytes([i] * 9), "path": None}, label=0) for i in range(3)]
    checked = _check(_write(tmp_path / "images", rows, ImageRow, stage="images", method="digits"))
    assert not checked.refused and checked.passed["decontamination"] == "not applicable: no texts"
    again = [*rows, ImageRow(id="again", image={"bytes": bytes([1] * 9), "path": None}, label=1)]
    assert "1 images repeat another" in _check(_write(tmp_path / "again", again, ImageRow)).refused["duplicates"]


def test_what_cannot_be_asked_for_is_refused_before_anything_is_looked_at(clean: Path, tmp_path: Path):
    with pytest.raises(ParamsError, match="--allow secrets: no such gate; there are lock, schema"):
        _check(clean, "secrets")
    with pytest.raises(DataError, match="no such file"):
        _check(clean, against=[tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="not a dataset directory"):
        _check(tmp_path)


SECRETS = {
    "AWS key": "ASIA" + "Q3EGRTX5VZ7NPL2M",
    "GitHub token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "OpenAI or Anthropic key": "sk-proj-" + "T3BlbkFJx8Qw2Zr5Kd9L",
    "Google key": "AIza" + "SyD4x9Q2m7R1t6V8b3N5k0L2p4W6z8C1e3G",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq98",
    "password in an address": "postgres://admin:hunter2@db.harbour.net/books",
    "card number": "4539 1488 0343 6467",  # a right Luhn digit, of Visa's range
    "IBAN": "DE89 3704 0044 0532 0130 00",  # the registry's own example
    "IP address": "185.199.108.153",
    "phone number": "+49 30 901820",
    "e-mail address": "jane@harbour-books.com",
}
ORDINARY = [
    "jane@example.com, root@localhost", "user@site.com", "call 212-555-0142",
    "version 4.11.2.1 of section 1.2.3.4", "at 10.0.0.1",
    "192.168.178.200", "127.0.0.1:8000", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "4539 1488 0343 6468", "1234567890123456",
    "https://example.org/a:b@c", "the user@ sign", "0.3333333333333333", "5555-5555",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "task-123456789012345678901234",
    "-----BEGIN PRIVATE KEY----- stands at the head", "2026-11-28 06:02:52", "hf_hub_download(repo_id, filename)",
    "DE89 3704 0044 0532 0130 01",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), SECRETS.items())
def test_each_kind_is_found_in_a_sentence(kind: str, text: str):
    found = set(find_kinds(f"It is {text}, as said."))
    assert found - {"e-mail address"} == {kind} - {"e-mail address"} and kind in found


@pytest.mark.parametrize("text", ORDINARY)
def test_what_looks_alike_is_not_taken_for_one(text: str):
    assert not list(find_kinds(f"It is {text}, as said."))


def test_the_quick_look_passes_over_nothing(tmp_path: Path):
    texts = pl.Series([f"It is {text}, as said." for text in SECRETS.values()])
    assert texts.str.contains(LIKELY).all()


def _raw_texts() -> Iterator[tuple[str, str]]:
    for file in sorted(RAW.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield file.name, line


def test_of_the_raw_material_only_the_two_addresses_of_authors_are_found():
    """Novels, speeches, laws, abstracts, word problems, comments and code: python's optparse names two people."""
    found = [(name, kind) for name, line in _raw_texts() for kind in find_kinds(line)]
    assert found == [("code.jsonl", "e-mail address")] * 2


def test_the_quick_look_sees_in_the_raw_material_what_the_slow_one_does():
    lines = [line for _, line in _raw_texts()]
    likely = pl.Series(lines).str.contains(LIKELY)
    assert not [line for line, is_likely in zip(lines, likely, strict=True) if not is_likely and list(find_kinds(line))]


def test_a_hash_is_of_the_whole_folder(clean: Path):
    before = content_hash(clean), hash_of_output(clean)
    (clean / "more").write_text("x")
    assert before[0] == content_hash(clean) and before[1] != hash_of_output(clean)
