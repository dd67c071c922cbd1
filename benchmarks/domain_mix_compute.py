"""Rules that mix domains at equal total compute: what a rule spends on proxies and measurements, its student lacks.

    python -m benchmarks.domain_mix_compute --data FOLDER [--seeds 3] [--steps 40] [--out FILE.json] [--kept FOLDER]

Start, texts, loss and options are those of benchmarks.domain_mixes, whose `--kept` may be named again: what it holds of
equal options, students of equal shares among them, is not made again. Compute is counted in sequences that a student
reads: 3 for one that is learned (forward, and backward at twice its cost), 1 for one that is measured. The budget is
what `--steps` steps learn. `ddk` and `online mixing` renew their weights on the way, `doremi` and `regression mix`
train proxies first; the others follow from the sizes and spend all on the student. Proxies learn the tokens alone. What
the teacher reads is not counted: its states are computed once for all.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.domain_mixes import (
    BATCH_TOKENS,
    DDK_LOSS,
    Bench,
    Outcome,
    Rows,
    facts_of,
    losses_under,
    options_of,
    read_corpus,
    sized,
    teacher_losses,
    warmed_up,
)
from benchmarks.students_compare import check_kept
from datagen.contracts.dataset import write_json
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import load_method
from trainers import domain_mix, domain_proxies, lm_students, loop
from trainers.comparison_figures import difference, mean_interval
from trainers.domain_draws import DomainMix, Rule
from trainers.language_models import StudentModel
from trainers.teachers._models import load_frozen

LEARNED, MEASURED = 3, 1  # of a sequence: forward and backward, forward
BASELINE = "uniform"


@dataclass(frozen=True)
class Arm:
    """How a rule spends.

    Attributes:
        rule: of datagen/mixture.
        every: steps between two updates.
        proxy_steps: of each proxy.
        n_runs: of regression_mix.
    """

    rule: str
    every: int = 10
    proxy_steps: int = 0
    n_runs: int | None = None


ARMS = {
    "uniform": Arm("uniform"),
    "proportional": Arm("proportional"),
    "temperature": Arm("temperature"),
    "ddk": Arm("ddk"),
    "online mixing": Arm("online_mixing", every=2),
    "doremi": Arm("doremi", every=2, proxy_steps=6),
    "regression mix": Arm("regression_mix", proxy_steps=2, n_runs=6),
}
WEIGHING = 4  # held-out sequences of a domain that are measured


@dataclass(frozen=True, kw_only=True)
class Spent:
    """One arm and seed; compute in sequences read.

    Attributes:
        outcome: the student, as benchmarks.domain_mixes has it.
        on_proxies: compute of the proxies, with their measurements.
        on_measuring: of the student, on its way.
        steps: of the student.
        weights: that proxies found; empty where there are none.
    """

    outcome: Outcome
    on_proxies: int
    on_measuring: int
    steps: int
    weights: dict[str, float] = field(default_factory=dict[str, float])


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there, write the JSON after each student, print the table."""
    options = options_of(argv)
    if options.data is None:
        spent = [
            Spent(**one | {"outcome": Outcome(**one["outcome"])})
            for one in json.loads(options.out.read_text())["spent"]
        ]
        print(said(spent))
        return
    torch.set_num_threads(options.n_threads)
    check_kept(options.kept, facts_of(options))
    spent: list[Spent] = []
    for one in students(options):
        spent.append(one)
        print(f"{one.outcome.arm} {one.outcome.seed}: {one.steps} steps, mean gap {_mean_gap(one):.4f}", flush=True)
        if options.out:
            facts = facts_of(options) | {"seeds": options.seeds, "weighing": WEIGHING}
            arms = {name: asdict(arm) for name, arm in ARMS.items()}
            write_json(options.out, {
                "benchmark": "domain_mix_compute", "params": facts, "arms": arms,
                "spent": [asdict(one) for one in spent], "figures": figures(spent),
            })  # fmt: skip
    print(said(spent))


def students(options: Any) -> Iterator[Spent]:
    """Each seed's arms, so that a part of a run compares alike."""
    corpus = read_corpus(options)
    start = warmed_up(options, corpus)
    of_teacher = teacher_losses(options, corpus)
    bench: Bench | None = None
    for arm, seed in ((arm, seed) for seed in range(options.seeds) for arm in ARMS):
        file = options.kept / f"equal-{arm.replace(' ', '_')}-{seed}.json"
        if not file.exists():
            bench = bench or Bench(options, corpus, start, of_teacher)
            write_json(file, asdict(train(bench, arm, seed)))
        kept = json.loads(file.read_text())
        yield Spent(**kept | {"outcome": Outcome(**kept["outcome"])})


