"""Oracles: words counted by hand, F1 by precision and recall over lists; every threshold tried, a text at a time."""

import json
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends.embeddings import EMBEDDED, Encoder
from datagen.contracts.calibration import calibrate
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.stage import main
from datagen.stages.verify import STAGE
from datagen.verify._cluster import CHUNK
from datagen.verify.short_answer import Config, Figures, exact_match, find_short_answer, short_answer, token_f1


def judge(completion: str, reference: str | None, **changed: Any) -> Verdict:
    trace = Trace(id="t", prompt=Prompt(id="p", messages=[], reference=reference), completion=completion)
    (verdict,) = short_answer(Config.model_validate({"method": "short_answer"} | changed), [trace])
    return verdict


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("tower Eiffel", "Eiffel Tower", 0, 1),
        ("the tall Eiffel tower", "Eiffel Tower", 0, Fraction(4, 5)),  # P = 2/3, R = 1
        ("to be or not to be", "to be", 0, Fraction(1, 2)),  # P = 2/6, R = 1: a word counts as often as both have it
        ("Paris", "London", 0, 0),
        ("\uff30\uff41\uff32\uff29\uff33", "paris", 1, 1),  # full-width letters
        ("«Straße»", "STRASSE", 1, 1),
        ("the", "The", 0, 0),  # no word is left, and they are not the same as written
        ("?", "?", 1, 1),
        ("", "Paris", 0, 0),
    ],
)
def test_measures(answer: str, reference: str, exact: float, f1: Fraction | int):
    assert exact_match(answer, reference) == exact
    assert token_f1(answer, reference) == pytest.approx(float(f1))


texts = st.lists(st.sampled_from(["red", "blue", "green", "the", "A"]), min_size=1, max_size=8).map(" ".join)


@given(one=texts, other=texts)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(one: str, other: str):
    given, wanted = ([word for word in text.lower().split() if word not in ("the", "a")] for text in (one, other))
    left = list(wanted)
    n_shared = 0
    for word in given:
        if word in left:
            left.remove(word)
            n_shared += 1
    if given and wanted:
        precision, recall = n_shared / len(given), n_shared / len(wanted)
        mean = 2 * precision * recall / (precision + recall) if n_shared else 0
        assert token_f1(one, other) == pytest.approx(mean)
    assert token_f1(one, other) == token_f1(other, one)


@pytest.mark.parametrize(
    ("completion", "answer", "rule"),
    [
        (r"It stands in \boxed{Paris}, the answer is Rome.", "Paris", r"in \boxed"),
        ("The answer is Rome? No. So the answer is: **Paris**. Done.", "Paris", "after 'the answer is'"),
        ("  Paris\n", "Paris", "the whole completion"),
    ],
)
def test_where_the_answer_stands(completion: str, answer: str, rule: str):
    found = find_short_answer(completion)
    assert found and (found.text, found.rule) == (answer, rule)


def test_verdicts():
    assert judge("Paris.", "paris").status == "pass"
    wrong = judge("Paris", "London")
    assert (wrong.status, wrong.reason, wrong.score, wrong.answer) == ("fail", "wrong_answer", 0, "Paris")
    assert "the whole completion: Paris, beside London: exact 0" in str(wrong.detail)
    assert judge("Paris", None).reason == "no_reference"
    assert judge(" \n", "Paris").reason == judge("x " * 5000, "Paris").reason == "no_answer"


def test_the_threshold_says_what_passes():
    near = {"measure": "f1", "threshold": 0.8}
    assert judge("the tall Eiffel tower", "Eiffel Tower", **near).status == "pass"
    assert judge("the tall old Eiffel tower", "Eiffel Tower", **near).status == "fail"  # 2/3


def test_the_best_alternative_counts():
    verdict = judge("the answer is JFK", '["John F. Kennedy", "JFK"]')
    assert (verdict.status, verdict.score) == ("pass", 1) and "beside JFK" in str(verdict.detail)
    assert judge("[1, 2]", "[1, 2]").status == "pass"  # no list of texts: the reference as it stands


@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=2, max_size=12
    ),
    target=st.sampled_from([0.3, 0.5, 0.95, 1.0]),
)
def test_the_calibrated_threshold_is_the_smallest_that_is_precise_enough(
    pairs: list[tuple[float, bool]], target: float
):
    """Every similarity tried as a threshold, by lists."""
    similarities, labels = [one for one, _ in pairs], [label for _, label in pairs]
    precisions = {
        threshold: Fraction(
            sum(label for one, label in pairs if one >= threshold), sum(s >= threshold for s in similarities)
        )
        for threshold in similarities
        if threshold > 0
    }
    wanted = [threshold for threshold, precision in precisions.items() if float(precision) >= target]
    if all(labels) or not any(labels):
        with pytest.raises(DataError, match="are labelled true; give right pairs and wrong ones"):
            calibrate(similarities, labels, target)
    elif not wanted:
        with pytest.raises(DataError, match="pairs: no threshold has the precision"):
            calibrate(similarities, labels, target)
    else:
        found = calibrate(similarities, labels, target)
        kept = sum(label for one, label in pairs if one >= min(wanted))
        assert found.threshold == min(wanted) and found.precision == float(precisions[min(wanted)])
        assert (found.recall, found.n_pairs, found.n_true) == (kept / sum(labels), len(pairs), sum(labels))


PAIRS = [
    ("The city of Paris", "Paris", True),
    ("a big red car", "a large red automobile", True),
    ("He was a doctor.", "physician", True),
    ("It is Rome", "Paris", False),
    ("a small green boat", "a large red automobile", False),
    ("He was a farmer.", "physician", False),
]


