"""Oracles: every text of a tabular target, enumerated; Leviathan et al.'s closed forms; the law of a martingale."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import pytest
import scipy.stats
import torch
from torch import Tensor

from trainers.drafts import (
    NextTokens,
    acceptance,
    block_efficiency,
    probabilities,
    speculate,
    standard_errors,
)

V, LENGTH = 3, 3


def tabular(seed: int, width: int = V) -> NextTokens:
    """A model whose next token goes by the last two; a padded width has mass too."""
    table = torch.randn(V, V, width, generator=torch.Generator().manual_seed(seed)).double().mul(1.5).softmax(-1)

    def next_tokens(tokens: Sequence[int], n: int) -> Tensor:
        ends = range(len(tokens) - n + 1, len(tokens) + 1)
        return torch.stack([table[tokens[max(end - 2, 0)] % V, tokens[end - 1] % V] for end in ends])

    return next_tokens


def always(probability: Sequence[float]) -> NextTokens:
    row = torch.tensor(probability, dtype=torch.float64)
    return lambda tokens, n: row.expand(n, -1)


def texts(model: NextTokens, prompt: list[int], ends: set[int]) -> dict[tuple[int, ...], float]:
    """Probability of each text of up to LENGTH tokens, by brute force."""
    found: dict[tuple[int, ...], float] = {}
    for text in itertools.product(range(V), repeat=LENGTH):
        cut = next((i + 1 for i, token in enumerate(text) if token in ends), LENGTH)
        p = math.prod(float(model([*prompt, *text[:i]], 1)[0, text[i]]) for i in range(cut))
        found[text[:cut]] = p
    assert sum(found.values()) == pytest.approx(1)
    return found


@pytest.mark.parametrize(
    ("n_drafted", "ends", "width"), [(1, set[int](), V), (2, {0}, V), (4, set[int](), V), (2, {0}, V + 1)]
)
def test_texts_follow_the_target_s_law(n_drafted: int, ends: set[int], width: int):
    """Chi-square of 2,000 texts against every text enumerated; the draft's own law is refused by the same test."""
    target, draft, prompt = tabular(0), tabular(1, width), [1, 2]
    generator = torch.Generator().manual_seed(3)
    runs = [
        speculate(target, draft, prompt, n_drafted=n_drafted, n_tokens=LENGTH, generator=generator, ends=ends)
        for _ in range(2000)
    ]
    counts = Counter(tuple(run.tokens[:LENGTH]) for run in runs)
    expected = texts(target, prompt, ends)
    assert set(counts) <= set(expected)
    drawn = [counts[text] for text in expected]
    assert scipy.stats.chisquare(drawn, [2000 * p for p in expected.values()]).pvalue > 0.01
    if width == V:
        of_draft = texts(draft, prompt, ends)
        assert scipy.stats.chisquare(drawn, [2000 * of_draft[text] for text in expected]).pvalue < 1e-6

    n_accepted = sum(sum(run.accepted) for run in runs)
    alphas = [alpha for run in runs for alpha in run.expected]
    variance = sum(run.variance for run in runs)
    assert abs(standard_errors(n_accepted, sum(alphas), variance)) < 3
    assert abs(standard_errors(n_accepted, sum(1 - (1 - a) * 0.8 for a in alphas), variance)) > 3  # it can tell


def test_efficiency_of_a_constant_acceptance():
    """At a = 0.7 and g = 4: 2.773 tokens a pass, measured within 3 standard errors of the truncated geometric law."""
    assert block_efficiency(0.7, 4) == pytest.approx((1 - 0.7**5) / 0.3, rel=1e-12) == pytest.approx(2.773, abs=5e-4)
    assert block_efficiency(1.0, 4) == 5 and block_efficiency(0.0, 4) == 1

    target, draft = always([0.4, 0.3, 0.3]), always([0.7, 0.2, 0.1])
    assert float(acceptance(target([0], 1), draft([0], 1))) == pytest.approx(0.7)
    run = speculate(target, draft, [0], n_drafted=4, n_tokens=6000, generator=torch.Generator().manual_seed(0))
    law = {k + 1: 0.7**k * (0.3 if k < 4 else 1) for k in range(5)}
    mean = sum(k * p for k, p in law.items())
    variance = sum((k - mean) ** 2 * p for k, p in law.items())
    assert mean == pytest.approx(block_efficiency(0.7, 4))
    assert abs(len(run.tokens) / run.n_passes - mean) < 3 * math.sqrt(variance / run.n_passes)


def test_equal_models_keep_every_token():
    run = speculate(tabular(0), tabular(0), [0], n_drafted=4, n_tokens=50, generator=torch.Generator().manual_seed(0))
    assert all(run.accepted) and run.expected == pytest.approx([1.0] * len(run.accepted))
    assert len(run.tokens) == 5 * run.n_passes == 50
    assert standard_errors(sum(run.accepted), sum(run.expected), run.variance) == 0


def test_models_with_nothing_in_common_keep_none():
    draft, target = always([1.0, 0.0, 0.0]), always([0.0, 0.5, 0.5])
    run = speculate(target, draft, [0], n_drafted=3, n_tokens=20, generator=torch.Generator().manual_seed(0))
    assert not any(run.accepted) and run.n_passes == len(run.tokens) == 20 and 0 not in run.tokens


def test_greedy_is_the_target_s_own_text():
    """At temperature 0 whatever the draft; oracle: argmax after argmax."""

    def logits(seed: int) -> Tensor:
        return torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))

    def greedy(table: Tensor) -> NextTokens:
        rows = probabilities(table, 0)
        return lambda tokens, n: rows[list(tokens[-n:])]

    table = logits(0)
    wanted = [3]
    for _ in range(30):
        wanted.append(int(table[wanted[-1]].argmax()))
    for seed in range(1, 4):
        run = speculate(greedy(table), greedy(logits(seed)), [3], n_drafted=3, n_tokens=30, generator=torch.Generator())
        assert run.tokens[:30] == wanted[1:]
        assert standard_errors(sum(run.accepted), sum(run.expected), run.variance) == 0


def test_an_end_in_a_draft_ends_the_text():
    run = speculate(
        always([0.0, 1.0]), always([0.0, 1.0]), [0], n_drafted=4, n_tokens=9, generator=torch.Generator(), ends={1}
    )
    assert run.tokens == [1] and run.n_passes == 1 and run.accepted == [True]


def test_probabilities():
    logits = torch.tensor([1.0, 3.0, 3.0])
    assert probabilities(logits, 0).tolist() == [0, 1, 0]
    assert probabilities(logits, 2.0).tolist() == pytest.approx(
        [1 / (1 + 2 * math.e), *[math.e / (1 + 2 * math.e)] * 2]
    )
    with pytest.raises(ValueError, match="temperature"):
        probabilities(logits, -1)


def test_standard_errors_by_hand():
    """Three of four kept at a = 1/2 each: surplus 1, variance 1. Certain tokens are kept, or something is wrong."""
    assert standard_errors(3, 2.0, 1.0) == 1 and standard_errors(1, 2.0, 1.0) == -1
    assert standard_errors(10, 10 - 1e-6, 1e-6) == 0 and standard_errors(9, 10 - 1e-6, 1e-6) == -math.inf


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"acceptance 1\.1"):
        block_efficiency(1.1, 4)
    with pytest.raises(ValueError, match="0 tokens of a prompt"):
        speculate(tabular(0), tabular(1), [], n_drafted=1, n_tokens=1, generator=torch.Generator())
