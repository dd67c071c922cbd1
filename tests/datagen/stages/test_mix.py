"""The stage `mix`; oracles: shares by hand, the largest remainder by a plain sort, tokens by regular expression."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.stage import main
from datagen.stages.domains import STAGE as DOMAINS
from datagen.stages.mix import STAGE, Config, _Domain, _set_targets  # pyright: ignore[reportPrivateUsage]
from tests.datagen.stages.conftest import table, write
from tests.word_tokenizer import pieces, write_word_tokenizer

pytestmark = pytest.mark.usefixtures("own_home")

SIZES = {"code": 10, "law": 40, "prose": 160}
"""Rows of each domain; row i has i % 7 + 1 words."""


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    rows = [
        {"id": f"{name}/{i}", "text": " ".join([name] * (i % 7 + 1)), "domain": name, "licence": "MIT", "source": "s"}
        for name, n in SIZES.items()
        for i in range(n)
    ]
    return write(tmp_path / "texts.jsonl", rows)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_word_tokenizer(tmp_path / "words", ["code law prose"])


def run(domains: Path, tokenizer: Path, out: Path, *settings: str, weights: Path | None = None) -> int:
    arguments = ["--domains", str(domains), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    arguments += ["--weights", str(weights)] if weights else []
    return main(STAGE, [*arguments, "--set", f"tokenizer={tokenizer}", *settings])


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


def tokens(rows: list[dict[str, Any]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["domain"]] += len(pieces(row["text"]))
    return counts


def test_shares_of_tokens_within_one_text(domains: Path, tokenizer: Path, tmp_path: Path):
    """Weights 1 : 1 : 2 of 400 tokens; the longest text has 13: seven words, six spaces. Rows are as they came."""
    out = tmp_path / "out"
    assert run(domains, tokenizer, out, "n_tokens=400", "weights={law: 1, code: 1, prose: 2}") == 0
    rows = table(out)
    found = tokens(rows)
    for name, target in {"law": 100, "code": 100, "prose": 200}.items():
        assert abs(found[name] - target) <= 13
        assert metrics(out)["domains"][name]["tokens"] == found[name]
    given = {row["id"]: row for row in map(json.loads, domains.read_text().splitlines())}
    for row in rows:
        original = given[row["id"].partition("@")[0]]
        assert all(row[key] == original[key] for key in ("text", "domain", "licence", "source"))


def test_what_the_stage_domains_wrote(domains: Path, tokenizer: Path, tmp_path: Path):
    """Its dataset is read, and every column of its rows goes through."""
    texts = [json.loads(line) for line in domains.read_text().splitlines()]
    raw = write(tmp_path / "raw.jsonl", [row | {"text": f"{row['text']} {'a' * i}"} for i, row in enumerate(texts)])
    made = tmp_path / "made"
    settings = ["method=rows", "split=all", f"tokenizer={tokenizer}", "max_unknown_share=1", "duplicate_threshold=1"]
    assert main(DOMAINS, ["--raw", str(raw), "--out", str(made), "--set", *settings]) == 0
    out = tmp_path / "out"
    assert run(made, tokenizer, out, "n_rows=30", "mixture=uniform") == 0
    given = {row["id"]: row for row in table(made)}
    assert all(row == given[row["id"]] for row in table(out))
    assert Counter(row["domain"] for row in table(out)) == dict.fromkeys(SIZES, 10)


def test_every_beginning_has_the_shares(domains: Path, tokenizer: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run(domains, tokenizer, out, "n_tokens=600", "weights={law: 1, code: 1, prose: 2}") == 0
    rows = table(out)
    for end in range(20, len(rows) + 1, 7):
        found = tokens(rows[:end])
        for name, share in {"law": 0.25, "code": 0.25, "prose": 0.5}.items():
            assert abs(found[name] - share * found.total()) <= 2 * 13


def test_an_exhausted_domain_starts_again_in_another_order(
    domains: Path, tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Code has ten texts and gives thirty: each three times, ids unique, counted, and said."""
    out = tmp_path / "out"
    assert run(domains, tokenizer, out, "n_rows=40", "weights={law: 1, code: 3, prose: 0}") == 0
    code = [row["id"] for row in table(out) if row["domain"] == "code"]
    assert len(set(code)) == 30
    assert Counter(id.partition("@")[0] for id in code) == {f"code/{i}": 3 for i in range(10)}
    assert {id.partition("@")[2] for id in code} == {"", "2", "3"}
    passes = [[id.partition("@")[0] for id in code[i : i + 10]] for i in (0, 10, 20)]
    assert len({tuple(one) for one in passes}) == 3
    found = metrics(out)
    assert found["rows"] == {"in": 210 + 20, "out": 40, "rejected": 190} and found["repeated"] == 20
    assert found["rejected"] == {"not_drawn": 190}
    assert found["domains"]["code"] | {"tokens": 0} == {
        "weight": 0.75, "share": 0.75, "rows": 30, "tokens": 0, "epochs": 3.0, "repeated": 20,
    }  # fmt: skip
    assert "'code' has 10 texts and gave 30, so they come again" in caplog.text


