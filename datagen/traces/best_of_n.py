"""A fixed number of attempts a prompt, all of them kept, the best by a scorer marked.

Best-of-n, or rejection sampling: Stiennon et al. Learning to summarize from human feedback. 2020. arXiv:2009.01325,
section 4.3; with a verifier as the scorer Cobbe et al. 2021, arXiv:2110.14168, section 4. The mean log-probability of
the answer's tokens as a score without a verifier: Adiwardana et al. 2020, arXiv:2001.09977 (sample-and-rank; there the
sum, here the mean, as a sum prefers short answers).

`best` is true for one attempt of each prompt that has an answer: the highest score, of equal ones the first made. The
others have false, and nothing is dropped: `datastill verify --set keep=best` does that, with a rejection for each.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from pydantic import Field, field_validator

from datagen.backends.base import Completion, Failure, Request, Sampling
from datagen.contracts.errors import BackendError
from datagen.contracts.params import Params
from datagen.contracts.records import Prompt
from datagen.traces import Attempt, Generate
from datagen.traces._scoring import check_verifier, judged, make_request

MEAN_LOGPROB = "mean_logprob"


class Config(Params):
    """`scorer` is a verifier's name, or mean_logprob: nats a token, reasoning included, where a backend gives them."""

    method: Literal["best_of_n"] = "best_of_n"
    samples_per_prompt: int = Field(default=4, ge=1)
    scorer: str = "by_row"
    verifier_timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("scorer")
    @classmethod
    def _check_scorer(cls, value: str) -> str:
        return value if value == MEAN_LOGPROB else check_verifier(value)


def best_of_n(config: Config, sampling: Sampling, prompts: Iterable[Prompt], generate: Generate) -> Iterator[Attempt]:
    """Every attempt, by prompt and then by sample index, with its score, one of each prompt marked as the best.

    Raises:
        BackendError: the scorer is mean_logprob, and an answer came without log-probabilities.
    """
    attempts = _attempts(config.samples_per_prompt, sampling, prompts, generate)
    scored = _by_logprob(attempts) if config.scorer == MEAN_LOGPROB else _by_verifier(attempts, config)
    for _, group in groupby(scored, key=lambda attempt: attempt.prompt):
        yield from mark_best(list(group))


def mark_best(attempts: Sequence[Attempt]) -> Iterator[Attempt]:
    """The attempts at one prompt with `best` true for the highest score, of equal ones for the first; null without."""
    scores = [attempt.score for attempt in attempts if attempt.score is not None]
    best = next((one for one in attempts if scores and one.score == max(scores)), None)
    for attempt in attempts:
        yield attempt if attempt.score is None else replace(attempt, best=attempt is best)


def _attempts(n_samples: int, sampling: Sampling, prompts: Iterable[Prompt], generate: Generate) -> Iterator[Attempt]:
    asked: deque[tuple[Prompt, int]] = deque()

    def requests() -> Iterator[Request]:
        for prompt in prompts:
            for index in range(n_samples):
                asked.append((prompt, index))
                yield make_request(prompt, index, sampling)

    for outcome in generate(requests()):
        prompt, index = asked.popleft()
        yield Attempt(prompt=prompt, sample_index=index, outcome=outcome)


def _by_verifier(attempts: Iterable[Attempt], config: Config) -> Iterator[Attempt]:
    for attempt, verdict in judged(attempts, config.scorer, config.verifier_timeout_s):
        yield replace(attempt, score=verdict.score) if verdict else attempt


def _by_logprob(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    for attempt in attempts:
        answer = attempt.outcome.answer
        yield attempt if isinstance(answer, Failure) else replace(attempt, score=_mean_logprob(answer))


def _mean_logprob(answer: Completion) -> float:
    if not answer.logprobs:
        raise BackendError(
            "an answer came without log-probabilities, which scorer=mean_logprob takes; set "
            "logprobs=true where the backend has that, or name a verifier as the scorer"
        )
    return sum(logprob for _, logprob in answer.logprobs) / len(answer.logprobs)
