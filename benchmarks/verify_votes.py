"""The answer that most samples give beside a single sample: how often each is right, by the reference.

    python -m benchmarks.verify_votes [--out FILE.json] [--samples N] [--questions N] [--sums N]

The default profile's model answers each prompt N times at temperature 0.7 (Wang et al. 2023, arXiv:2203.11171, section
3.1, where it is that of three of four models). `single` is the mean share of a prompt's samples that `math_answer`
passes; `majority` is whether the winner of `self_consistency` passes, a prompt without a winner counting as not right.
Both over the same prompts: questions of the repository's slice of GSM8K, and sums of two numbers below 20, drawn with a
seed, since so small a model hardly answers the former. Intervals are 95 % percentiles over resampled prompts. The
answers are in the ledger, so a rerun asks for nothing.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datagen.backends.base import Environment, Failure, Sampling
from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.local import Config as LocalConfig
from datagen.backends.local import local
from datagen.contracts.dataset import write_json
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.prompts import gsm8k
from datagen.traces import n_samples
from datagen.traces._rows import to_row
from datagen.verify import math_answer, self_consistency
from trainers.bootstrap import paired_bootstrap

MAX_NEW_TOKENS = {"gsm8k": 96, "sums": 24}


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, judge, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--questions", type=int, default=20, help="of GSM8K")
    parser.add_argument("--sums", type=int, default=60)
    options = parser.parse_args(argv)
    config = gsm8k.Config(method="gsm8k", n_prompts=options.questions)
    kinds = {"gsm8k": list(gsm8k.gsm8k(config, Path("data/raw"))), "sums": list(_sums(options.sums))}
    figures: dict[str, Any] = {}
    with Ledger.open(ledger_path()) as ledger, local(LocalConfig(), Environment(ledger=ledger)) as model:
        attempts_of = n_samples.Config(samples_per_prompt=options.samples)
        for kind, prompts in kinds.items():
            sampling = Sampling(temperature=0.7, max_new_tokens=MAX_NEW_TOKENS[kind])
            attempts = n_samples.n_samples(attempts_of, sampling, prompts, model.generate)
            rows = [
                to_row(one, teacher="", stage="") for one in attempts if not isinstance(one.outcome.answer, Failure)
            ]
            figures[kind] = compare([row for row in rows if isinstance(row, Trace)], prompts)
        figures["model"] = dict(model.identity)
    sys.stdout.write(f"{options.samples} samples of each prompt\n")
    sys.stdout.write(f"{'':8}{'prompts':>8}{'single':>24}{'majority':>24}{'difference':>26}{'with a winner':>15}\n")
    for kind in kinds:
        shown = [_shown(figures[kind][name]) for name in ("single", "majority", "difference")]
        figure = figures[kind]
        sys.stdout.write(f"{kind:8}{figure['prompts']:>8}{shown[0]:>24}{shown[1]:>24}{shown[2]:>26}")
        sys.stdout.write(f"{figure['with_a_winner']:>15}\n")
    if options.out:
        write_json(options.out, {"samples": options.samples} | figures)


def compare(traces: Sequence[Trace], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The two accuracies and their difference, over all prompts; one without an answer is not right.

    Args:
        traces: the attempts at a prompt stand together.
        prompts: with references.
    """
    single: dict[str, list[bool]] = {prompt.id: [] for prompt in prompts}
    winner: dict[str, bool] = {}
    right = math_answer.math_answer(math_answer.Config(), traces)
    config = self_consistency.Config(method="self_consistency", min_votes=2, min_share=0.0)
    agrees: Iterator[Verdict] = self_consistency.self_consistency(config, traces)
    for trace, by_reference, by_votes in zip(traces, list(right), list(agrees), strict=True):
        single[trace.prompt.id].append(by_reference.status == "pass")
        if by_votes.status == "pass":
            winner.setdefault(trace.prompt.id, by_reference.status == "pass")
    singles = [sum(one) / len(one) if one else 0.0 for one in single.values()]
    majorities = [float(winner.get(id, False)) for id in single]
    nothing = [0.0] * len(single)
    return {
        "prompts": len(single),
        "with_a_winner": len(winner),
        "single": _interval(nothing, singles),
        "majority": _interval(nothing, majorities),
        "difference": _interval(singles, majorities),
    }


def _interval(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in paired_bootstrap(before, after)._asdict().items()}


def _shown(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _sums(n: int) -> Iterator[Prompt]:
    generator = random.Random(0)
    for i in range(n):
        one, other = generator.randrange(1, 20), generator.randrange(1, 20)
        messages: Any = [{"role": "user", "content": f"What is {one} + {other}? Answer with the number alone."}]
        yield Prompt(id=f"sum-{i}", messages=messages, reference=str(one + other), family="sums")


if __name__ == "__main__":
    main()
