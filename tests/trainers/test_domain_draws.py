"""Oracles: points counted by hand, sets of rows, transformers' own losses, and the unbroken run, bit for bit."""

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.records import Document
from datagen.mixture import Mix, Seen
from datagen.mixture import ddk as of_ddk
from trainers import loop
from trainers.domain_draws import DomainMix, Rule, shares
from trainers.language_models import StudentModel
from trainers.lm_loss import RowsLoss, States
from trainers.lm_rows import Bounds, LearnedRow, select_texts
from trainers.weighted import combined

TEXTS = {
    "a": ["aaab", "abab", "abba", "bbba", "aabb"],
    "b": ["cdcdcd", "ddcc", "cccddd"],
    "c": ["xy", "yx", "xx", "yyx"],
}  # fmt: skip
HELD_OUT = {"a": ["baab", "bb"], "b": ["dcdc"], "c": ["yyy", "xyxy"]}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def rows_of(tiny: Path, texts: dict[str, list[str]]) -> dict[str, list[LearnedRow]]:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    documents = [
        Document(id=f"{name}{i}", text=t, domain=name) for name, mine in texts.items() for i, t in enumerate(mine)
    ]
    chosen, _ = select_texts(documents, Bounds(64, 64, 1), tokenizer, stage="t")
    return {name: [row for row in chosen if row.domain == name] for name in texts}


def config(**more: Any) -> loop.Config:
    return loop.Config.model_validate({"n_threads": 1, "batch_size": 4, "steps": 9, "seed": 5, **more})


def nats(model: Any, rows: list[LearnedRow]) -> float:
    """Transformers' own mean loss of all tokens but each text's first."""
    parts: list[tuple[Any, int]] = []
    for row in rows:
        tokens = torch.tensor([row.example.tokens])
        with torch.no_grad():
            parts.append((model(tokens, labels=tokens).loss, len(row) - 1))
    return sum(loss.item() * n for loss, n in parts) / sum(n for _, n in parts)


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_points_in_stretches(seed: int):
    """Brute force: the points start, start + 1, ... that lie in each weight's stretch of [0, n)."""
    numbers = random.Random(seed)
    n, start = numbers.randint(1, 30), numbers.random()
    weights = [numbers.random() * numbers.choice([0, 1, 1]) for _ in range(numbers.randint(1, 6))] + [0.1]
    weights = [weight / sum(weights) for weight in weights]
    found = shares(weights, n, start)
    edges = [0.0, *itertools.accumulate(n * weight for weight in weights)]
    points = [start + i for i in range(n)]
    assert found == [sum(low <= point < high for point in points) for low, high in itertools.pairwise(edges)]
    assert sum(found) == n and all(abs(k - n * weight) < 1 for k, weight in zip(found, weights, strict=True))


def test_shares_are_the_weights_in_expectation():
    """Over a fine grid of starts; nothing of a weight of 0."""
    weights = [0.07, 0.0, 0.61, 0.32]
    mean = np.mean([shares(weights, 3, (i + 0.5) / 1000) for i in range(1000)], axis=0)
    assert mean == pytest.approx([3 * weight for weight in weights], abs=0.002)


