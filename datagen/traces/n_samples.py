"""A fixed number of attempts a prompt, every one of them kept.

The plain sampling of "Not All Correct Answers Are Equal" (arXiv:2505.14464, section 2) without its stopping rule: the
same number of attempts for easy and hard prompts, which is what a pass rate is estimated from.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from datagen.backends.base import Request, Sampling
from datagen.contracts.params import Params
from datagen.contracts.records import Prompt
from datagen.contracts.seeding import derive_seed
from datagen.traces import Attempt, Generate


class Config(Params):
    """`samples_per_prompt` attempts at each prompt."""

    method: Literal["n_samples"] = "n_samples"
    samples_per_prompt: int = Field(default=1, ge=1)


def n_samples(config: Config, sampling: Sampling, prompts: Iterable[Prompt], generate: Generate) -> Iterator[Attempt]:
    """Every attempt, by prompt and then by sample index.

    Each request's seed derives from the run's seed, the prompt's id and the sample index, so attempts differ from
    each other and not from run to run.
    """
    asked: deque[tuple[Prompt, int]] = deque()

    def requests() -> Iterator[Request]:
        for prompt in prompts:
            for index in range(config.samples_per_prompt):
                asked.append((prompt, index))
                seed = derive_seed(sampling.seed, prompt.id, index)
                yield Request(
                    messages=prompt.messages,
                    tools=prompt.tools,
                    sampling=sampling.model_copy(update={"seed": seed}),
                    sample_index=index,
                )

    for outcome in generate(requests()):
        prompt, index = asked.popleft()
        yield Attempt(prompt=prompt, sample_index=index, outcome=outcome)
