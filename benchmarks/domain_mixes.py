"""Mixes of domains that follow the student's gaps: DDK against fixed mixes and no distillation, at equal tokens.

    python -m benchmarks.domain_mixes --data FOLDER [--seeds 3] [--steps 40] [--out FILE.json] [--kept FOLDER]
    python -m benchmarks.domain_mixes --out FILE.json    # trains nothing: the tables of what is there

FOLDER holds NAME.jsonl.gz of each domain, rows `{"text": ...}`. The student is a quarter of SmolLM2-135M's layers,
warmed up once on equal shares of all domains without a teacher; every arm goes on from there, with sequences of one
length, as many in each arm. A gap is the student's held-out loss less the teacher's, in nats per token, so exp of it is
the ratio of perplexities; texts that weights are learned on, and those that arms are judged on, are not the same.
`--kept` holds what is done, arm by arm and seed by seed, so that a run that was killed goes on.

Seconds are CPU seconds of this process. The teacher's states are computed before all arms, so the share of training
that goes into measuring the student is above what it is beside a teacher that reads every batch.
"""

import argparse
import gzip
import json
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.students_compare import check_kept
from datagen.backends.transformers_models import Example, end_tokens
from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.records import Prompt, Trace
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import load_method
from trainers import domain_mix, lm_students, loop
from trainers.comparison_figures import difference, mean_interval
from trainers.domain_draws import DomainMix, Rule
from trainers.domain_losses import losses
from trainers.language_models import StudentModel
from trainers.lm_rows import LearnedRow, pieces
from trainers.teachers._models import load_frozen, load_tokenizer

MODEL = "smollm2-135m-instruct"
DDK_LOSS = {"supervised": 1.0, "forward_kl": {"weight": 0.2, "temperature": 1.0}}
ARMS: dict[str, tuple[Any, str, dict[str, Any]]] = {  # objective, rule, the rule's parameters
    "no distillation": ("supervised", "uniform", {}),
    "uniform": (DDK_LOSS, "uniform", {}),
    "proportional": (DDK_LOSS, "proportional", {}),
    "ddk": (DDK_LOSS, "ddk", {}),
    "ddk without smoothing": (DDK_LOSS, "ddk", {"mixture_smoothing": 0.0}),
}
PER_TEXT = 4  # sequences of one text at most, so that a part is of many texts
BATCH_TOKENS = 2048