def test_what_is_drawn_follows_the_weights_and_a_domain_starts_again(tiny: Path):
    """Of 50 steps of 4; every pass over a domain has each of its rows once, in an order of its own."""
    rows = rows_of(tiny, TEXTS)
    weights = {"a": 0.5, "b": 0.4, "c": 0.1}
    mix = DomainMix(rows, weights, 1000, config(steps=50))
    drawn: list[LearnedRow] = []
    record: Any = None
    for step in range(50):
        found = mix.renew(torch.nn.Linear(1, 1), [], step)
        assert found == mix.renew(torch.nn.Linear(1, 1), [], step)  # nothing counts before the step is taken
        assert len(found) == 4
        drawn += found
        record = mix.update(0.0, step + 1, 50)
    assert record == {"weight/a": 0.5, "weight/b": 0.4, "weight/c": 0.1}
    figures = mix.figures()
    passes: dict[str, list[list[str]]] = {}
    for name, weight in weights.items():
        mine = [row.id for row in drawn if row.domain == name]
        assert abs(len(mine) - 200 * weight) < 8 and figures["n_sequences"][name] == len(mine)
        size = len(rows[name])
        passes[name] = [mine[at : at + size] for at in range(0, len(mine), size)]
        assert all(Counter(one) == Counter(row.id for row in rows[name]) for one in passes[name][:-1])
        assert figures["restarts"][name] == len(passes[name]) - 1
    assert len(set(map(tuple, passes["a"][:-1]))) > 10
    assert figures["n_tokens"]["b"] == sum(len(row) - 1 for row in drawn if row.domain == "b")


def test_the_rule_sees_losses_of_what_is_held_out_and_of_what_was_learned(tiny: Path, tmp_path: Path):
    """Transformers' own, of a student whose rate is too small to change: every third step, in small micro-batches."""
    rows, held_out = rows_of(tiny, TEXTS), rows_of(tiny, HELD_OUT)
    asked: list[Seen] = []
    drawn: list[list[LearnedRow]] = []

    def ask(config: Any, mix: Mix | None, seen: Seen) -> Mix:
        asked.append(seen)
        return Mix(weights=(0.5, 0.5, 0.0) if mix is None else (0.0, 0.25, 0.75), memory={"calls": [len(asked)]})

    rule = Rule(ask=ask, config=None, needs=frozenset({"student_losses", "reference_losses", "trained_losses"}))
    of_loop = config(steps=7, learning_rate=1e-12, micro_batch_tokens=10)
    mix = DomainMix(rows, rule, 3, of_loop, held_out=held_out, reference_losses=np.array([1.0, 2.0, 3.0]))

    def renew(network: Any, given: Any, step: int) -> list[LearnedRow]:
        drawn.append(mix.renew(network, given, step))
        return drawn[-1]

    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    everything = [row for mine in rows.values() for row in mine]
    loss = RowsLoss(combined("supervised"), None, watch=mix.watch)
    records = loop.train(
        StudentModel(model),
        everything,
        loss,
        of_loop,
        Checkpoints(tmp_path),
        state=States({"mixture": mix}),
        renew=renew,
    )
    assert [(one.step, one.n_steps) for one in asked] == [(0, 7), (3, 7), (6, 7)]
    for one in asked:
        assert one.student_losses == pytest.approx([nats(model, held_out[name]) for name in "abc"], rel=1e-5)
        assert list(one.reference_losses) == [1.0, 2.0, 3.0]  # type: ignore[arg-type]  # it is there
        assert list(one.n_tokens) == [sum(len(text) - 1 for text in TEXTS[name]) for name in "abc"]
    assert np.isnan(asked[0].trained_losses).all()  # type: ignore[arg-type]
    for one, steps in ((asked[1], drawn[:3]), (asked[2], drawn[3:6])):
        for name, found in zip("abc", one.trained_losses, strict=True):  # type: ignore[arg-type]
            mine = [row for step in steps for row in step if row.domain == name]
            assert found == pytest.approx(nats(model, mine), rel=1e-5) if mine else np.isnan(found)
    assert [[one[f"weight/{name}"] for name in "abc"] for one in records[2:4]] == [[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]
    assert ["student_loss/a" in one and "reference_loss/a" in one for one in records] == [
        step % 3 == 0 for step in range(7)
    ]
    assert not any(row.domain == "c" for step in drawn[:3] for row in step)
    of_each = sum(len(text) - 1 for mine in HELD_OUT.values() for text in mine)
    figures = mix.figures()
    assert (figures["rule_asked"], figures["n_tokens_measured"]) == (3, 3 * of_each)
    whole = [record["loss"] for record in records]
    assert whole == pytest.approx([nats(model, step) for step in drawn], rel=1e-5)


@pytest.mark.parametrize("stopped_at", [1, 2, 4, 6, 8])
def test_interrupted_anywhere_no_bit_differs(tiny: Path, tmp_path: Path, stopped_at: int, monkeypatch: Any):
    """Weights of network and mix, what the rule remembers, cursors, trained losses, records and figures."""
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    rows, held_out = rows_of(tiny, TEXTS), rows_of(tiny, HELD_OUT)
    everything = [row for mine in rows.values() for row in mine]
    of_loop = config(learning_rate=0.01)

    def ask(config: Any, mix: Mix | None, seen: Seen) -> Mix:
        """DDK, pushed by the losses that were learned, with a count of calls to remember."""
        found = of_ddk.ddk(of_ddk.Config(), mix, seen)
        pushed = np.array(found.weights) + 0.1 * np.nan_to_num(seen.trained_losses)  # type: ignore[arg-type]
        before = mix.memory["calls"][0] if mix else 0.0
        return Mix(weights=tuple((pushed / pushed.sum()).tolist()), memory={"calls": [before + 1]})

    def run(folder: Path, stop_at: int | None = None) -> tuple[Any, dict[str, Any], dict[str, torch.Tensor], Any]:
        rule = Rule(ask=ask, config=None, needs=frozenset({"student_losses", "reference_losses", "trained_losses"}))
        mix = DomainMix(rows, rule, 3, of_loop, held_out=held_out, reference_losses=np.array([3.0, 5.0, 5.5]))
        model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
        student = StudentModel(model)

        def advance(record: Any) -> None:
            if record["step"] == stop_at:
                raise KeyboardInterrupt

        records = loop.train(
            student, everything, RowsLoss(combined("supervised"), None, watch=mix.watch), of_loop, Checkpoints(folder),
            advance, state=States({"mixture": mix}), renew=mix.renew,
        )  # fmt: skip
        return records, mix.state_dict(), student.state_dict(), mix.figures()

    whole = run(tmp_path / "whole")
    assert len({record["weight/a"] for record in whole[0]}) == 3 and any(whole[3]["restarts"].values())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stopped_at)
    again = run(tmp_path / "broken")
    assert again[0] == whole[0] and again[1] == whole[1] and again[3] == whole[3]
    assert all(torch.equal(value, again[2][name]) for name, value in whole[2].items())


