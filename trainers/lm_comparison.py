"""Which objective makes the better student: one start, one teacher, the same rows in the same order, several seeds.

Source: none. Seed i has the same order of rows whatever the objective, so objectives are compared seed by seed; every
student takes as many steps. What is done is kept, student by student, so that a run that was killed goes on.
"""

import contextlib
import copy
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
from pydantic import Field

from datagen.backends.models import Model
from datagen.backends.transformers_models import device_type, end_tokens
from datagen.contracts.dataset import write_json
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection, Trace
from datagen.contracts.seeding import derive_seed
from trainers import domain_mix, lm_students, loop, on_policy
from trainers.lm_rows import Bounds, LearnedRow, select
from trainers.students import check_usable

if TYPE_CHECKING:  # a stage reads Config without torch
    from trainers.teachers import Teacher

STAGE = "compare_students"
START = "start"  # the student before training, beside those of objectives
_NOT_NEEDED = frozenset({"equal_completion", "over_cap"})  # all other reasons say that a row cannot be used

log = logging.getLogger(__name__)


class Config(Params):
    """What is compared.

    `objectives` are as train_lm's `objective`: names, or mappings of several with weights. Answers are written to
    `n_judged` held-out prompts that carry what to verify by, with `answer_tokens` tokens at most; 0 for none.
    """

    objectives: list[str | dict[str, Any]] = Field(min_length=1)
    seeds: int = Field(3, ge=1)
    n_judged: int = Field(0, ge=0)
    answer_tokens: int = Field(128, ge=1)


