"""Training on mixes of domains by the stage's own command. Oracles: losses by transformers, DDK's formula, two runs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.stage import main
from tests.domain_texts import LETTERS, write_texts
from trainers.stages.train_lm import STAGE

SETTINGS = ("n_threads=1", "batch_size=6", "micro_batch_tokens=64", "learning_rate=0.001", "steps=4", "mixture_every=2")
NAMES = sorted(LETTERS)
TAUGHT = "objective={supervised: 1, forward_kl: 0.2}"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture(scope="module")
def second(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, trained on texts of the domain `odd` alone."""
    folder = tmp_path_factory.mktemp("second")
    train_file, _ = write_texts(folder)
    (folder / "odd.jsonl").write_text("".join(line for line in train_file.open() if '"odd"' in line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTILL_HOME", str(folder / "home"))
        patch.setenv("DATASTILL_DEVICE", "cpu")
        given = ["--data", str(folder / "odd.jsonl"), "--out", str(folder / "model")]
        settings = [f"student={tiny}", "steps=40", "batch_size=6", "learning_rate=0.003", "n_threads=1"]
        assert main(STAGE, [*given, "--set", *settings]) == 0
    return folder / "model"


def train(student: Path, data: Path, out: Path, *settings: str, code: int = 0, **more: Path) -> list[dict[str, Any]]:
    """The records of the steps."""
    inputs = ["--data", str(data), *(part for name, path in more.items() for part in (f"--{name}", str(path)))]
    arguments = [*inputs, "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    assert main(STAGE, [*arguments, "--set", f"student={student}", *SETTINGS, *settings]) == code
    return json.loads((out / "loss.json").read_text()) if not code else []


def held_out_losses(folder: Path, heldout: Path) -> list[float]:
    """Transformers' own, by domain; texts are of one length."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in heldout.read_text().splitlines()]
    found: list[float] = []
    for name in NAMES:
        tokens = torch.tensor([tokenizer(row["text"])["input_ids"] for row in rows if row["domain"] == name])
        with torch.no_grad():
            found.append(model(tokens, labels=tokens).loss.item())
    return found


def test_ddk_draws_more_of_where_the_student_trails(tiny: Path, second: Path, tmp_path: Path):
    """By the formula from transformers' own losses: the softmax of perplexities' ratios, then an update at equal gaps.

    The teacher, trained on `odd` alone, is ahead there; the metrics count what was measured and drawn.
    """
    data, heldout = write_texts(tmp_path / "texts")
    records = train(
        tiny, data, tmp_path / "out", "mixture=ddk", f"teacher={second}", TAUGHT, "mixture_rows=3", heldout=heldout
    )
    rows = [json.loads(line) for line in heldout.read_text().splitlines()]
    first = [row for name in NAMES for row in [one for one in rows if one["domain"] == name][:3]]
    read = tmp_path / "first.jsonl"
    read.write_text("".join(json.dumps(row) + "\n" for row in first))
    mine, theirs = held_out_losses(tiny, read), held_out_losses(second, read)
    powers = [math.exp(math.exp(a - b)) for a, b in zip(mine, theirs, strict=True)]
    expected = [power / sum(powers) for power in powers]
    assert [records[0][f"weight/{name}"] for name in NAMES] == pytest.approx(expected, rel=1e-4)
    assert [records[0][f"student_loss/{name}"] for name in NAMES] == pytest.approx(mine, rel=1e-5)
    assert [records[2][f"reference_loss/{name}"] for name in NAMES] == pytest.approx(theirs, rel=1e-5)
    assert expected[NAMES.index("odd")] == max(expected) > 0.4
    metrics = json.loads((tmp_path / "out.json").read_text())["mixture"]
    assert metrics["rule_asked"] == 2 and metrics["n_tokens_measured"] == 2 * 9 * 11
    assert sum(metrics["n_sequences"].values()) == 24 and sum(metrics["n_tokens"].values()) == 24 * 11
    last = [records[3][f"weight/{name}"] for name in NAMES]
    gaps = [records[2][f"student_loss/{name}"] - records[2][f"reference_loss/{name}"] for name in NAMES]
    psi = [weight * math.exp(math.exp(gap)) for weight, gap in zip(expected, gaps, strict=True)]
    assert last == pytest.approx([0.5 * one / sum(psi) + 0.5 / 3 for one in psi], rel=1e-4)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["params"]["mixture"] == "ddk" and set(manifest["inputs"]) == {"data", "heldout"}
    assert not list((tmp_path / "home").glob("checkpoints/*/reference*"))


def test_equal_losses_leave_the_weights_uniform(tiny: Path, tmp_path: Path):
    """The student's own losses as the reference's; the domain of two texts is restarted."""
    data, heldout = write_texts(tmp_path / "texts")
    records = train(
        tiny, data, tmp_path / "out", "mixture=ddk", f"reference={tiny}", "mixture_every=10", heldout=heldout
    )
    assert all(records[0][f"weight/{name}"] == pytest.approx(1 / 3, rel=1e-5) for name in NAMES)
    metrics = json.loads((tmp_path / "out.json").read_text())["mixture"]
    assert metrics["n_sequences"] == dict.fromkeys(NAMES, 8)
    assert metrics["restarts"] == {"even": 1, "odd": 1, "rare": 3}


def test_two_processes_draw_and_learn_as_one(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one process, to float32's precision: what is measured, learned of each domain, weighed and drawn.

    In micro-batches of two rows one process of a step of five has none left for the last, and goes along with others'.
    """
    data, heldout = write_texts(tmp_path / "texts")
    more = [
        "mixture_every=1",
        "mixture=online_mixing",
        "warmup_share=0",
        "batch_size=5",
        "micro_batch_tokens=24",
        "steps=8",
    ]
    one = train(tiny, data, tmp_path / "one", *more, heldout=heldout)
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    two = train(tiny, data, tmp_path / "two", *more, heldout=heldout)
    for mine, other in zip(one, two, strict=True):
        for name in mine:
            assert other[name] == pytest.approx(mine[name], rel=1e-3), name
    assert len({record["weight/odd"] for record in one}) > 3
    drawn = [json.loads((tmp_path / f"{name}.json").read_text())["mixture"]["n_sequences"] for name in ("one", "two")]
    assert drawn[0] == drawn[1]
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)


def test_weights_may_be_given(tiny: Path, tmp_path: Path):
    """By hand: of 24 sequences 18 and 6, give or take one a step, none of weight 0; measured where texts are there."""
    data, heldout = write_texts(tmp_path / "texts")
    file = tmp_path / "weights.json"
    file.write_text('{"weights": {"odd": 0.75, "even": 0.25, "rare": 0}}')
    records = train(tiny, data, tmp_path / "out", weights=file, heldout=heldout)
    metrics = json.loads((tmp_path / "out.json").read_text())["mixture"]
    drawn = metrics["n_sequences"]
    assert drawn["rare"] == metrics["rule_asked"] == 0 and drawn["odd"] + drawn["even"] == 24
    assert 14 <= drawn["odd"] <= 22
    losses = [records[0][f"student_loss/{name}"] for name in NAMES]
    assert losses == pytest.approx(held_out_losses(tiny, heldout), rel=1e-5)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rewrite(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("settings", "inputs", "says"),
    [
        (["mixture=ddk"], ("heldout",), "mixture: ddk compares the student with another model; set reference=MODEL"),
        (["mixture=ddk", "reference=R"], (), "mixture: ddk reads student_losses on held-out texts; name some of each"),
        (["mixture=regression_mix"], (), "let `datastill domain_weights` make them"),
        (["mixture=magic"], (), "no 'magic' in datagen.mixture; there are"),
        (["mixture=uniform"], ("weights",), "mixture: uniform says the weights itself"),
        (["reference=R"], (), "reference: of a rule alone; set mixture too"),
        (["mixture_every=3"], (), "mixture_every: of a mix that is measured; set mixture too"),
        ([], ("heldout",), "--heldout is for a rule that measures the student"),
    ],
)
def test_options_that_cannot_go_together(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    inputs: tuple[str, ...],
    says: str,
):
    data, heldout = write_texts(tmp_path / "texts")
    (tmp_path / "weights.json").write_text("{}")
    files = {"heldout": heldout, "weights": tmp_path / "weights.json"}
    given = [one.replace("=R", f"={tiny}") for one in settings]
    base = ["--data", str(data), *(part for name in inputs for part in (f"--{name}", str(files[name])))]
    more = ["--set", f"student={tiny}", *given]
    assert main(STAGE, [*base, "--out", str(tmp_path / "out"), *more]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("case", ["no domain", "one domain", "a sequence", "missing", "other", "learned", "traces"])
def test_domains_that_cannot_be_mixed(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str):
    data, heldout = write_texts(tmp_path / "texts")
    rows, apart = lines(data), lines(heldout)
    says = ""
    match case:
        case "no domain":
            del rows[3]["domain"]
            says = f"{data}: row '{rows[3]['id']}' has no domain; give each row of text a `domain`"
        case "one domain":
            rows = [row for row in rows if row["domain"] == "odd"]
            says = f"{data}: all rows are of the domain 'odd'; a mix needs two or more"
        case "a sequence":
            rows = [row for row in rows if row["id"] != "rare-0"]
            says = f"{data}: the domain 'rare' has one sequence, of 12 tokens; give it more texts, or leave it out"
        case "missing":
            apart = [row for row in apart if row["domain"] != "odd"]
            says = f"{heldout}: no row of the domain 'odd', which is learned"
        case "other":
            apart[0]["domain"] = "evil"
            says = f"{heldout}: the domain 'evil' is not among those that are learned, even, odd, rare"
        case "learned":
            apart[0]["text"] = rows[0]["text"]
            says = f"{heldout}: row '{apart[0]['id']}' of the domain 'even' is learned too"
        case _:
            rows = [{"prompt": "a", "completion": "b"}] * 3
            says = f"{data}: has no texts, and a mix is of texts by domain"
    rewrite(data, rows)
    rewrite(heldout, apart)
    train(tiny, data, tmp_path / "out", "mixture=ddk", f"reference={tiny}", heldout=heldout, code=3)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "no weights"),
        ('{"weights": {"odd": 1}}', "the domain 'even' has rows, and no weight"),
        (
            '{"weights": {"odd": 1, "even": 0, "rare": 0, "all": 0}}',
            "the domain 'all' has a weight, and no row is of it",
        ),
        ('{"weights": {"odd": 1, "even": 0.5, "rare": 0}}', "weights must be in [0, 1] and sum to 1 (they sum to 1.5)"),
        (
            '{"weights": {"odd": NaN, "even": 0.5, "rare": 0}}',
            "weights must be in [0, 1] and sum to 1 (they sum to nan)",
        ),
    ],
)
def test_weights_that_are_none(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str):
    data, _ = write_texts(tmp_path / "texts")
    (tmp_path / "weights.json").write_text(content)
    train(tiny, data, tmp_path / "out", "mixture_every=1000", weights=tmp_path / "weights.json", code=3)
    assert f"{tmp_path / 'weights.json'}: {says}" in capsys.readouterr().err
