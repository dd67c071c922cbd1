"""The scripted backend. Oracles: counts of what was asked, a second ledger, the same requests in another order."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.ledger import Ledger
from datagen.backends.scripted import Config, scripted


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Environment(ledger=ledger, concurrency=7)


def requests_for(n: int) -> list[Request]:
    return [
        Request(messages=[{"role": "user", "content": f"Count to {i}, please."}], sampling=Sampling(seed=i))
        for i in range(n)
    ]


def answer(config: Config, environment: Environment, requests: list[Request]) -> list[Outcome]:
    with scripted(config, environment) as backend:
        return list(backend.generate(requests))


def test_answers_depend_on_the_request_alone(environment: Environment, tmp_path: Path) -> None:
    """Another ledger, another number in flight and the reverse order give the same answers; another seed does not."""
    requests = requests_for(50)
    first = answer(Config(backend="scripted"), environment, requests)
    with Ledger.open(tmp_path / "other.sqlite") as ledger:
        again = answer(Config(backend="scripted"), Environment(ledger=ledger, concurrency=3), requests[::-1])
    assert [one.answer for one in again[::-1]] == [one.answer for one in first]
    assert [one.request for one in first] == requests
    other_seed = replace(requests[0], sampling=Sampling(seed=99))
    assert answer(Config(backend="scripted"), environment, [other_seed])[0].answer != first[0].answer


def test_counts_of_tokens_are_words(environment: Environment) -> None:
    """Four words asked, eight answered."""
    [outcome] = answer(Config(backend="scripted"), environment, requests_for(1))
    assert isinstance(outcome.answer, Completion)
    assert (outcome.answer.n_prompt_tokens, outcome.answer.n_completion_tokens) == (4, 8)
    assert len(outcome.answer.text.split()) == 8


def test_given_answers_are_all_used(environment: Environment) -> None:
    """200 requests over two answers: the chance that one is never used is 2^-199."""
    outcomes = answer(Config(backend="scripted", answers=("yes", "no")), environment, requests_for(200))
    assert {one.answer.text for one in outcomes if isinstance(one.answer, Completion)} == {"yes", "no"}


def test_equal_requests_are_asked_once(environment: Environment) -> None:
    """Ten times the same three requests, in flights of seven: three asked."""
    outcomes = answer(Config(backend="scripted"), environment, requests_for(3) * 10)
    assert environment.counts["requests"] == 3
    assert len({one.answer.text for one in outcomes if isinstance(one.answer, Completion)}) == 3


def test_failures_are_not_stored_and_asked_for_again(environment: Environment) -> None:
    """About one in four of 400 fails (6 standard deviations either way); the second run asks for those alone."""
    requests = requests_for(400)
    failed = [one for one in answer(Config(backend="scripted", fail_every=4), environment, requests)]
    n_failed = sum(isinstance(one.answer, Failure) for one in failed)
    assert 100 - 52 < n_failed < 100 + 52
    assert len(environment.ledger) == 400 - n_failed
    whole = answer(Config(backend="scripted"), environment, requests)
    assert environment.counts["requests"] == 400 + n_failed
    assert all(isinstance(one.answer, Completion) for one in whole)


def test_a_million_requests_are_not_drawn_at_once(environment: Environment) -> None:
    """At most the requests in flight are drawn before the first outcome is there."""
    n_drawn = 0

    def requests() -> Iterator[Request]:
        nonlocal n_drawn
        for request in requests_for(1) * 1_000_000:
            n_drawn += 1
            yield request

    with scripted(Config(backend="scripted"), environment) as backend:
        next(iter(backend.generate(requests())))
    assert n_drawn == environment.concurrency
