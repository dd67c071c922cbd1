"""A world small enough for exact distances: an oracle, a teacher that errs, a student that learns from the teacher.

Tiapkin et al. On Teacher Hacking in Language Model Distillation. ICML 2025. arXiv:2502.02671: golden is the distance of
the student to the oracle, proxy that to the teacher, both over prompts; token-level soft distillation on responses of
the teacher. The paper's three are of the T5 family. Here a prompt is a point of 16 numbers and a response 6 of 8
tokens, each drawn given the prompt and the token before it. The oracle's logits are linear in both; the teacher's have
an error over them, a sum of fast sines, so that it says nothing of another prompt; the student's are linear in random
features, of slow ones, so that it learns what prompts share before it learns their errors. Distances are per token,
KL(oracle || student) on the oracle's responses and KL(teacher || student) on the teacher's, summed exactly over all
responses to held-out prompts; the proxy that is trained on is over the responses at hand.

Axes: P prompts, T tokens of a response, S states (a token before, or the start), V vocabulary, N contexts, F features.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    from trainers.hacking.setting import Config

Array = NDArray[np.float64]
VOCABULARY, LENGTH, N_COORDINATES = 8, 6, 16
START = VOCABULARY  # the state before the first token
N_STATES = VOCABULARY + 1
_N_ERROR_FEATURES = 64
_ORACLE_SCALE, _ERROR_SCALE, _STUDENT_SCALE = 1.5, 4.0, 0.7  # of logits; of the sines' and the features' frequencies
_POINTS = 80  # of a curve, evenly spaced in the logarithm of the step
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's


class Point(NamedTuple):
    """Distances in nats per token after `step` updates: on the training responses, and on held-out prompts."""

    step: int
    train_proxy: float
    proxy: float
    golden: float


class World:
    """An oracle, a teacher and a student's features, drawn from a generator."""

    def __init__(self, generator: np.random.Generator, teacher_error: float, n_features: int) -> None:
        """Draw it.

        Args:
            generator: of all draws.
            teacher_error: root mean square of the error of the teacher's logits.
            n_features: of the student.
        """
        self._oracle = _ORACLE_SCALE * _weights(generator, VOCABULARY)
        self._error = _ERROR_SCALE * _weights(generator, _N_ERROR_FEATURES), _phases(generator, _N_ERROR_FEATURES)
        self._mixed = generator.normal(size=(_N_ERROR_FEATURES, VOCABULARY)) * np.sqrt(2 / _N_ERROR_FEATURES)
        self._mixed *= teacher_error
        self._student = _STUDENT_SCALE * _weights(generator, n_features), _phases(generator, n_features)

    def oracle(self, prompts: Array, states: NDArray[np.int64]) -> Array:
        """(N, V) log-probs of the next token, given (N, 16) prompts and (N,) states."""
        return log_softmax(_linear(self._oracle, prompts, states))

    def teacher(self, prompts: Array, states: NDArray[np.int64]) -> Array:
        """Likewise, of the teacher."""
        weights, phases = self._error
        error = np.sin(_linear(weights, prompts, states) + phases) @ self._mixed
        return log_softmax(_linear(self._oracle, prompts, states) + error)

    def features(self, prompts: Array, states: NDArray[np.int64]) -> Array:
        """(N, F), in (-1, 1): what the student's logits are linear in."""
        weights, phases = self._student
        return np.tanh(_linear(weights, prompts, states) + phases)


class _Student:
    """Logits linear in features, from zero, by Adam (Kingma, Ba. 2014. arXiv:1412.6980) at a constant rate."""

    def __init__(self, n_features: int, learning_rate: float) -> None:
        self.weights = np.zeros((n_features, VOCABULARY))
        self._moments = np.zeros_like(self.weights), np.zeros_like(self.weights)
        self._rate, self._step = learning_rate, 0

    def log_probs(self, features: Array) -> Array:
        return log_softmax(features @ self.weights)

    def update(self, gradient: Array) -> None:
        self._step += 1
        first, second = (
            beta * moment + (1 - beta) * power
            for beta, moment, power in zip(_BETAS, self._moments, (gradient, gradient**2), strict=True)
        )
        self._moments = first, second
        mean, square = (m / (1 - beta**self._step) for m, beta in zip((first, second), _BETAS, strict=True))
        self.weights -= self._rate * mean / (np.sqrt(square) + _EPSILON)


