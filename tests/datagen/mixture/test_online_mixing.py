"""Oracles: rounds by hand, Exp3's bound of exploration, and a bandit whose best arm is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from datagen.contracts.errors import DataError
from datagen.mixture import Mix, Seen
from datagen.mixture.online_mixing import Config, explore, next_rewards, online_mixing, policy

NAN = math.nan


def seen(losses: list[float] | None, step: int, n_steps: int = 1000) -> Seen:
    trained = None if losses is None else np.array(losses)
    return Seen(names=["a", "b"], n_tokens=np.ones(2), trained_losses=trained, step=step, n_steps=n_steps)


def test_two_rounds_by_hand():
    """N = 2, a = .5. Round 8: R = (.5 * 3 / .5, 0) = (3, 0), eps_8 = sqrt(ln 2 / 16) = .20814, eps before 1 / 2.

    pi = (1 - 2 eps) softmax(1.5, 0) + eps. Round 32: R = (3, .5 * 4 / pi_b), eps_32 = sqrt(ln 2 / 64).
    """
    config = Config(reward_decay=0.5, warmup_share=0)
    first = online_mixing(config, None, seen(None, 0))
    assert first.weights == (0.5, 0.5)
    second = online_mixing(config, first, seen([3.0, NAN], 8))
    eps = math.sqrt(math.log(2) / 16)
    a = (1 - 2 * eps) / (1 + math.exp(-1.5)) + eps
    assert second.weights == approx((a, 1 - a), abs=1e-12)
    third = online_mixing(config, second, seen([NAN, 4.0], 32))
    rewards = (3.0, 2 / (1 - a))
    later = math.sqrt(math.log(2) / 64)
    b = (1 - 2 * later) / (1 + math.exp(eps * (rewards[1] - rewards[0]))) + later
    assert third.weights == approx((b, 1 - b), abs=1e-12)
    assert third.memory["rewards"] == approx(rewards) and third.memory["exploration"] == approx([later])


def test_warm_up_leaves_everything_as_it_began():
    first = online_mixing(Config(), None, seen(None, 0))
    assert online_mixing(Config(warmup_share=0.1), first, seen([9.0, 1.0], 100)) == first
    assert online_mixing(Config(warmup_share=0.1), first, seen([9.0, 1.0], 101)) != first


@given(st.integers(2, 20), st.integers(0, 10**6))
def test_exploration_falls_and_leaves_a_distribution(n: int, step: int):
    eps = explore(n, step)
    assert 0 < eps <= 1 / n and explore(n, step + 1) <= eps
    assert eps == 1 / n or eps == approx(math.sqrt(math.log(n) / (n * step)))
    pi = policy(np.linspace(0, 1e5, n), 1 / n, eps)
    assert pi.sum() == approx(1) and pi.min() >= eps - 1e-15
    assert explore(1, step) == 0 and policy(np.zeros(1), 1.0, 0.0).tolist() == [1.0]


def test_an_undrawn_domain_keeps_its_reward_and_order_does_not_matter():
    old, pi, losses = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.3, 0.5]), np.array([4.0, NAN, 1.0])
    new = next_rewards(old, pi, losses, decay=0.9)
    assert new == approx([0.9 + 0.1 * 20, 2.0, 2.7 + 0.1 * 2])
    order = [2, 0, 1]
    assert next_rewards(old[order], pi[order], losses[order], decay=0.9) == approx(new[order])


def test_a_domain_that_stays_hard_is_drawn_most():
    """Losses 4, 2, 1 for ever: expected rewards are in that order, and so are the weights in the end."""
    generator, losses = np.random.default_rng(0), np.array([4.0, 2.0, 1.0])
    known = Seen(names=list("abc"), n_tokens=np.ones(3), n_steps=500)
    mix, total = online_mixing(Config(warmup_share=0), None, known), np.zeros(3)
    for step in range(1, 501):
        drawn = np.unique(generator.choice(3, size=16, p=mix.weights))
        trained = np.full(3, NAN)
        trained[drawn] = losses[drawn]
        known = Seen(names=list("abc"), n_tokens=np.ones(3), trained_losses=trained, step=step, n_steps=500)
        mix = online_mixing(Config(warmup_share=0), mix, known)
        total += mix.weights
    assert total[0] > total[1] > total[2]


@pytest.mark.parametrize("losses", [None, [1.0], [1.0, math.inf]])
def test_losses_that_are_none_are_refused(losses: list[float] | None):
    with pytest.raises(DataError, match="trained_losses: the rule needs"):
        online_mixing(Config(), Mix(weights=(0.5, 0.5)), seen(losses, 100))
