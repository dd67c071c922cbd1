"""Attempts at a prompt, one after another, until one passes a verifier or the prompt's budget ends; all are kept.

Tian et al. Not All Correct Answers Are Equal: Why Your Distillation Source Matters. 2025. arXiv:2505.14464, section 2:
every query is sampled again until its verification score reaches 0.9. Where the paper is silent: an attempt without an
answer (an error of the server, a prompt too long) ends its prompt for this run, since a rerun asks for that attempt
again and may need none after it; a prompt that the verifier cannot judge gets one attempt. An empty answer, or one that
lacks its reasoning, is an attempt that failed.

The rule stops on success, so passes divided by attempts is no estimate of the pass rate: it is too high. What is
unbiased is whether one of the first k attempts passed, and verify publishes that (`datagen.verify.attempts`).

Attempt i at a prompt is the request that n_samples makes for it, so going over from one to the other buys nothing
twice. What is asked next depends on a prompt's own answers alone: rows do not depend on the concurrency.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field, field_validator

from datagen.backends.base import Completion, Failure, Outcome, Request, Sampling
from datagen.contracts.params import Params
from datagen.contracts.records import BAD_ANSWERS, Prompt, Verdict
from datagen.contracts.stage import load_method
from datagen.traces import Attempt, Generate
from datagen.traces._scoring import check_verifier, judged, make_request
from datagen.verify.pool import KeptWorkers

UNJUDGEABLE = frozenset({"no_reference", "no_constraints", "unknown_instruction", "bad_arguments"})  # by the prompt


class Config(Params):
    """When a prompt's attempts end.

    `max_tokens_per_prompt` bounds the completion tokens of all attempts at a prompt: none starts once they are spent;
    0 sets no bound. An answer whose tokens the teacher did not count stands for `max_new_tokens`, as does one that was
    rejected for what it lacks (`no_reasoning`, `reasoning_only`); an empty answer counts none. `round_size` attempts
    are made before the prompt is judged: more of them wait less, and buy more than was needed. `verifier_timeout_s`
    bounds one check. At most `window` prompts are held: one that needs many attempts lets that many others go on.
    """

    method: Literal["until_verified"] = "until_verified"
    verifier: str = "by_row"
    verifier_timeout_s: float = Field(default=10.0, gt=0)
    verified_score: float = Field(default=0.9, ge=0, le=1)  # section 2
    max_attempts: int = Field(default=8, ge=1)
    max_tokens_per_prompt: int = Field(default=0, ge=0)
    round_size: int = Field(default=1, ge=1)
    window: int = Field(default=4096, ge=1)

    @field_validator("verifier")
    @classmethod
    def _check_verifier(cls, value: str) -> str:
        check_verifier(value)
        if hasattr(load_method("datagen.verify", value), "PASS_IS_AGREEMENT"):
            raise ValueError(
                f"{value} compares the attempts at a prompt, and each is judged as it comes; sample with n_samples or "
                f"best_of_n, then run `datastill verify --set method={value}`"
            )
        return value


def until_verified(
    config: Config, sampling: Sampling, prompts: Iterable[Prompt], generate: Generate
) -> Iterator[Attempt]:
    """Every attempt made, by prompt and then by sample index, with its score and whether that was enough."""
    with KeptWorkers() as workers:
        search = _Search(config, sampling, iter(prompts), workers)
        while not search.is_over:
            n_asked = search.n_asked
            for outcome in generate(search):
                search.take(outcome)
                yield from search.finished_in_order()
            search.judge()
            yield from search.finished_in_order()
            if n_asked == search.n_asked and not search.is_over:
                raise AssertionError("the backend drew no request, and there are prompts left")


@dataclass(slots=True, eq=False)
class _Query:
    """A prompt, its judged attempts and how many were asked for."""

    prompt: Prompt
    n_asked: int = 0
    n_tokens: int = 0
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    is_finished: bool = False


class _Search(Iterator[Request]):
    """The requests, each depending on outcomes of earlier ones.

    A backend draws ahead of the outcomes it gives. Where every open prompt waits for an outcome and no more may be
    opened, this iterator ends for now, and goes on when it is drawn from again. A backend that then draws again keeps
    its wire full; one that takes the end for final gives the outcomes it holds, and is called again with the rest.
    Outcomes are judged when the next request is drawn, so for a backend that draws by what it gave, such as local with
    its blocks, the requests and their order are the same on every run.
    """

    def __init__(self, config: Config, sampling: Sampling, prompts: Iterator[Prompt], workers: KeptWorkers) -> None:
        self.n_asked = 0
        self._config = config
        self._sampling = sampling
        self._prompts = prompts
        self._has_more = True
        self._workers = workers
        self._window: deque[_Query] = deque()  # from the first that is not finished, in order
        self._to_ask: deque[tuple[_Query, int]] = deque()
        self._asked: deque[tuple[_Query, int]] = deque()
        self._unjudged: list[tuple[_Query, Attempt]] = []

    @property
    def is_over(self) -> bool:
        return not self._has_more and not self._window

    def __next__(self) -> Request:
        self.judge()
        if not self._to_ask and len(self._window) < self._config.window:
            self._open_next()
        if not self._to_ask:
            raise StopIteration
        query, index = self._to_ask.popleft()
        self._asked.append((query, index))
        self.n_asked += 1
        return make_request(query.prompt, index, self._sampling)

    def take(self, outcome: Outcome) -> None:
        """Note what became of the first request that has no outcome yet."""
        query, index = self._asked.popleft()
        if isinstance(outcome.answer, Completion):  # what no row holds is not held for the window's sake
            outcome = replace(outcome, answer=replace(outcome.answer, logprobs=None))
        self._unjudged.append((query, Attempt(prompt=query.prompt, sample_index=index, outcome=outcome)))

    def judge(self) -> None:
        """Judge what came, and decide for each prompt whose round is complete whether it is asked again."""
        if not self._unjudged:
            return
        config, batch = self._config, self._unjudged
        self._unjudged = []
        with self._workers.serving():
            found = list(judged((one for _, one in batch), config.verifier, config.verifier_timeout_s))
        for (query, _), (attempt, verdict) in zip(batch, found, strict=True):
            score = verdict.score if verdict else None
            verified = score is not None and score >= config.verified_score
            query.attempts.append(replace(attempt, score=score, verified=verified))
            query.n_tokens += _n_tokens(attempt.outcome)
            query.is_finished |= verified or _ends_prompt(attempt.outcome, verdict)
            if len(query.attempts) == query.n_asked:
                self._ask_again(query)

    def finished_in_order(self) -> Iterator[Attempt]:
        """The attempts of those prompts at the head of the window that are finished."""
        while self._window and self._window[0].is_finished and not self._is_waited_for(self._window[0]):
            yield from self._window.popleft().attempts

    def _is_waited_for(self, query: _Query) -> bool:
        return len(query.attempts) < query.n_asked

    def _open_next(self) -> None:
        prompt = next(self._prompts, None)
        if prompt is None:
            self._has_more = False
            return
        self._window.append(query := _Query(prompt))
        self._ask(query)

    def _ask_again(self, query: _Query) -> None:
        config = self._config
        budget_ends = 0 < config.max_tokens_per_prompt <= query.n_tokens or query.n_asked >= config.max_attempts
        query.is_finished |= budget_ends
        if not query.is_finished:
            self._ask(query)

    def _ask(self, query: _Query) -> None:
        until = min(query.n_asked + self._config.round_size, self._config.max_attempts)
        self._to_ask.extend((query, index) for index in range(query.n_asked, until))
        query.n_asked = until


def _n_tokens(outcome: Outcome) -> int:
    answer, most = outcome.answer, outcome.request.sampling.max_new_tokens
    if isinstance(answer, Failure):
        return most if answer.reason in ("no_reasoning", "reasoning_only") else 0
    return most if answer.n_completion_tokens is None else answer.n_completion_tokens


def _ends_prompt(outcome: Outcome, verdict: Verdict | None) -> bool:
    """Whether no other attempt should follow, however this one was judged."""
    if isinstance(outcome.answer, Failure):
        return outcome.answer.reason not in BAD_ANSWERS
    return verdict is not None and verdict.status == "error" and verdict.reason in UNJUDGEABLE
