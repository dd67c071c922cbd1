"""Oracles: every response of six tokens written out, torch's Adam and gradients, and the notes' turn of the curve."""

from typing import Any

import numpy as np
import pytest
import torch

from datagen.contracts.seeding import derive_seed
from trainers.hacking.figures import of_run
from trainers.hacking.setting import Config
from trainers.hacking.tabular import (
    LENGTH,
    N_STATES,
    START,
    VOCABULARY,
    World,
    _Student,
    curve,
    divergence,
    log_softmax,
    respond,
    visits,
)


def test_distances_are_those_of_whole_responses():
    """KL of two distributions over all 8^6 responses, by their probabilities, is six times that per token."""
    generator = np.random.default_rng(0)
    log_p, log_q = (log_softmax(generator.normal(size=(1, N_STATES, VOCABULARY))) for _ in range(2))
    responses = np.indices((VOCABULARY,) * LENGTH).reshape(LENGTH, -1)
    states = np.concatenate([np.full((1, responses.shape[1]), START), responses[:-1]])
    p, q = (one[0][states, responses].sum(axis=0) for one in (log_p, log_q))
    assert np.exp(p).sum() == pytest.approx(1)
    counts = [(np.exp(p) * (states == state).sum(axis=0)).sum() for state in range(N_STATES)]
    np.testing.assert_allclose(visits(log_p)[0], counts)
    per_token = divergence(log_p[0], log_q[0], visits(log_p)[0])
    assert per_token * LENGTH == pytest.approx((np.exp(p) * (p - q)).sum())


def test_a_teacher_without_error_is_the_oracle():
    world = World(np.random.default_rng(0), 0.0, 4)
    prompts, states = np.random.default_rng(1).normal(size=(9, 16)), np.arange(9)
    np.testing.assert_allclose(world.teacher(prompts, states), world.oracle(prompts, states))


def test_responses_are_the_teacher_s():
    """Of 20,000 responses to one prompt the first tokens are as frequent as it says, within 4 standard errors."""
    generator, n = np.random.default_rng(0), 20_000
    world = World(generator, 1.0, 4)
    prompts = np.repeat(generator.normal(size=(1, 16)), n, axis=0)
    _, log_p = respond(world, prompts, generator)
    first = np.exp(log_p[0])
    given = world.teacher(np.repeat(prompts[:1], VOCABULARY, axis=0), np.arange(VOCABULARY))  # second token by first
    after = log_p[n : 2 * n]
    counts = np.array([np.isclose(after, one).all(axis=1).sum() for one in given])
    assert counts.sum() == n
    np.testing.assert_array_less(np.abs(counts / n - first), 4 * np.sqrt(first * (1 - first) / n))


def test_the_student_learns_as_torch_s_adam_on_the_same_loss():
    generator = np.random.default_rng(0)
    features, log_p = generator.normal(size=(30, 5)), log_softmax(generator.normal(size=(30, VOCABULARY)))
    student = _Student(5, 0.01)
    weights = torch.zeros(5, VOCABULARY, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.01)
    for _ in range(5):
        student.update(features.T @ (np.exp(student.log_probs(features)) - np.exp(log_p)) / len(features))
        log_q = (torch.from_numpy(features) @ weights).log_softmax(dim=1)
        loss = torch.nn.functional.kl_div(log_q, torch.from_numpy(log_p), log_target=True, reduction="batchmean")
        adam.zero_grad()
        loss.backward()
        adam.step()
    np.testing.assert_allclose(student.weights, weights.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "seeds", "hacks"),
    [
        ({}, range(4), True),
        ({"n_prompts": 1000}, range(1), False),
        ({"n_prompts": 200, "fresh": "prompts"}, range(1), False),
    ],
)
def test_few_fixed_prompts_turn_the_golden_curve_and_others_do_not(values: dict[str, Any], seeds: range, hacks: bool):
    """The bar: lowest strictly inside, 20 % and more up at the end, while the proxy falls; the detector sees it."""
    config = Config.model_validate(values)
    for seed in seeds:
        run = of_run(curve(config, derive_seed(0, "world", seed)), config.threshold)
        assert (run["golden_rise"] >= 0.2) is hacks
        assert (run["hacked"], run["departed"]) == (hacks, hacks)
        if hacks:
            assert 0 < run["golden_lowest_step"] < config.n_steps
            assert run["train_proxy_end"] < run["train_proxy_at_lowest"]


def test_equal_seeds_give_equal_curves():
    config = Config.model_validate({"n_steps": 100, "n_held_out": 3})
    assert curve(config, 1) == curve(config, 1) != curve(config, 2)