class Students(Params):
    """What all students have in common: train_lm's parameters but for the objective."""

    students: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One student, or a model beside them.

    Attributes:
        objective: or `start`, the student before training, or `teacher`.
        seed: its number; of `start` and `teacher` 0.
        nats_per_token: on held-out completions.
        calibration_error: of its likeliest next tokens, in [0, 1].
        accuracy: share of next tokens that were the likeliest.
        verified_rate: share of its answers that a verifier passes, or None where none were asked for.
        n_tokens_learned: by training.
        loss_last_step: in the objective's own unit; None where nothing was trained.
        seconds: of training; CPU seconds of this process.
        cpu_s: likewise.
        peak_bytes: of this process's memory while it trained, or of the device's.
    """

    objective: str
    seed: int
    nats_per_token: float
    calibration_error: float
    accuracy: float
    verified_rate: float | None
    n_tokens_learned: int
    loss_last_step: float | None
    seconds: float
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveScore:
    """What an Outcome says but for time and memory, which no two runs have alike; `id` is objective and seed."""

    id: str
    objective: str
    seed: int
    nats_per_token: float
    calibration_error: float
    accuracy: float
    verified_rate: float | None
    n_tokens_learned: int
    loss_last_step: float | None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "objective": pl.String,
        "seed": pl.Int32,
        "nats_per_token": pl.Float64,
        "calibration_error": pl.Float64,
        "accuracy": pl.Float64,
        "verified_rate": pl.Float64,
        "n_tokens_learned": pl.Int64,
        "loss_last_step": pl.Float64,
    }

    @classmethod
    def of(cls, outcome: Outcome) -> "ObjectiveScore":
        """The score of a student."""
        kept = {name: value for name, value in asdict(outcome).items() if name in cls.SCHEMA}
        return cls(id=f"{outcome.objective}/{outcome.seed}", **kept)


@dataclass(kw_only=True)
class Bench:
    """What all students share."""

    config: Config
    section: Mapping[str, Any]
    base: Model
    tokenizer: Any
    model: Any
    ends: frozenset[int]
    rows: list[LearnedRow]
    rejections: list[Rejection]
    held_out: list[LearnedRow]
    max_batch_tokens: int
    teachers: Mapping[str, "Teacher"]  # by teacher_kind
    context: int


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against this Config and, for each objective, against train_lm's."""
    mine = {key: value for key, value in section.items() if key in Config.model_fields}
    students = {key: value for key, value in section.items() if key not in mine}
    if "objective" in students:
        raise ParamsError("objective: of one student; name those that are compared in objectives=[...]")
    config = validate(mine, Config)[Config]
    problems: list[str] = []
    for objective in config.objectives:
        try:
            params = lm_students.parse(students | {"objective": objective})
        except ParamsError as error:
            problems += str(error).splitlines()
            continue
        if params[on_policy.Config].on_policy_share:
            problems.append("on_policy_share: students are compared on the same rows; train such a one by train_lm")
        if params[domain_mix.Config].mixture:
            problems.append("mixture: students are compared on the same rows; train such a one by train_lm")
        if params[loop.Config].judge_every:
            problems.append("judge_every: students are compared after the same steps; leave it out")
    if problems:  # an objective that is none has no name
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    names = [name_of(objective) for objective in config.objectives]
    problems += [f"objectives: {name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    return validate(mine | {"students": students}, Config, Students)


def name_of(objective: str | Mapping[str, Any]) -> str:
    """A name as it is; several as `forward_kl 0.9 + supervised 0.1`, options in parentheses."""
    if isinstance(objective, str):
        return objective

    def part(name: str, given: Any) -> str:
        if not isinstance(given, dict):
            return f"{name} {given:g}"
        options = ", ".join(f"{key} {value}" for key, value in given.items() if key != "weight")
        return f"{name} {given.get('weight', 1):g}" + (f" ({options})" if options else "")

    return " + ".join(part(name, given) for name, given in objective.items())


def open_bench(params: Parts, data: Path, heldout: Path, folder: Path, signals: str | None = None) -> Bench:
    """Load the start, the rows, and the teacher where an objective has one.

    Args:
        params: as `parse` gives them.
        data: to learn from, as train_lm takes it.
        heldout: rows to judge on.
        folder: where a teacher's large files may lie.
        signals: for a cached teacher.

    Raises:
        DataError: no row is left, too many cannot be used, or a held-out prompt is among those that are learned.
        MissingError: a model is not one of transformers' text models, or has no chat template.
    """
    import torch

    from trainers.teachers._models import context_of

    config, section = params[Config], params[Students].students
    by_objective = [lm_students.parse(section | {"objective": one}) for one in config.objectives]
    reading = {
        one[lm_students.Config].teacher_kind: one
        for one in by_objective
        if lm_students.needs_teacher(one[lm_students.Config])
    }
    common = by_objective[0]
    mine, own_loop = common[lm_students.Config], common[loop.Config]
    if device_type() == "cpu":
        torch.set_num_threads(own_loop.n_threads)
    base, tokenizer, model = lm_students.open_student(mine, own_loop)
    ends = end_tokens(model, tokenizer)
    device = torch.device(device_type())
    teachers: dict[str, Teacher] = {}
    for kind, one in reading.items():
        if teacher := lm_students.open_teacher(one, tokenizer, device, signals):
            teachers[kind] = teacher
    context = min([context_of(model.config), *(teacher.context for teacher in teachers.values())])
    bounds = Bounds(mine.max_tokens, context, mine.max_rows_per_prompt, mine.learned_tokens)
    found: list[list[LearnedRow]] = []
    rejections: list[Rejection] = []
    bound = common[InputParams].max_rejected_share
    n_rows: list[int] = []
    for path in (data, heldout):
        rows = Rows(path, Trace, STAGE, common[InputParams])
        chosen, dropped = select(rows, bounds, tokenizer, ends, stage=STAGE)
        check_usable(str(path), dropped, len(rows), bound, _NOT_NEEDED)
        n_rows.append(len(rows))
        if not chosen:
            raise DataError(f"{path}: no row is left of {len(rows)}")
        found.append(chosen)
        rejections += dropped
    learned, held_out = found
    _check_apart(learned, held_out, heldout)
    for teacher in teachers.values():
        learned, unscored = lm_students.without_unscored(learned, teacher, folder)
        rejections += unscored
        check_usable(str(data), unscored, n_rows[0], bound, _NOT_NEEDED)
        if not learned:
            raise DataError(f"{data}: the teacher gives a signal of no row; the first: {unscored[0].detail}")
    return Bench(
        config=config, section=section, base=base, tokenizer=tokenizer, model=model, ends=ends, rows=learned,
        rejections=rejections, held_out=held_out, max_batch_tokens=own_loop.micro_batch_tokens, teachers=teachers,
        context=context,
    )  # fmt: skip


def compare(
    bench: Bench, kept: Path, judge: Callable[[Any], float | None], advance: Callable[[Outcome], None]
) -> Generator[Outcome]:
    """The start, then each seed's students, objective after objective, so that a part of a run compares alike.

    Args:
        bench: what they share.
        kept: folder of what is done, of this comparison and no other.
        judge: the verified rate of a model, or None.
        advance: called with each.
    """
    for seed, objective in [
        (0, None),
        *((seed, one) for seed in range(bench.config.seeds) for one in bench.config.objectives),
    ]:
        name = START if objective is None else name_of(objective)
        file = kept / f"student-{_file_name(name)}-{seed}.json"
        if file.exists():
            outcome = Outcome(**json.loads(file.read_text()))
        else:
            outcome = _train(bench, objective, seed, kept, judge)
            kept.mkdir(parents=True, exist_ok=True)
            write_json(file, asdict(outcome))
            shutil.rmtree(_training(kept, name, seed), ignore_errors=True)
        advance(outcome)
        yield outcome


def _train(
    bench: Bench, objective: str | dict[str, Any] | None, seed: int, kept: Path, judge: Callable[[Any], float | None]
) -> Outcome:
    from trainers.class_figures import calibration_error
    from trainers.predictions import predict

    model = copy.deepcopy(bench.model)
    records: list[dict[str, Any]] = []
    name, start, cpu = START, time.monotonic(), time.process_time()
    forget_peak()
    if objective is not None:
        name = name_of(objective)
        of_seed = {"objective": objective, "seed": derive_seed(bench.section.get("seed", 0), "student", seed)}
        params = lm_students.parse({**bench.section, **of_seed})
        mine = params[lm_students.Config]
        teacher = bench.teachers[mine.teacher_kind] if lm_students.needs_teacher(mine) else None
        records = lm_students.train_rows(
            params, model, bench.tokenizer, bench.ends, bench.rows, teacher, bench.context,
            str(_training(kept, name, seed)), is_main=True,
        )  # fmt: skip
    seconds, cpu_s, peak = time.monotonic() - start, time.process_time() - cpu, peak_bytes()
    model.eval()
    said = predict(model, bench.held_out, bench.max_batch_tokens)
    return Outcome(
        objective=name,
        seed=seed,
        nats_per_token=-float(said.log_probs.mean()),
        calibration_error=calibration_error(said.confidence, said.right),
        accuracy=float(said.right.mean()),
        verified_rate=judge(model),
        n_tokens_learned=sum(record["count"] for record in records),
        loss_last_step=records[-1]["loss"] if records else None,
        seconds=round(seconds, 3),
        cpu_s=round(cpu_s, 3),
        peak_bytes=peak,
    )


def _training(kept: Path, objective: str, seed: int) -> Path:
    """The folder of a student's own checkpoints."""
    return kept / f"of-{_file_name(objective)}-{seed}"


def _file_name(objective: str) -> str:
    return hashlib.sha256(objective.encode()).hexdigest()[:16] if " " in objective else objective


def _check_apart(learned: list[LearnedRow], held_out: list[LearnedRow], path: Path) -> None:
    """Fail where a held-out prompt is learned.

    Raises:
        DataError: with the first such row.
    """
    prompts = {tuple(row.example.tokens[: row.example.n_prompt_tokens]) for row in learned}
    shared = [row for row in held_out if tuple(row.example.tokens[: row.example.n_prompt_tokens]) in prompts]
    if shared:
        raise DataError(
            f"{path}: {len(shared)} of {len(held_out)} held-out prompts are among those that are learned, the first is "
            f"{shared[0].id!r}; give others"
        )


def forget_peak() -> None:
    """Start the peak of memory anew, where the system lets a process do so."""
    import torch

    if device_type() == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most memory since then: the device's, or this process's in the system's own account (VmHWM)."""
    import torch

    if device_type() == "cuda":
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