class _HeldOut:
    """Every context of held-out prompts, and how often oracle and teacher come to it."""

    def __init__(self, world: World, prompts: Array) -> None:
        contexts = np.repeat(prompts, N_STATES, axis=0), np.tile(np.arange(N_STATES), len(prompts))
        self._features = world.features(*contexts)
        log_probs = world.teacher(*contexts), world.oracle(*contexts)
        self._judges = [(one, visits(one.reshape(-1, N_STATES, VOCABULARY)).reshape(-1)) for one in log_probs]

    def distances(self, student: _Student) -> tuple[float, float]:
        """Proxy and golden."""
        log_q = student.log_probs(self._features)
        proxy, golden = (divergence(log_p, log_q, weights) for log_p, weights in self._judges)
        return proxy, golden


def curve(config: "Config", seed: int) -> list[Point]:
    """Train a student in the world of a seed; its distances at step 0 and at steps evenly spaced in their logarithm.

    The same numbers for equal arguments on one machine.
    """
    n_prompts, m = config.n_prompts, config.responses_per_prompt
    world = World(_generator(seed, "world"), config.teacher_error, config.n_features)
    held_out = _HeldOut(world, _draw_prompts(_generator(seed, "held out"), config.n_held_out))
    student = _Student(config.n_features, config.learning_rate)
    generator = _generator(seed, "data")
    prompts = np.repeat(_draw_prompts(generator, n_prompts), m, axis=0)
    features, log_p = respond(world, prompts, generator)
    shown = {0, *(round(config.n_steps ** (i / (_POINTS - 1))) for i in range(_POINTS))}
    points: list[Point] = []
    for step in range(config.n_steps + 1):
        if step and config.fresh != "nothing":
            if config.fresh == "prompts":
                prompts = np.repeat(_draw_prompts(generator, n_prompts), m, axis=0)
            features, log_p = respond(world, prompts, generator)
        log_q = student.log_probs(features)
        if step in shown:
            points.append(Point(step, divergence(log_p, log_q), *held_out.distances(student)))
        student.update(features.T @ (np.exp(log_q) - np.exp(log_p)) / len(features))
    return points


def respond(world: World, prompts: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """A response of the teacher to each of (P, 16) prompts: (P T, F) features and (P T, V) its log-probs."""
    states = np.full(len(prompts), START)
    features: list[Array] = []
    log_probs: list[Array] = []
    for _ in range(LENGTH):
        log_p = world.teacher(prompts, states)
        features.append(world.features(prompts, states))
        log_probs.append(log_p)
        below = generator.random((len(prompts), 1)) > np.exp(log_p).cumsum(axis=1)
        states = np.minimum(below.sum(axis=1), VOCABULARY - 1)  # rounding may leave the last sum below 1
    return np.concatenate(features), np.concatenate(log_probs)


def visits(log_probs: Array) -> Array:
    """(P, S): how often a response of `LENGTH` tokens is expected in each state, of (P, S, V) log-probs."""
    at = np.zeros(log_probs.shape[:2])
    at[:, START] = 1.0
    total, probs = np.zeros_like(at), np.exp(log_probs)
    for _ in range(LENGTH):
        total += at
        following = np.zeros_like(at)
        following[:, :VOCABULARY] = (at[:, None] @ probs)[:, 0]
        at = following
    return total


def divergence(log_p: Array, log_q: Array, weights: Array | None = None) -> float:
    """KL(p || q) in nats, the mean over (N, V) contexts, weighted by (N,) `weights` where they are given."""
    each = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return float(np.average(each, weights=weights))


def log_softmax(logits: Array) -> Array:
    """Log-probs over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _generator(seed: int, what: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "teacher hacking", what))


def _draw_prompts(generator: np.random.Generator, n: int) -> Array:
    return generator.normal(size=(n, N_COORDINATES))


def _weights(generator: np.random.Generator, n: int) -> Array:
    """(16 + S, n): of a prompt's coordinates, which have the weight of one number together, and of the state."""
    weights = generator.normal(size=(N_COORDINATES + N_STATES, n))
    weights[:N_COORDINATES] /= np.sqrt(N_COORDINATES)
    return weights


def _phases(generator: np.random.Generator, n: int) -> Array:
    return generator.uniform(0, 2 * np.pi, n)


def _linear(weights: Array, prompts: Array, states: NDArray[np.int64]) -> Array:
    return prompts @ weights[:N_COORDINATES] + weights[N_COORDINATES:][states]