Rows = dict[str, list[LearnedRow]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One student; losses and gaps by domain, in nats per token.

    Attributes:
        arm: or `start`, the student after its warm-up.
        seed: of rows and draws.
        gaps: the student's loss less the teacher's, of texts that no arm learns or weighs by.
        weights: of each step that they were renewed before, with the step.
        n_sequences: drawn of each domain.
        cpu_s: of training, of which `measuring_s` went into the student's losses for the rule.
        measured_sequences: that these are of.
        measuring_s: likewise.
    """

    arm: str
    seed: int
    gaps: dict[str, float]
    weights: list[dict[str, Any]]
    n_sequences: dict[str, int]
    cpu_s: float
    measuring_s: float
    measured_sequences: int


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Sequences of one length by domain, of texts that no two parts share, and how many tokens a domain has."""

    warmup: Rows
    train: Rows
    weighing: Rows
    judging: Rows
    n_tokens: dict[str, int]


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there, write the JSON after each student, print the tables."""
    options = options_of(argv)
    if options.data is None:
        written = json.loads(options.out.read_text())
        print(said([Outcome(**one) for one in written["outcomes"]], written["params"]["steps"]))
        return
    torch.set_num_threads(options.n_threads)
    check_kept(options.kept, facts_of(options))
    outcomes: list[Outcome] = []
    for outcome in students(options):
        outcomes.append(outcome)
        mean = sum(outcome.gaps.values()) / len(outcome.gaps)
        print(f"{outcome.arm} {outcome.seed}: mean gap {mean:.4f}, {outcome.cpu_s:.0f} CPU seconds", flush=True)
        if options.out:
            write_json(options.out, stated(outcomes, options))
    print(said(outcomes, options.steps))


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of *.jsonl.gz; without, nothing is trained")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--layers", type=int, default=8, help="of the student; SmolLM2-135M has 30")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup-steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128, help="of a sequence")
    parser.add_argument("--every", type=int, default=10, help="steps between two updates of the weights")
    parser.add_argument("--weighing", type=int, default=8, help="held-out sequences of a domain to weigh by")
    parser.add_argument("--judging", type=int, default=16, help="held-out sequences of a domain to judge by")
    parser.add_argument("--pool", type=int, default=100, help="sequences of a domain to learn from")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warmup-learning-rate", type=float, default=1e-3)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--n-threads", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(".domain_mixes"))
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    if options.data is None and (options.out is None or not options.out.exists()):
        parser.error("--data, or --out with a file that a run wrote")
    return options


def facts_of(options: argparse.Namespace) -> dict[str, Any]:
    """What determines the outcomes."""
    left_out = ("data", "kept", "out", "seeds")
    stated = {name: value for name, value in vars(options).items() if name not in left_out}
    return stated | {"rows": {path.name: content_hash(path) for path in sorted(options.data.glob("*.jsonl.gz"))}}


def students(options: argparse.Namespace) -> Iterator[Outcome]:
    """The start, then each seed's arms, so that a part of a run compares alike."""
    corpus = read_corpus(options)
    start = warmed_up(options, corpus)
    gaps_of_teacher = teacher_losses(options, corpus)
    names = sorted(corpus.train)
    bench: Bench | None = None
    for arm, seed in [("start", 0), *((arm, seed) for seed in range(options.seeds) for arm in ARMS)]:
        file = options.kept / f"{arm.replace(' ', '_')}-{seed}.json"
        if not file.exists():
            bench = bench or Bench(options, corpus, start, gaps_of_teacher)
            write_json(file, asdict(bench.start(names) if arm == "start" else bench.train(arm, seed)))
        yield Outcome(**json.loads(file.read_text()))


class Bench:
    """What all arms share: rows, the start, the teacher's states."""

    def __init__(
        self, options: argparse.Namespace, corpus: Corpus, start: Path, of_teacher: Mapping[str, Sequence[float]]
    ) -> None:
        self.options, self.corpus, self.folder, self.of_teacher = options, corpus, start, of_teacher
        params = section_of(options, "ddk", start, 0)
        _, self.tokenizer, model = lm_students.open_student(params[lm_students.Config], params[loop.Config])
        self.ends = end_tokens(model, self.tokenizer)
        self.teacher = lm_students.open_teacher(params, self.tokenizer, torch.device("cpu"), None)
        assert self.teacher is not None
        self.rows = [row for mine in corpus.train.values() for row in mine]
        self.teacher.prepare(self.rows, options.kept)

    def start(self, names: Sequence[str]) -> Outcome:
        """The student after its warm-up."""
        params = section_of(self.options, "ddk", self.folder, 0)
        _, _, model = lm_students.open_student(params[lm_students.Config], params[loop.Config])
        return Outcome(
            arm="start", seed=0, gaps=self.gaps(model), weights=[], n_sequences=dict.fromkeys(names, 0), cpu_s=0.0,
            measuring_s=0.0, measured_sequences=0,
        )  # fmt: skip

    def train(self, arm: str, seed: int) -> Outcome:
        """One arm's student."""
        params = section_of(self.options, arm, self.folder, derive_seed(0, "arm", seed))
        module = load_method(domain_mix.FAMILY, ARMS[arm][1], key="mixture")
        rule = Rule(ask=sized(getattr(module, ARMS[arm][1]), self.corpus.n_tokens), config=params[module.Config],
                    needs=module.NEEDS)  # fmt: skip
        mix = DomainMix(
            self.corpus.train, rule, self.options.every, params[loop.Config],
            held_out=self.corpus.weighing if rule.needs else None,
            reference_losses=np.array(self.of_teacher["weighing"]) if rule.needs else None,
        )  # fmt: skip
        n_measured = sum(map(len, self.corpus.weighing.values())) if rule.needs else 0
        return self.outcome(arm, seed, params, mix, n_measured)

    def outcome(self, arm: str, seed: int, params: Any, mix: DomainMix, n_measured: int) -> Outcome:
        """The student that `mix` draws the batches of; `n_measured` sequences are read when the weights are renewed."""
        _, _, model = lm_students.open_student(params[lm_students.Config], params[loop.Config])
        training = self.options.kept / f"of-{arm.replace(' ', '_')}-{seed}"
        teacher = self.teacher if lm_students.needs_teacher(params[lm_students.Config]) else None
        begun = time.process_time()
        records = lm_students.train_rows(
            params, model, self.tokenizer, self.ends, self.rows, teacher, self.options.tokens, str(training),
            is_main=True, mix=mix,
        )  # fmt: skip
        cpu_s = time.process_time() - begun
        shutil.rmtree(training, ignore_errors=True)
        return Outcome(
            arm=arm, seed=seed, gaps=self.gaps(model),
            weights=[
                {"step": one["step"]} | {name: one[f"weight/{name}"] for name in mix.names}
                for one in records[:: self.options.every]
            ],
            n_sequences=mix.figures()["n_sequences"], cpu_s=round(cpu_s, 2), measuring_s=round(mix.seconds, 2),
            measured_sequences=n_measured * mix.figures()["rule_asked"],
        )  # fmt: skip

    def gaps(self, model: Any) -> dict[str, float]:
        """By domain, on the texts that arms are judged on."""
        found = losses_under(StudentModel(model.eval()), self.corpus.judging, self.options.precision)
        mine = zip(sorted(self.corpus.judging), found, self.of_teacher["judging"], strict=True)
        return {name: student - teacher for name, student, teacher in mine}


def sized(rule: Any, n_tokens: Mapping[str, int]) -> Any:
    """The rule, told of the whole corpora's sizes and not of the pools', which are alike."""

    def ask(config: Any, mix: Any, seen: Any) -> Any:
        return rule(config, mix, replace(seen, n_tokens=np.array([float(n_tokens[name]) for name in seen.names])))

    return ask


def section_of(options: argparse.Namespace, arm: str, student: Path, seed: int) -> Any:
    """Parameters of an arm, as train_lm takes them."""
    objective, rule, more = ARMS[arm]
    section = {
        "student": str(student), "objective": objective, "mixture": rule, "mixture_every": options.every,
        "steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate,
        "micro_batch_tokens": BATCH_TOKENS, "precision": options.precision, "n_threads": options.n_threads,
        "max_tokens": options.tokens, "seed": seed, **more,
    }  # fmt: skip
    if objective != "supervised":
        section |= {"teacher": options.model, "teacher_kind": "hidden", "teacher_dtype": options.precision}
    return lm_students.parse(section)


def warmed_up(options: argparse.Namespace, corpus: Corpus) -> Path:
    """The folder of the student that all arms start from: some layers, trained on equal shares without a teacher."""
    done = options.kept / "start"
    if done.exists():
        return done
    section = {
        "student": options.model, "student_layers": options.layers, "mixture": "uniform",
        "steps": options.warmup_steps, "batch_size": options.batch_size, "learning_rate": options.warmup_learning_rate,
        "micro_batch_tokens": BATCH_TOKENS, "precision": options.precision, "n_threads": options.n_threads,
    }  # fmt: skip
    params = lm_students.parse(section)
    _, tokenizer, model = lm_students.open_student(params[lm_students.Config], params[loop.Config])
    equal = dict.fromkeys(sorted(corpus.warmup), 1 / len(corpus.warmup))
    mix = DomainMix(corpus.warmup, equal, options.warmup_steps, params[loop.Config])
    rows = [row for mine in corpus.warmup.values() for row in mine]
    begun = time.process_time()
    training = options.kept / "of-start"
    records = lm_students.train_rows(
        params, model, tokenizer, end_tokens(model, tokenizer), rows, None, options.tokens, str(training), is_main=True,
        mix=mix,
    )  # fmt: skip
    print(
        f"warm-up: {len(records)} steps, loss {records[0]['loss']:.3f} to {records[-1]['loss']:.3f}, "
        f"{time.process_time() - begun:.0f} CPU seconds", flush=True,
    )  # fmt: skip
    model.save_pretrained(options.kept / ".start")
    tokenizer.save_pretrained(options.kept / ".start")
    (options.kept / ".start").rename(done)
    shutil.rmtree(training, ignore_errors=True)
    return done


def teacher_losses(options: argparse.Namespace, corpus: Corpus) -> dict[str, list[float]]:
    """The teacher's, by domain in alphabetical order, of the texts to weigh by and to judge by."""
    file = options.kept / "teacher.json"
    if not file.exists():
        model = StudentModel(load_frozen(options.model, "float32", torch.device("cpu")))
        parts = {"weighing": corpus.weighing, "judging": corpus.judging}
        write_json(file, {part: losses_under(model, rows, options.precision).tolist() for part, rows in parts.items()})
    return json.loads(file.read_text())


def losses_under(model: StudentModel, rows: Rows, precision: str) -> np.ndarray:
    """As `trainers.domain_losses.losses`, with products in `precision`, as in training."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        return losses(model, rows, BATCH_TOKENS, "padded")


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Sequences of `--tokens`; texts in an order of seed 0, the first to judge by."""
    _, tokenizer = load_tokenizer(options.model)
    sizes = {"judging": options.judging, "weighing": options.weighing, "train": options.pool,
             "warmup": -(-options.warmup_steps * options.batch_size // 8) + 1}  # fmt: skip
    parts: dict[str, Rows] = {name: {} for name in sizes}
    n_tokens: dict[str, int] = {}
    for path in sorted(options.data.glob("*.jsonl.gz")):
        domain = path.name.removesuffix(".jsonl.gz")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines))
        random.Random(derive_seed(0, "texts", domain)).shuffle(texts)
        found = tokenizer(texts, verbose=False)["input_ids"]
        n_tokens[domain] = sum(map(len, found))
        queue = iter(found)
        for part, size in sizes.items():
            mine = parts[part].setdefault(domain, [])
            for tokens in queue:
                whole = [piece for piece in pieces(tokens, options.tokens) if len(piece) == options.tokens]
                for piece in whole[: min(PER_TEXT, size - len(mine))]:
                    id = f"{domain}-{part}-{len(mine)}"
                    trace = Trace(id=id, prompt=Prompt(id=id, messages=[]), completion="")
                    mine.append(LearnedRow(id, Example(list(piece), 1), trace, domain=domain))
                if len(mine) == size:
                    break
    return Corpus(**parts, n_tokens=n_tokens)


def figures(outcomes: Sequence[Outcome], steps: int) -> dict[str, Any]:
    """Mean gaps with intervals, differences seed by seed, ratios at the start, and what measuring cost."""
    by_arm: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_arm.setdefault(one.arm, []).append(one)
    start = by_arm.pop("start")[0]
    ratios = {name: float(np.exp(gap)) for name, gap in start.gaps.items()}
    found: dict[str, Any] = {
        "start_ratios": ratios,
        "largest_over_smallest": max(ratios.values()) / min(ratios.values()),
        "start_gap": float(np.mean(list(start.gaps.values()))),
        "by_arm": {arm: _of_arm(mine) for arm, mine in by_arm.items()},
    }
    most = max(map(len, by_arm.values()), default=0)
    whole = {arm: mine for arm, mine in by_arm.items() if len(mine) == most > 1}
    for what, of in (("mean", np.mean), ("worst", np.max)):
        values = {arm: [float(of(list(one.gaps.values()))) for one in mine] for arm, mine in whole.items()}
        found[f"differences_of_{what}"] = {
            f"ddk less {arm}": difference(values["ddk"], values[arm])._asdict()
            for arm in values
            if arm != "ddk" and "ddk" in values
        }
    measured = [one for one in outcomes if one.measured_sequences]
    if measured:
        per_sequence = sum(one.measuring_s for one in measured) / sum(one.measured_sequences for one in measured)
        per_step = sum(one.cpu_s - one.measuring_s for one in measured) / (len(measured) * steps)
        default = {name: field.default for name, field in domain_mix.Config.model_fields.items()}
        at_default = default["mixture_rows"] * len(ratios) * per_sequence
        found["share_measuring"] = {
            "here": sum(one.measuring_s for one in measured) / sum(one.cpu_s for one in measured),
            "at_defaults": at_default / (at_default + default["mixture_every"] * per_step),
            "mixture_every": default["mixture_every"], "mixture_rows": default["mixture_rows"],
        }  # fmt: skip
    return found


def _of_arm(mine: Sequence[Outcome]) -> dict[str, Any]:
    means = [float(np.mean(list(one.gaps.values()))) for one in mine]
    return {
        "mean_gap": mean_interval(means)._asdict() if len(means) > 1 else {"mean": means[0]},
        "worst_gap": float(np.mean([max(one.gaps.values()) for one in mine])),
        "gaps": {name: float(np.mean([one.gaps[name] for one in mine])) for name in mine[0].gaps},
        "shares": {
            name: sum(one.n_sequences[name] for one in mine) / sum(sum(one.n_sequences.values()) for one in mine)
            for name in mine[0].gaps
        },
    }


def stated(outcomes: Sequence[Outcome], options: argparse.Namespace) -> dict[str, Any]:
    """What the JSON holds."""
    return {
        "benchmark": "domain_mixes", "params": facts_of(options) | {"seeds": options.seeds},
        "outcomes": [asdict(one) for one in outcomes], "figures": figures(outcomes, options.steps),
    }  # fmt: skip


def said(outcomes: Sequence[Outcome], steps: int) -> str:
    """The tables, and what they show."""
    found = figures(outcomes, steps)
    names = list(found["start_ratios"])
    lines = [
        "ratios of perplexities at the start: "
        + ", ".join(f"{name} {ratio:.2f}" for name, ratio in found["start_ratios"].items())
        + f"; the largest is {found['largest_over_smallest']:.2f} times the smallest",
        f"{'gap in nats per token':24}{'mean':>8}{'+-':>8}{'worst':>8}" + "".join(f"{name[:10]:>12}" for name in names),
    ]
    for arm, one in found["by_arm"].items():
        mean = one["mean_gap"]
        half = f"{mean['high'] - mean['mean']:.4f}" if "high" in mean else ""
        cells = "".join(f"{one['gaps'][name]:>12.4f}" for name in names)
        lines.append(f"{arm:24}{mean['mean']:>8.4f}{half:>8}{one['worst_gap']:>8.4f}{cells}")
        lines.append(f"{'  drawn':48}" + "".join(f"{one['shares'][name]:>12.3f}" for name in names))
    for what in ("mean", "worst"):
        for name, one in found[f"differences_of_{what}"].items():
            lines.append(f"{what} gap, {name}: {one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]")
    if "share_measuring" in found:
        share = found["share_measuring"]
        lines.append(
            f"measuring the student: {share['here']:.1%} of training here; {share['at_defaults']:.1%} with "
            f"{share['mixture_rows']} sequences a domain every {share['mixture_every']} steps"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
