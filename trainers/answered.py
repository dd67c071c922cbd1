"""Answers of one or two language models to the same prompts, decoded alike and judged: verified rates.

Source: none; the interval of two models' difference is `trainers.bootstrap`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datagen.backends.base import Environment, Failure, Request, Sampling, TextBackend
from datagen.backends.ledger import Ledger
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Prompt, Rejection, Trace, Verdict
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Progress

BEFORE, AFTER = "before", "after"
Answers = Mapping[str, Sequence[Trace | Rejection]]
Verdicts = Mapping[str, Sequence[Verdict | None]]


def can_be_judged(prompt: Prompt) -> bool:
    """Whether a prompt carries something that an answer can be judged by."""
    return bool(prompt.constraints) or prompt.reference is not None or prompt.tests is not None


def environment_of(ledger: Ledger, who: str, bar: Progress) -> Environment:
    """Shows what is asked before the first block of answers is whole."""

    def show() -> None:
        bar.advance(0, note=f"{who}, {environment.counts['requests']:.0f} asked")

    environment = Environment(ledger=ledger, notify=show)
    return environment


def answer(
    who: str, model: TextBackend, prompts: Sequence[Prompt], decoding: Sampling, stage: str, bar: Progress
) -> Iterator[Trace | Rejection]:
    """The answer of `who` to every prompt, in order, or why there is none."""
    requests = (
        Request(
            messages=prompt.messages,
            tools=prompt.tools,
            sampling=decoding.model_copy(update={"seed": derive_seed(decoding.seed, prompt.id, 0)}),
        )
        for prompt in prompts
    )
    for prompt, outcome in zip(prompts, model.generate(requests), strict=True):
        id = f"{prompt.id}#0.{outcome.key.hex()[:8]}"
        bar.advance(1, note=who)
        if isinstance(outcome.answer, Failure):
            yield Rejection(id=id, stage=stage, reason=outcome.answer.reason, detail=outcome.answer.detail)
        else:
            yield Trace(
                id=id,
                prompt=prompt,
                completion=outcome.answer.text,
                finish_reason=outcome.answer.finish_reason,
                teacher=who,
                request_key=outcome.key.hex(),
                seed=outcome.request.sampling.seed,
                n_prompt_tokens=outcome.answer.n_prompt_tokens,
                n_completion_tokens=outcome.answer.n_completion_tokens,
            )


def rates_of(prompts: Sequence[Prompt], verdicts: Verdicts, *, n_resamples: int, seed: int) -> dict[str, Any]:
    """Verified rates, over all and by family, an answer that is missing counting as not verified.

    Of two models each rate is one of either, and the interval of their difference goes with them.
    """
    from trainers.bootstrap import paired_bootstrap

    passed = {who: [float(v is not None and v.status == "pass") for v in theirs] for who, theirs in verdicts.items()}
    families: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        families.setdefault(prompt.family, []).append(i)

    def rates(positions: Sequence[int]) -> dict[str, float]:
        return {who: round(sum(mine[i] for i in positions) / len(positions), 4) for who, mine in passed.items()}

    over_all = rates(range(len(prompts)))
    compared: dict[str, Any] = {"verified_rate": over_all[AFTER]}
    if BEFORE in passed:
        difference = paired_bootstrap(passed[BEFORE], passed[AFTER], n_resamples=n_resamples, seed=seed)
        compared = {
            "verified_rate": over_all,
            "difference": {name: round(value, 4) for name, value in difference._asdict().items()},
        }
    return {
        "n_prompts": len(prompts),
        **compared,
        "by_family": {
            family: {"n": len(positions)} | rates(positions) for family, positions in sorted(families.items())
        },
    }


def write(writer: DatasetWriter, rows: Sequence[Prompt | Rejection], answers: Answers, verdicts: Verdicts) -> None:
    """By prompt, before and then after; a row that is no prompt is a rejection."""
    position = 0
    for row in rows:
        if isinstance(row, Rejection):
            writer.read()
            writer.reject(row)
            continue
        writer.read(len(answers))
        for who in answers:
            writer.put(answers[who][position])
            if verdict := verdicts[who][position]:
                writer.add("verdicts", verdict)
        position += 1
