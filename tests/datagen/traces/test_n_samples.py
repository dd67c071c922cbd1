"""Oracle: a backend written here, which notes every request and answers with a count."""

from collections.abc import Iterable, Iterator

from datagen.backends.base import Completion, Outcome, Request, Sampling
from datagen.contracts.records import Prompt
from datagen.traces.n_samples import Config, n_samples

PROMPTS = [Prompt(id=f"p{i}", messages=[{"role": "user", "content": "the same"}]) for i in range(5)]


def ask(
    n_samples_a_prompt: int, sampling: Sampling, prompts: Iterable[Prompt] = PROMPTS
) -> list[tuple[str, int, Request]]:
    """Every attempt as (prompt, sample index, request), its answer checked to be the one to that request."""
    seen: list[Request] = []

    def generate(requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            seen.append(request)
            yield Outcome(request=request, key=b"", answer=Completion(text=str(len(seen))))

    attempts = list(n_samples(Config(samples_per_prompt=n_samples_a_prompt), sampling, prompts, generate))
    assert [attempt.outcome.request for attempt in attempts] == seen
    return [(attempt.prompt.id, attempt.sample_index, attempt.outcome.request) for attempt in attempts]


def test_every_prompt_is_asked_n_times_in_order():
    asked = ask(3, Sampling(temperature=0.5, max_new_tokens=7))
    assert [(id, index) for id, index, _ in asked] == [(f"p{i}", index) for i in range(5) for index in range(3)]
    assert all(request.sample_index == index for _, index, request in asked)
    assert all(request.messages == PROMPTS[0].messages for _, _, request in asked)
    assert {(r.sampling.temperature, r.sampling.max_new_tokens) for _, _, r in asked} == {(0.5, 7)}


def test_seeds_differ_by_attempt_and_depend_on_nothing_else():
    """15 equal conversations have 15 seeds; equal for other neighbours or more samples, others for another run."""
    seeds = {(id, index): request.sampling.seed for id, index, request in ask(3, Sampling(seed=1))}
    assert len(set(seeds.values())) == 15
    more = {(id, index): request.sampling.seed for id, index, request in ask(4, Sampling(seed=1), PROMPTS[3:])}
    assert all(more[key] == seeds[key] for key in more.keys() & seeds.keys())
    assert not set(seeds.values()) & {request.sampling.seed for _, _, request in ask(3, Sampling(seed=2))}


def test_it_draws_prompts_as_they_are_asked():
    """A million prompts take no memory: when the third answer came, at most the fourth prompt was drawn."""
    drawn: list[str] = []

    def prompts() -> Iterator[Prompt]:
        for prompt in PROMPTS:
            drawn.append(prompt.id)
            yield prompt

    def generate(requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            yield Outcome(request=request, key=b"", answer=Completion(text=""))

    attempts = n_samples(Config(), Sampling(), prompts(), generate)
    for _ in range(3):
        next(attempts)
    assert len(drawn) <= 4