def test_a_step_that_fails_leaves_what_is_drawn_as_it_was(tiny: Path, tmp_path: Path):
    """The checkpoint that an error leaves holds no draw of the step that failed: the next try draws the same."""
    from datagen.contracts.errors import DataError
    from trainers.objectives import SumCount

    rows = rows_of(tiny, TEXTS)
    everything = [row for mine in rows.values() for row in mine]
    drawn: list[list[str]] = []

    def run(fails_at: int | None) -> None:
        mix = DomainMix(rows, {"a": 0.4, "b": 0.3, "c": 0.3}, 3, config(steps=4))
        network = torch.nn.Linear(1, 1)
        calls = itertools.count()

        def renew(given: Any, all_rows: Any, step: int) -> list[LearnedRow]:
            found = mix.renew(given, all_rows, step)
            if step == 2:
                drawn.append([row.id for row in found])
            return found

        def loss(given: Any, mine: Any, device: Any) -> SumCount:
            factor = float("nan") if next(calls) == fails_at else 1.0
            return SumCount(factor * given(torch.ones(len(mine), 1)).sum(), torch.tensor(len(mine)))

        loop.train(
            network, everything, loss, config(steps=4), Checkpoints(tmp_path), state=States({"mixture": mix}),
            renew=renew,
        )  # fmt: skip

    with pytest.raises(DataError, match="step 3: the loss is nan"):
        run(fails_at=2)
    run(fails_at=None)
    assert len(drawn) == 2 and drawn[0] == drawn[1]