@pytest.mark.parametrize(
    ("mixture", "rows"),
    [("uniform", (70, 70, 70)), ("temperature", None), ("proportional", None)],
)
def test_rules_that_need_sizes_alone(
    mixture: str, rows: tuple[int, ...] | None, domains: Path, tokenizer: Path, tmp_path: Path
):
    """Weights by the formulas, from tokens counted by Python."""
    out = tmp_path / "out"
    assert run(domains, tokenizer, out, "n_rows=210", f"mixture={mixture}") == 0
    n_tokens = tokens([json.loads(line) for line in domains.read_text().splitlines()])
    powers = {name: n ** {"uniform": 0, "temperature": 0.2, "proportional": 1}[mixture] for name, n in n_tokens.items()}
    figures = metrics(out)["domains"]
    for name, power in powers.items():
        assert figures[name]["weight"] == pytest.approx(power / sum(powers.values()))
        assert abs(figures[name]["rows"] - 210 * figures[name]["weight"]) < 1
    assert rows is None or tuple(figures[name]["rows"] for name in figures) == rows


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda w: sum(w) > 0.01), st.integers(1, 500))
def test_rows_by_the_largest_remainder(weights: list[float], n_rows: int):
    """They sum to the budget, each within one row of its share, and none of a domain of weight 0."""
    domains = {str(i): _Domain() for i in range(len(weights))}
    shares = {str(i): weight / math.fsum(weights) for i, weight in enumerate(weights)}
    _set_targets(Config(n_rows=n_rows), shares, domains)
    assert sum(one.target for one in domains.values()) == n_rows
    for name, one in domains.items():
        assert abs(one.target - shares[name] * n_rows) < 1 + 1e-9 and (shares[name] or not one.target)


def test_a_file_of_weights_and_the_seed(domains: Path, tokenizer: Path, tmp_path: Path):
    weights = tmp_path / "weights.json"
    weights.write_text(json.dumps({"weights": {"law": 0.5, "code": 0.1, "prose": 0.4}, "steps": 7}))
    outs = [tmp_path / name for name in ("one", "two", "three")]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        assert run(domains, tokenizer, out, "n_rows=50", f"seed={seed}", weights=weights) == 0
    first, second, third = ([row["id"] for row in table(out)] for out in outs)
    assert first == second and sorted(first) != sorted(third)
    assert Counter(id.partition("/")[0] for id in first) == {"law": 25, "code": 5, "prose": 20}
    same = [{file.name: file.read_bytes() for file in out.iterdir()} for out in outs[:2]]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("settings", "content", "code", "message"),
    [
        (["n_rows=9", "weights={law: 1, poems: 1}"], None, 3, "no domain 'poems'; there are code, law, prose"),
        (["n_rows=9", "weights={law: 1, code: 1}"], None, 3, "domain 'prose' has none; give it one, 0 leaves it out"),
        (["n_rows=9", "weights={law: -1, code: 1, prose: 1}"], None, 3, "the weight of 'law' must be a number"),
        (["n_rows=9", "weights={law: 0, code: 0, prose: 0}"], None, 3, "the weights sum to 0"),
        (["n_rows=9"], '{"weights": {"law": "1", "code": 1, "prose": 1}}', 3, "weight of 'law' must be a number"),
        (["n_rows=9"], '{"weights": {"law": NaN, "code": 1, "prose": 1}}', 3, "must be a number, 0 or more (got nan)"),
        (["n_rows=9"], '{"law": 1}', 3, 'expected {"weights": {DOMAIN: NUMBER'),
        (["n_rows=9"], "law: 1", 3, "not readable as JSON"),
        (["n_rows=9"], None, 2, "give --weights, weights or mixture, one of them"),
        (["n_rows=9", "mixture=uniform"], '{"weights": {"law": 1}}', 2, "give --weights, weights or mixture, one of"),
        (["n_rows=9", "mixture=uniform", "weights={law: 1}"], None, 2, "give weights or mixture, not both"),
        (["n_rows=9", "n_tokens=9", "mixture=uniform"], None, 2, "give n_tokens or n_rows, one of them"),
        (["mixture=uniform"], None, 2, "give n_tokens or n_rows, one of them"),
        (["n_rows=9", "mixture=ddk"], None, 2, "ddk learns its weights from training"),
        (["n_rows=9", "mixture=best"], None, 2, "no 'best' in datagen.mixture"),
    ],
)  # fmt: skip
def test_weights_that_are_none(
    settings: list[str], content: str | None, code: int, message: str, domains: Path, tokenizer: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    weights = None
    if content is not None:
        weights = tmp_path / "weights.json"
        weights.write_text(content)
    assert run(domains, tokenizer, tmp_path / "out", *settings, weights=weights) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_texts_of_no_domain_are_rejections(tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And where no text is of a domain, or each is longer than the budget, nothing is written."""
    rows = [{"id": "a", "text": "law law", "domain": "law"}, {"id": "b", "text": "law"}]
    out = tmp_path / "out"
    assert run(write(tmp_path / "two.jsonl", rows), tokenizer, out, "n_rows=1", "mixture=uniform") == 0
    assert metrics(out)["rejected"] == {"no_domain": 1}
    assert run(tmp_path / "two.jsonl", tokenizer, tmp_path / "no", "n_tokens=1", "mixture=uniform") == 3
    assert "no text is drawn" in capsys.readouterr().err
    assert run(write(tmp_path / "one.jsonl", rows[1:]), tokenizer, tmp_path / "no", "n_rows=1", "mixture=uniform") == 3
    assert "no text is of a domain" in capsys.readouterr().err


def test_ids_stay_unique_whatever_the_user_s_are(tokenizer: Path, tmp_path: Path):
    rows = [{"id": id, "text": "law", "domain": "law"} for id in ("a", "a@2", "a@2@2")]
    out = tmp_path / "out"
    assert run(write(tmp_path / "f.jsonl", rows), tokenizer, out, "n_rows=12", "mixture=uniform") == 0
    assert len({row["id"] for row in table(out)}) == 12
