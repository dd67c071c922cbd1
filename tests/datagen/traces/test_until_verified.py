"""Oracles: a backend written here, whose answers are known before; what a plain loop over one prompt would ask."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest

from datagen.backends.base import Completion, Failure, Request, Sampling
from datagen.contracts.records import Prompt
from datagen.traces import Attempt
from datagen.traces.n_samples import Config as NSamples
from datagen.traces.n_samples import n_samples
from datagen.traces.until_verified import Config, until_verified
from tests.drawing import BACKENDS, Drawing

MAX_ATTEMPTS = 5
SAMPLING = Sampling(max_new_tokens=100)


def prompt(i: int, **changed: object) -> Prompt:
    return Prompt(**{"id": f"p{i}", "messages": [{"role": "user", "content": str(i)}], "reference": "7"} | changed)  # pyright: ignore[reportArgumentType]


def n_needed(i: int) -> int:
    """At which attempt prompt i is answered well; above MAX_ATTEMPTS never."""
    return random.Random(i).choice([1, 1, 1, 2, 3, 5, 99])


def answer(request: Request) -> Completion | Failure:
    i = int(request.messages[0].get("content") or "")
    right = request.sample_index + 1 >= n_needed(i)
    return Completion(text="7" if right else "8", n_completion_tokens=10, logprobs=[("7", 0.0)])


class Backend(Drawing):
    """Gives the answers of this file."""

    def __init__(self, ahead: int, piece: int, patient: bool) -> None:
        super().__init__(ahead, piece, patient, answer)


def attempts_of(config: Config, prompts: Iterable[Prompt], backend: Backend) -> list[Attempt]:
    return list(until_verified(config, SAMPLING, prompts, backend.generate))


def shape(attempts: Iterable[Attempt]) -> list[tuple[str, int, float | None, bool | None]]:
    return [(one.prompt.id, one.sample_index, one.score, one.verified) for one in attempts]


@pytest.mark.parametrize("window", [3, 4096])
@pytest.mark.parametrize(("ahead", "piece", "patient"), BACKENDS)
def test_each_prompt_is_asked_until_it_is_verified(ahead: int, piece: int, patient: bool, window: int):
    """However the backend draws: the rows of a loop over one prompt after another, and not one request more."""
    backend = Backend(ahead, piece, patient)
    found = attempts_of(Config(max_attempts=MAX_ATTEMPTS, window=window), map(prompt, range(200)), backend)
    expected = [
        (f"p{i}", index, float(index + 1 == n_needed(i)), index + 1 == n_needed(i))
        for i in range(200)
        for index in range(min(n_needed(i), MAX_ATTEMPTS))
    ]
    assert shape(found) == expected
    assert len(backend.asked) == len(expected)


def test_no_prompt_gives_no_attempt():
    assert attempts_of(Config(), [], Backend(8, 8, False)) == []


def test_a_backend_that_draws_again_is_called_once():
    """Its wire never has to run dry for a new call, save at the very end."""
    backend = Backend(64, 16, True)
    attempts_of(Config(max_attempts=MAX_ATTEMPTS), map(prompt, range(500)), backend)
    assert backend.n_calls == 1


def test_the_order_of_requests_is_the_same_on_every_run():
    """Of a backend with blocks: its batches hold the same requests, which its bytes may depend on."""
    backends = [Backend(512, 512, False) for _ in range(2)]
    for backend in backends:
        attempts_of(Config(max_attempts=MAX_ATTEMPTS), map(prompt, range(700)), backend)
    first, second = ([(r.messages[0], r.sample_index) for r in one.asked] for one in backends)
    assert first == second


def test_its_requests_are_those_of_n_samples():
    """So the answers that one bought are there for the other."""
    backend = Backend(8, 8, True)
    attempts_of(Config(max_attempts=MAX_ATTEMPTS), map(prompt, range(20)), backend)
    other = Backend(8, 8, True)
    list(n_samples(NSamples(samples_per_prompt=MAX_ATTEMPTS), SAMPLING, map(prompt, range(20)), other.generate))
    keys = {request.key({}) for request in backend.asked}
    assert len(keys) == len(backend.asked)
    assert keys < {request.key({}) for request in other.asked}


def test_rounds_of_several_attempts():
    """Two at a time: an even number, the last cut to the budget."""
    found = attempts_of(Config(max_attempts=MAX_ATTEMPTS, round_size=2), map(prompt, range(100)), Backend(64, 16, True))
    by_prompt = {f"p{i}": sum(one.prompt.id == f"p{i}" for one in found) for i in range(100)}
    expected = {f"p{i}": min(n_needed(i) + n_needed(i) % 2, MAX_ATTEMPTS) for i in range(100)}
    assert by_prompt == expected


@pytest.mark.parametrize(("counted", "n_attempts"), [(10, 3), (None, 1)])
def test_the_budget_of_tokens_ends_a_prompt(counted: int | None, n_attempts: int):
    """25 tokens at 10 an answer: none starts after the third; one that was not counted stands for 100."""
    backend = Backend(8, 8, True)
    backend.answer = lambda request: Completion(text="8", n_completion_tokens=counted)
    found = attempts_of(Config(max_attempts=9, max_tokens_per_prompt=25), [prompt(0)], backend)
    assert len(found) == n_attempts


@pytest.mark.parametrize(("reason", "n_attempts"), [("reasoning_only", 3), ("no_reasoning", 3), ("empty_answer", 9)])
def test_an_answer_that_lacks_a_part_spends_tokens(reason: str, n_attempts: int):
    """250 tokens at 100 for each answer that is dropped for what it lacks: none starts after the third."""
    backend = Backend(8, 8, True)
    backend.answer = lambda request: Failure(reason=reason, detail="")
    found = attempts_of(Config(max_attempts=9, max_tokens_per_prompt=250), [prompt(0)], backend)
    assert len(found) == n_attempts


def test_what_no_further_attempt_can_mend_ends_its_prompt():
    """An error and a prompt without a reference get one attempt; an empty answer counts as one that failed."""
    backend = Backend(8, 8, True)
    reasons = {"0": "http_500", "1": "empty_answer", "2": "no_reasoning"}
    backend.answer = lambda request: (
        Failure(reason=reasons[text], detail="")
        if (text := request.messages[0].get("content") or "") in reasons
        else Completion(text="8")
    )
    prompts = [prompt(0), prompt(1), prompt(2), prompt(3, reference=None), prompt(4)]
    found = attempts_of(Config(max_attempts=3), prompts, backend)
    assert [sum(one.prompt.id == f"p{i}" for one in found) for i in range(5)] == [1, 3, 3, 1, 3]
    assert {one.score for one in found if one.prompt.id in ("p0", "p1", "p2")} == {None}


def test_memory_is_bounded_by_the_window():
    """The first prompt needs every attempt of a long budget: the others wait for it, at most a window of them."""
    n_drawn = 0

    def endless() -> Iterator[Prompt]:
        nonlocal n_drawn
        for n_drawn in range(1, 10_000):
            yield prompt(n_drawn)

    backend = Backend(16, 4, True)
    backend.answer = lambda request: Completion(text="8" if request.messages[0].get("content") == "1" else "7")
    attempts = until_verified(Config(max_attempts=50, window=100), SAMPLING, endless(), backend.generate)
    first = list(islice(attempts, 50))
    assert {one.prompt.id for one in first} == {"p1"}
    assert n_drawn <= 100 + 16
    assert all(isinstance(a := one.outcome.answer, Completion) and a.logprobs is None for one in first)


def test_symbolic_answers_are_judged_by_workers_that_stay():
    """X + x is 2x by Math-Verify, round after round."""
    backend = Backend(1, 1, True)
    backend.answer = lambda request: Completion(text=rf"\boxed{{{'x' if request.sample_index < 2 else 'x+x'}}}")
    config = Config(verifier="math_answer", max_attempts=4)
    found = attempts_of(config, [prompt(i, reference="2x") for i in range(2)], backend)
    assert [one.score for one in found] == [0.0, 0.0, 1.0] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("judge", "judge asks a backend of its own, and a section names one, the teacher"),
        ("reward_model", "reward_model needs reward_model, threshold, which no section of traces holds"),
        ("self_consistency", "self_consistency compares the attempts at a prompt, and each is judged as it comes"),
    ],
)
def test_a_verifier_that_cannot_judge_one_attempt_is_refused(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        Config(verifier=name)


def test_any_verifier_that_needs_no_parameter_judges():
    """A short answer, word by word."""
    backend = Backend(1, 1, True)
    backend.answer = lambda request: Completion(text="Rome" if request.sample_index == 0 else "Paris!")
    config = Config(verifier="short_answer", max_attempts=3)
    assert [one.score for one in attempts_of(config, [prompt(0, reference="paris")], backend)] == [0.0, 1.0]


@pytest.mark.parametrize("name", ["pool", "nothing"])
def test_a_verifier_that_is_not_there_is_named(name: str):
    with pytest.raises(ValueError, match=f"no '{name}' in datagen.verify; there are by_row"):
        Config(verifier=name)
