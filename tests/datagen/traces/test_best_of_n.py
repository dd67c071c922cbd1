"""Oracles: scores and log-probabilities written by hand; n_samples' requests."""

from collections.abc import Iterable, Iterator, Mapping

import pytest

from datagen.backends.base import Completion, Failure, Outcome, Request, Sampling
from datagen.contracts.errors import BackendError
from datagen.contracts.records import Prompt
from datagen.traces import Attempt
from datagen.traces.best_of_n import Config, best_of_n
from datagen.traces.n_samples import Config as NSamples
from datagen.traces.n_samples import n_samples

Answer = Completion | Failure
FAILED = Failure(reason="http_500", detail="")
QUOTED_AND_SEVEN = [
    {"id": "startend:quotation", "kwargs": "{}"},
    {"id": "keywords:existence", "kwargs": '{"keywords": ["seven"]}'},
]


def run(config: Config, answers: Mapping[str, list[Answer]]) -> list[Attempt]:
    """Attempts at prompts that are called as the answers' keys, each attempt answered as listed."""

    def generate(requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            given = answers[request.messages[0].get("content") or ""][request.sample_index]
            yield Outcome(request=request, key=b"", answer=given)

    prompts = [
        Prompt(id=id, messages=[{"role": "user", "content": id}], constraints=QUOTED_AND_SEVEN)  # pyright: ignore[reportArgumentType]
        for id in answers
    ]
    return list(best_of_n(config, Sampling(), prompts, generate))


def marked(attempts: list[Attempt]) -> dict[str, list[bool | None]]:
    found: dict[str, list[bool | None]] = {}
    for one in attempts:
        found.setdefault(one.prompt.id, []).append(one.best)
    return found


def texts(*given: str) -> list[Answer]:
    return [Completion(text=text) if text else FAILED for text in given]


def test_the_highest_score_is_marked_and_every_attempt_kept():
    """Of two constraints an answer meets 0, 1 or 2: scores 0, 0.5, 1. Of equal ones the first; failures have none."""
    answers = {
        "a": texts("6", "seven", '"seven"'),
        "tie": texts("6", "seven", '"6"'),
        "all wrong": texts("6", "6", "6"),
        "failed": texts("", "seven", ""),
        "nothing": texts("", "", ""),
    }
    attempts = run(Config(samples_per_prompt=3, scorer="instruction_constraints"), answers)
    assert marked(attempts) == {
        "a": [False, False, True],
        "tie": [False, True, False],
        "all wrong": [True, False, False],
        "failed": [None, True, None],
        "nothing": [None, None, None],
    }
    assert [one.score for one in attempts[:6]] == [0.0, 0.5, 1.0, 0.0, 0.5, 0.5]
    assert [one.sample_index for one in attempts] == [0, 1, 2] * 5


def test_mean_logprob_is_a_token_s_mean():
    """-0.5 a token beats -0.6, though three of them sum to less than one of those."""
    short = Completion(text="s", logprobs=[("s", -0.6)])
    long = Completion(text="l", logprobs=[("l", -0.5)] * 3)
    attempts = run(Config(samples_per_prompt=3, scorer="mean_logprob"), {"p": [short, FAILED, long]})
    assert marked(attempts) == {"p": [False, None, True]}
    assert [one.score for one in attempts] == [pytest.approx(-0.6), None, pytest.approx(-0.5)]


def test_a_backend_without_logprobs_is_told_so():
    with pytest.raises(BackendError, match="set logprobs=true where the backend has that"):
        run(Config(samples_per_prompt=1, scorer="mean_logprob"), {"p": texts("seven")})


def test_its_requests_are_those_of_n_samples():
    asked: list[list[bytes]] = [[], []]
    prompts = [Prompt(id=f"p{i}", messages=[{"role": "user", "content": "x"}], reference="7") for i in range(5)]
    for seen, method, config in (
        (asked[0], best_of_n, Config()),
        (asked[1], n_samples, NSamples(samples_per_prompt=4)),
    ):

        def generate(requests: Iterable[Request], seen: list[bytes] = seen) -> Iterator[Outcome]:
            for request in requests:
                seen.append(request.key({}))
                yield Outcome(request=request, key=b"", answer=Completion(text="7"))

        list(method(config, Sampling(), prompts, generate))  # pyright: ignore[reportArgumentType]
    assert asked[0] == asked[1]