def write_pairs(path: Path, pairs: Sequence[tuple[Any, ...]] = PAIRS) -> Path:
    rows = (dict(zip(("answer", "reference", "label"), pair, strict=True)) for pair in pairs)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@lru_cache(maxsize=1)
def encoder() -> Encoder:
    return Encoder(EMBEDDED)


def cosine_alone(one: str, other: str) -> float:
    """By the encoder, a text at a time."""
    return float(encoder().encode([one])[0][0] @ encoder().encode([other])[0][0])


def test_by_embedding(tmp_path: Path):
    """The pairs are told apart, so the threshold is the cosine of the least similar right one."""
    given = {"measure": "embedding", "pairs": str(write_pairs(tmp_path / "pairs.jsonl"))}
    cosines = [(cosine_alone(one, other), label) for one, other, label in PAIRS]
    threshold = min(cosine for cosine, label in cosines if label)
    assert max(cosine for cosine, label in cosines if not label) < threshold
    figures = Figures(Config.model_validate(given)).metrics()["calibration"]
    assert figures.pop("threshold") == pytest.approx(threshold, abs=1e-4)
    assert figures == {"precision": 1.0, "recall": 1.0, "n_pairs": 6, "n_true": 3}
    right = judge("The answer is a physician.", "doctor", **given)
    assert (right.status, right.score, right.answer) == ("pass", 1.0, "a physician")
    wrong = judge("The answer is Rome.", "a large red automobile", **given)
    assert (wrong.status, wrong.reason) == ("fail", "wrong_answer")
    expected = max(0.0, cosine_alone("Rome", "a large red automobile")) / threshold
    assert wrong.score == pytest.approx(expected, abs=1e-3)
    assert judge("Rome", '["Paris", "Rome"]', **given).status == "pass"
    assert judge("Rome", None, **given).reason == "no_reference" and judge("", "Rome", **given).reason == "no_answer"
    lenient = judge("Rome", "a large red automobile", **given, threshold=0)
    assert lenient.status == "pass" and lenient.score < 1


def test_chunks_of_a_cluster_have_the_scores_of_the_whole(tmp_path: Path):
    """Each chunk by itself, as a worker judges it, and all rows in one go: the same to the last digit."""
    rows = [
        Trace(id=f"{i}", prompt=Prompt(id="p", messages=[], reference="Paris"), completion="near " * (i % 9) + f"{i}")
        for i in range(CHUNK + 40)
    ]
    config = Config.model_validate({"measure": "embedding", "pairs": str(write_pairs(tmp_path / "pairs.jsonl"))})
    whole = list(short_answer(config, rows))
    assert whole == [*short_answer(config, rows[:CHUNK]), *short_answer(config, rows[CHUNK:])]
    assert len({verdict.score for verdict in whole}) > CHUNK / 2


def test_the_stage_publishes_the_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In metrics and manifest; a list of references in a row is read; by exact match there is nothing of it."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    rows = [{"prompt": "What was he?", "completion": "a physician", "reference": ["lawyer", "doctor"]}]
    traces = tmp_path / "traces.jsonl"
    traces.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    for name, more in (("same", ["measure=embedding", f"pairs={pairs}"]), ("words", [])):
        out = f"--traces {traces} --out {tmp_path / name} --metrics {tmp_path / name}.json"
        assert main(STAGE, [*out.split(), "--set", "method=short_answer", *more]) == 0
    same, words = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("same", "words"))
    assert same["status"] == {"pass": 1} and words["status"] == {"fail": 1}
    assert same["calibration"]["n_pairs"] == 6 and "calibration" not in words
    held, plain = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("same", "words"))
    assert held["verifier"]["calibration"] == same["calibration"] and held["verifier"]["revision"]
    assert "verifier" not in plain and not {"pairs", "target_precision", "embedder"} & plain["params"].keys()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "pairs.jsonl:1: not JSON"),
        (
            ["", '{"answer": "a", "reference": "b"}'],
            "pairs.jsonl:2: expected an object with answer, reference and label",
        ),
        (["[]"], "pairs.jsonl:1: expected an object"),
        (['{"answer": "a", "reference": "b", "label": 1}'], "label is true or false"),
        (['{"answer": "a", "reference": 2, "label": true}'], "answer and reference are texts"),
        (['{"answer": "a", "reference": "b", "label": true}'], "pairs: 1 of 1 are labelled true"),
        ([], "pairs: 0 of 0 are labelled true"),
        (None, "No such file or directory; `pairs` names a .jsonl file of labelled pairs"),
    ],
)
def test_bad_pairs(tmp_path: Path, lines: list[str] | None, message: str):
    path = tmp_path / "pairs.jsonl"
    if lines is not None:
        path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        judge("Rome", "Rome", measure="embedding", pairs=str(path))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"measure": "bleu"}, "measure"),
        ({"threshold": 2}, "threshold"),
        ({"measure": "embedding"}, "pairs: .*measure=embedding reads its threshold off labelled pairs"),
        ({"measure": "f1", "pairs": "x.jsonl"}, "pairs: .*means nothing to measure=f1; leave it out"),
        ({"target_precision": 0.9}, "target_precision: .*means nothing to measure=exact"),
        ({"measure": "embedding", "pairs": "x", "target_precision": 0}, "target_precision"),
    ],
)
def test_bad_params(given: dict[str, Any], named: str):
    with pytest.raises(ParamsError, match=named):
        validate({"method": "short_answer"} | given, Config)