def train(bench: Bench, name: str, seed: int) -> Spent:
    """One arm's student, after its proxies."""
    arm, options = ARMS[name], bench.options
    weighing = {domain: rows[:WEIGHING] for domain, rows in bench.corpus.weighing.items()}
    n_weighing = sum(map(len, weighing.values()))
    budget = LEARNED * options.steps * options.batch_size
    weights: dict[str, float] = {}
    on_proxies = 0
    if arm.proxy_steps:
        weights, on_proxies = weights_of_proxies(bench, arm, weighing, seed)
    module = load_method(domain_mix.FAMILY, arm.rule, key="mixture")
    measures = not weights and "student_losses" in module.NEEDS
    steps, on_measuring = split(
        budget - on_proxies, LEARNED * options.batch_size, MEASURED * n_weighing if measures else 0, arm.every
    )
    kept = options.kept / f"{name.replace(' ', '_')}-{seed}.json"
    if steps == options.steps and kept.exists():  # of benchmarks.domain_mixes: the same student
        outcome = Outcome(**json.loads(kept.read_text()))
        return Spent(outcome=outcome, on_proxies=on_proxies, on_measuring=on_measuring, steps=steps)
    params = lm_students.parse(
        section_of(options, arm, seed) | {
            "student": str(bench.folder), "steps": steps, "objective": DDK_LOSS, "teacher": options.model,
            "teacher_kind": "hidden", "teacher_dtype": options.precision,
            **({} if weights else {"mixture": arm.rule, "mixture_every": arm.every}),
        }
    )  # fmt: skip
    if weights:
        mix = DomainMix(bench.corpus.train, weights, arm.every, params[loop.Config])
    else:
        rule = Rule(
            ask=sized(getattr(module, arm.rule), bench.corpus.n_tokens),
            config=params[module.Config],
            needs=module.NEEDS,
        )
        reference = np.array(_reference(bench, weighing)) if measures else None
        mix = DomainMix(
            bench.corpus.train, rule, arm.every, params[loop.Config], held_out=weighing if measures else None,
            reference_losses=reference,
        )  # fmt: skip
    outcome = bench.outcome(name, seed, params, mix, n_weighing if measures else 0)
    return Spent(outcome=outcome, on_proxies=on_proxies, on_measuring=on_measuring, steps=steps, weights=weights)


def split(budget: int, a_step: int, a_measurement: int, every: int) -> tuple[int, int]:
    """The most steps that a budget pays, with a measurement before the first and before each that `every` divides.

    Returns:
        steps, and what is spent on measurements.
    """
    steps = budget // a_step
    while steps * a_step + math.ceil(steps / every) * a_measurement > budget:
        steps -= 1
    if steps < 1:
        raise ValueError(f"budget: {budget} sequences pay for no step of {a_step}; raise --steps")
    return steps, math.ceil(steps / every) * a_measurement


def section_of(options: Any, arm: Arm, seed: int) -> dict[str, Any]:
    """What proxies and students have in common, as train_lm takes it."""
    return {
        "batch_size": options.batch_size, "learning_rate": options.learning_rate, "micro_batch_tokens": BATCH_TOKENS,
        "precision": options.precision, "n_threads": options.n_threads, "max_tokens": options.tokens,
        "seed": derive_seed(0, "arm", seed),
    }  # fmt: skip


def weights_of_proxies(bench: Bench, arm: Arm, weighing: Rows, seed: int) -> tuple[dict[str, float], int]:
    """What the arm's proxies find, and what they cost."""
    section = section_of(bench.options, arm, seed) | {
        "student": str(bench.folder), "steps": arm.proxy_steps, "mixture": arm.rule, "mixture_every": arm.every,
        **({"n_runs": arm.n_runs} if arm.n_runs else {}),
    }  # fmt: skip
    params = domain_proxies.parse(section)
    training = lm_students.parse(params[domain_proxies.Proxies].proxies)
    _, _, model = lm_students.open_student(training[lm_students.Config], training[loop.Config])
    mine = domain_proxies.Bench(
        params=params, training=training, model=model, tokenizer=bench.tokenizer, ends=bench.ends,
        context=bench.options.tokens, rows=bench.corpus.train, held_out=weighing, rejections=[], teacher=None,
    )  # fmt: skip
    kept = bench.options.kept / f"proxies-{arm.rule}-{seed}"
    mix, proxies, _ = domain_proxies.learn(mine, kept, lambda _: None)
    shutil.rmtree(kept, ignore_errors=True)
    n_learned = bench.options.batch_size * sum(one.n_steps for one in proxies)
    n_measured = sum(map(len, weighing.values())) * sum(len(one.curve) + 1 for one in proxies)
    weights = dict(zip(mine.names, mix.weights, strict=True))
    return weights, LEARNED * n_learned + MEASURED * n_measured


def _reference(bench: Bench, weighing: Rows) -> list[float]:
    model = StudentModel(load_frozen(bench.options.model, "float32", torch.device("cpu")))
    return losses_under(model, weighing, bench.options.precision).tolist()


def _mean_gap(one: Spent) -> float:
    return float(np.mean(list(one.outcome.gaps.values())))


def figures(spent: Sequence[Spent]) -> dict[str, Any]:
    """Mean gaps with intervals, and differences to equal shares seed by seed."""
    gaps: dict[str, list[float]] = {}
    for one in spent:
        gaps.setdefault(one.outcome.arm, []).append(_mean_gap(one))
    most = max(map(len, gaps.values()))
    whole = {arm: values for arm, values in gaps.items() if len(values) == most > 1}
    return {
        "mean_gap": {arm: mean_interval(values)._asdict() for arm, values in whole.items()},
        "less_uniform": {
            arm: difference(values, whole[BASELINE])._asdict()
            for arm, values in whole.items()
            if arm != BASELINE and BASELINE in whole
        },
    }


def said(spent: Sequence[Spent]) -> str:
    """The table."""
    found = figures(spent)
    lines = [f"{'':16}{'proxies':>9}{'measured':>9}{'steps':>7}{'mean gap':>22}{'less uniform':>28}"]
    for one in spent:
        arm = one.outcome.arm
        if one.outcome.seed or arm not in found["mean_gap"]:
            continue
        mean, less = found["mean_gap"][arm], found["less_uniform"].get(arm)
        lines.append(
            f"{arm:16}{one.on_proxies:>9}{one.on_measuring:>9}{one.steps:>7}"
            f"{mean['mean']:>11.4f} ± {mean['high'] - mean['mean']:.4f}"
            + (f"{less['mean']:>+12.4f} [{less['low']:+.4f}, {less['high']:+.4f}]" if less else "")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
