"""Language-model students: a model learns the completions of traces, or texts, from their tokens or from a teacher.

DATA is a dataset of Traces, or a .jsonl or .parquet file whose rows are `messages` that end on the assistant's turn, or
`prompt` and `completion`. Only completions are learned, each token weighing the same, or with `learned_tokens=all` all
turns. Or it is Documents, or rows with `text`: every token after a text's first is learned, without a chat template; a
text longer than `max_tokens` is cut into pieces `ID/0`, `ID/1`, ... (trainers/lm_rows.py). `objective` is one of
trainers/objectives, or several with weights: `objective='{forward_kl: 0.9, supervised: 0.1}'`. All but `supervised`
need a teacher: `teacher=MODEL`, which reads beside the student, or another `teacher_kind` of trainers/teachers;
`likelihood_matching` takes one of another tokenizer. Texts of several domains may be drawn by weights, given or those
of a rule: trainers/domain_mix.py.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.backends.models import EMBEDDED, Model, resolve_model
from datagen.backends.transformers_models import device_type, end_tokens
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.inputs import InputParams, Rows, record_of
from datagen.contracts.licences import made_of, of_model
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Document, Rejection, Trace
from datagen.contracts.stage import load_method
from trainers import domain_mix, loop, lora, on_policy, weighted
from trainers.domain_draws import DomainMix
from trainers.lm_rows import Bounds, LearnedRow, LearnedTokens, select, select_texts
from trainers.students import check_usable, count_reasons, losses, train_shown, write_student

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch

    from trainers.lm_loss import RowsLoss
    from trainers.teachers import Teacher

STAGE = "train_lm"
MATCHING = "likelihood_matching"  # the objective of texts, and the teacher that it needs
OTHER_TOKENIZER = "other_tokenizer"
_NOT_NEEDED = frozenset({"equal_completion", "over_cap"})  # all other reasons say that a row cannot be used

log = logging.getLogger(__name__)


class Config(Params):
    """Who learns what from whom.

    `student_layers` starts from so many of the student's layers, evenly spaced, the first and the last among them.
    `max_tokens` bounds a sequence, prompt included: a longer one is dropped, never cut, as is one beyond the context of
    student or teacher. Of a prompt's equal completions one is kept, and of the rest the first `max_rows_per_prompt`.
    Texts are cut, and all of them kept. `learned_tokens` says what is learned of a trace, its completion or all turns.
    """

    student: str = EMBEDDED
    student_layers: int | None = Field(default=None, ge=2, json_schema_extra={"unless_default": True})
    teacher: str | None = Field(default=None, json_schema_extra={"unless_default": True})
    teacher_kind: str = Field(default="online", json_schema_extra={"unless_default": True})
    objective: str | dict[str, Any] = "supervised"
    max_tokens: int = Field(default=1024, ge=2)
    max_rows_per_prompt: int = Field(default=1_000_000, ge=1)
    learned_tokens: LearnedTokens = Field(default="completion", json_schema_extra={"unless_default": True})
    needs_cuda: bool = False


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against every Config of language-model students."""
    objective = section.get("objective")
    if "teacher" in section and (objective == MATCHING or (isinstance(objective, dict) and MATCHING in objective)):
        section = {"teacher_kind": OTHER_TOKENIZER, **section}  # it takes no other
    kind = section.get("teacher_kind", "online")
    has_teacher = section.get("teacher") is not None or "teacher_kind" in section
    of_teacher = [load_method("trainers.teachers", kind, key="teacher_kind").Config] if has_teacher else []
    of_rule = domain_mix.config_of(section)
    params = validate(
        section,
        Config,
        loop.Config,
        lora.Config,
        on_policy.Config,
        domain_mix.Config,
        InputParams,
        *of_teacher,
        *of_rule,
    )
    names = objectives_of(params[Config])
    if has_teacher and (MATCHING in names) != (kind == OTHER_TOKENIZER):
        raise ParamsError(
            f"teacher_kind: {MATCHING} needs {OTHER_TOKENIZER}, and no other objective takes it (got {kind!r} with "
            f"{', '.join(names)})"
        )
    if MATCHING in names and (others := set(names) - {MATCHING, "supervised"}):
        raise ParamsError(f"objective: {min(others)} compares tokens, and {MATCHING} is of two tokenizers; take one")
    if not has_teacher and (needing := [name for name in names if name != "supervised"]):
        raise ParamsError(
            f"objective: {needing[0]} needs a teacher; set teacher=MODEL, or teacher_kind=cached with --signals"
        )
    if has_teacher and params[Config].teacher and "teacher" not in of_teacher[0].model_fields:
        raise ParamsError(f"teacher: teacher_kind={kind} reads no model of that name; leave it out")
    parts = [part.teacher_kind for part in params[of_teacher[0]].teachers] if kind == "mixture" else [kind]
    on_policy.check(params[on_policy.Config], parts, names)
    if params[on_policy.Config].rollout_url and params[lora.Config].adapter == "lora":
        raise ParamsError("rollout_url: the server takes whole weights, and adapter=lora trains others; take one")
    domain_mix.check(
        params[domain_mix.Config], teacher=params[Config].teacher if needs_teacher(params[Config]) else None
    )
    if params[Config].learned_tokens == "all" and (obstacle := _needs_answers(params)):
        raise ParamsError(f"{obstacle}, and learned_tokens=all learns every turn; leave one of the two out")
    return params


def objectives_of(config: Config) -> list[str]:
    """Names of the objectives.

    Raises:
        ParamsError: one is not there, is of classes, or has other options or weights than it may.
    """
    return [part.name for part in weighted.parse(config.objective)]


def fit(
    section: Mapping[str, Any],
    data: str,
    checkpoints: str,
    out: str,
    signals: str | None = None,
    validation: str | None = None,
    heldout: str | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """Train on `data` and write the student into the folder `out`.

    Args:
        section: as `parse` takes it.
        data: dataset of Traces or of Documents, or a file of either.
        checkpoints: folder of this training's checkpoints.
        out: gets the model in transformers' format with its tokenizer, loss.json, rejections.parquet, manifest.json.
        signals: dataset of TokenSignals, for a cached teacher.
        validation: rows that are not learned, by whose likelihood the best weights are chosen.
        heldout: texts of the same domains, not learned, on which the rule of a mix measures the student.
        weights: file of weights that batches are drawn by.

    Returns:
        Counts and losses, the same in every process.

    Raises:
        DataError: no row is left to train on, too many cannot be used, or the teacher has another tokenizer.
        MissingError: a model is not one of transformers' text models, or has no chat template for traces.
        ParamsError: what is learned of texts needs answers.
    """
    import torch
    from accelerate import PartialState

    from trainers.teachers._models import context_of

    params = parse(section)
    config = params[Config]
    state = PartialState(cpu=device_type() == "cpu")
    of_texts = is_of_texts(data, params)
    if is_mixed(params, weights) and not of_texts:
        raise DataError(f"{data}: has no texts, and a mix is of texts by domain; give rows of `text` and `domain`")
    base, tokenizer, model = open_student(config, params[loop.Config], needs_template=not of_texts)
    ends = end_tokens(model, tokenizer)
    teacher = open_teacher(params, tokenizer, state.device or torch.device(device_type()), signals)
    context = min(context_of(model.config), teacher.context if teacher else context_of(model.config))
    bounds = Bounds(config.max_tokens, context, config.max_rows_per_prompt, config.learned_tokens)
    learned, rejections, n_rows = read(data, params, bounds, tokenizer, ends)
    if teacher:
        learned, unscored = without_unscored(learned, teacher, Path(checkpoints))
        rejections += unscored
    check_usable(data, rejections, n_rows, params[InputParams].max_rejected_share, _NOT_NEEDED)
    reasons = count_reasons(rejections)
    if not learned:
        raise DataError(f"{data}: no row is left to train on: {reasons}")
    n_used = len({row.trace.id for row in learned}) if of_texts else len(learned)
    log.info("%s: trains on %d of %d rows, left out %s", STAGE, n_used, n_rows, reasons or "none")
    if len(learned) > n_used:
        log.info("%s: texts are cut into %d sequences of at most %d tokens", STAGE, len(learned), bounds.max_tokens)
    held_out = read_held_out(validation, params, bounds, tokenizer, ends) if validation else []
    mix = None
    if is_mixed(params, weights):
        mix = domain_mix.open_mix(
            params, learned, data, tokenizer=tokenizer, device=state.device or torch.device(device_type()),
            folder=Path(checkpoints), weights=weights, heldout=heldout,
            held_out=read_held_out(heldout, params, bounds, tokenizer, ends) if heldout else [],
        )  # fmt: skip
    records = train_rows(
        params, model, tokenizer, ends, learned, teacher, context, checkpoints,
        is_main=state.is_main_process, held_out=held_out, mix=mix,
    )  # fmt: skip
    metrics = {
        "rows": {"in": n_rows, "out": n_used, "rejected": len(rejections)},
        "rejected": reasons,
        **({"n_sequences": len(learned)} if of_texts else {}),
        "n_completion_tokens": sum(row.example.n_completion_tokens for row in learned),
        "n_tokens_learned": sum(record["count"] for record in records),
        **losses(records),
        **({"validation": best_of(records)} if held_out else {}),
        **({"mixture": mix.figures()} if mix else {}),
    }
    if state.is_main_process:
        inputs = {
            "data": data, "signals": signals, "validation": validation, "heldout": heldout, "weights": weights,
        }  # fmt: skip
        manifest = {
            "stage": STAGE,
            "params": params.values(),
            **made_of(
                {name: Path(path) for name, path in inputs.items() if path},
                of_model(config.student, "base"),
                *(of_model(name, "teacher") for name in teachers_of(params)),
            ),
            **({"teacher": dict(teacher.identity)} if teacher else {}),
            **metrics,
        }
        write_student(Path(out), model, tokenizer, base, records, rejections, manifest)
    return metrics


def is_of_texts(data: str, params: Parts) -> bool:
    """Whether the rows are texts.

    Raises:
        ParamsError: they are, and what is learned needs answers.
    """
    if record_of(Path(data)) != "Document":
        return False
    if obstacle := _needs_answers(params):
        raise ParamsError(f"{obstacle}, and the rows of {data} are texts; give traces, or leave it out")
    return True


def _needs_answers(params: Parts) -> str | None:
    """The parameter that can be of prompts and answers alone, where one is set."""
    config = params[Config]
    if MATCHING in objectives_of(config):
        return f"objective: {MATCHING} compares answers"
    if params[on_policy.Config].on_policy_share:
        return "on_policy_share: the student answers prompts"
    if config.teacher_kind == "cached" and needs_teacher(config):
        return "teacher_kind: cached signals are of answers"
    return None


def open_student(config: Config, loop_config: loop.Config, *, needs_template: bool = True) -> tuple[Model, Any, Any]:
    """The model that training starts from: its place, its tokenizer, and the network in float32.

    Raises:
        MissingError: it has no chat template and needs one, or cannot keep packed sequences apart.
        ParamsError: it has fewer layers than `student_layers`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from trainers.batches import check_packing
    from trainers.language_models import keep_layers

    disable_progress_bar()
    base = resolve_model(config.student)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
    if needs_template and not tokenizer.chat_template:
        raise MissingError(f"model {config.student!r} has no chat template; add chat_template.jinja to its folder")
    model: Any = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    if config.student_layers:
        model = keep_layers(model, config.student_layers)
    if loop_config.layout == "packed":
        check_packing(model, model.get_input_embeddings().weight.shape[0])
    return base, tokenizer, model


def train_rows(
    params: Parts,
    model: Any,
    tokenizer: Any,
    ends: frozenset[int],
    rows: Sequence[LearnedRow],
    teacher: "Teacher | None",
    context: int,
    checkpoints: str,
    *,
    is_main: bool,
    held_out: Sequence[LearnedRow] = (),
    mix: DomainMix | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place on rows that the teacher has prepared; a record a step.

    Args:
        params: of the section.
        model: of transformers, in float32.
        tokenizer: of it.
        ends: tokens that end a turn.
        rows: to learn from, at least one.
        teacher: where the objective needs one.
        context: positions that student and teacher have.
        checkpoints: folder of this training's checkpoints.
        is_main: whether this process shows progress.
        held_out: rows whose likelihood chooses the best weights, where there are any.
        mix: what draws the rows of each step, in place of their order.
    """
    from trainers.language_models import StudentModel
    from trainers.lm_loss import held_out_loss

    loop_config, own = params[loop.Config], params[on_policy.Config]
    lora.prepare(model, params[lora.Config], loop_config.seed)
    student = StudentModel(model)
    folder = Path(checkpoints) / "rollout_weights"
    drawn_by = (own, tokenizer, ends, context, loop_config.seed, folder)
    rollouts = on_policy.Rollouts(*drawn_by) if own.on_policy_share else None
    loss, state = loss_and_state(params, teacher, rollouts, mix)
    try_one(student, rows, loss)
    records = train_shown(
        STAGE, student, rows, loss, loop_config, checkpoints, is_main=is_main, state=state,
        renew=rollouts.renew if rollouts else mix.renew if mix else None,
        judge=held_out_loss(held_out, loop_config) if held_out else None,
    )  # fmt: skip
    lora.merge(model)
    return records


def needs_teacher(config: Config) -> bool:
    """Whether an objective reads one."""
    return objectives_of(config) != ["supervised"]


def read(
    path: str, params: Parts, bounds: Bounds, tokenizer: Any, ends: frozenset[int]
) -> tuple[list[LearnedRow], list[Rejection], int]:
    """What can be learned of traces or texts, what cannot, and how many rows there are.

    Raises:
        DataError: the rows are neither, or too many are malformed.
    """
    if record_of(Path(path)) == "Document":
        texts = Rows(Path(path), Document, STAGE, params[InputParams])
        return *select_texts(texts, bounds, tokenizer, stage=STAGE), len(texts)
    traces = Rows(Path(path), Trace, STAGE, params[InputParams])
    return *select(traces, bounds, tokenizer, ends, stage=STAGE), len(traces)


def read_held_out(path: str, params: Parts, bounds: Bounds, tokenizer: Any, ends: frozenset[int]) -> list[LearnedRow]:
    """The rows of `path` that can be used.

    Raises:
        DataError: none, or too many cannot.
    """
    rows, rejections, n_rows = read(path, params, bounds, tokenizer, ends)
    check_usable(path, rejections, n_rows, params[InputParams].max_rejected_share, _NOT_NEEDED)
    if not rows:
        raise DataError(f"{path}: no row is left to judge by: {count_reasons(rejections)}")
    return rows


def best_of(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The step whose weights were kept, and their mean negative log-likelihood in nats a token of held-out rows."""
    value, step = min((record["judged"], record["step"]) for record in records if "judged" in record)
    return {"nats_per_token": value, "step": step}


def is_mixed(params: Parts, weights: object) -> bool:
    """Whether batches are drawn by domain: by a rule, or by `weights` that are given."""
    return params[domain_mix.Config].mixture is not None or weights is not None


def check_inputs(
    params: Parts, *, has_signals: bool, has_validation: bool, has_heldout: bool = False, has_weights: bool = False
) -> None:
    """Fail where an input is given and not read, or the other way round.

    Raises:
        ParamsError: with the remedy.
    """
    domain_mix.check_inputs(params[domain_mix.Config], has_heldout=has_heldout, has_weights=has_weights)
    if has_weights and params[on_policy.Config].on_policy_share:
        raise ParamsError("on_policy_share: the student answers prompts, and --weights is of texts; leave one out")
    if has_validation != bool(params[loop.Config].judge_every):
        raise ParamsError(
            "judge_every: set how many steps pass between looks at --validation"
            if has_validation
            else "judge_every: there is nothing to judge by; name rows that are not learned with --validation"
        )
    kind = params[Config].teacher_kind
    if has_signals and kind != "cached":
        raise ParamsError(f"teacher_kind: {kind} reads no --signals; set teacher_kind=cached")
    if kind == "cached" and not has_signals and needs_teacher(params[Config]):
        raise ParamsError("teacher_kind: cached reads what `datastill teacher_signals` wrote; name it with --signals")
    if not needs_teacher(params[Config]) and (params[Config].teacher or has_signals):
        log.warning("%s: supervised learns the tokens alone, so the teacher is not read", STAGE)


def teachers_of(params: Parts) -> list[str]:
    """Names of the models that are learned from or compared with, whose revisions say what is learned."""
    config, reference = params[Config], params[domain_mix.Config].reference
    others = [reference] if reference else []
    if not needs_teacher(config) or config.teacher_kind == "cached":
        return others
    if config.teacher:
        return [config.teacher, *others]
    own = params[load_method("trainers.teachers", config.teacher_kind, key="teacher_kind").Config]
    return [*(part.teacher for part in own.teachers), *others]


def open_teacher(params: Parts, tokenizer: Any, device: "torch.device", signals: str | None) -> "Teacher | None":
    """The teacher that the objective needs, or None."""
    config = params[Config]
    if not needs_teacher(config):
        return None
    module = load_method("trainers.teachers", config.teacher_kind, key="teacher_kind")
    more = {"signals": Path(signals)} if signals else {}
    return getattr(module, config.teacher_kind)(params[module.Config], tokenizer, device, **more)


def without_unscored(
    rows: Sequence[LearnedRow], teacher: "Teacher", folder: Path
) -> tuple[list[LearnedRow], list[Rejection]]:
    """The rows that the teacher gives a signal of, and the others, with the reason."""
    obstacles = teacher.prepare(rows, folder)
    unscored = [
        Rejection(id=row.id, stage=STAGE, reason=obstacles[row.id][0], detail=obstacles[row.id][1])
        for row in rows
        if row.id in obstacles
    ]
    return [row for row in rows if row.id not in obstacles], unscored


def loss_and_state(
    params: Parts,
    teacher: "Teacher | None",
    rollouts: on_policy.Rollouts | None = None,
    mix: DomainMix | None = None,
) -> "tuple[RowsLoss, loop.State]":
    """The loss of rows, and what is kept from step to step."""
    from trainers.lm_loss import OfRollouts, RowsLoss, States

    given, own = params[Config].objective, params[on_policy.Config]
    part = next((part for part in weighted.parse(given) if part.name == MATCHING), None)
    others = {} if isinstance(given, str) else {name: one for name, one in given.items() if name != MATCHING}
    objective = weighted.combined(others or given) if others or part is None else None
    of_rollouts = None
    if rollouts and objective:
        of_rollouts = OfRollouts(objective, support_k=own.rollout_support_k, unlearned=rollouts.unlearned)
    loss = RowsLoss(
        objective, teacher, layout=params[loop.Config].layout, of_rollouts=of_rollouts,
        matching={"weight": part.weight, **part.options} if part else None,
        watch=mix.watch if mix and mix.watches else None,
    )  # fmt: skip
    states: dict[str, loop.State] = {"objective": objective} if objective else {}
    kept = {"rollouts": rollouts, "mixture": mix}
    return loss, States(states | {name: one for name, one in kept.items() if one})


def try_one(student: "torch.nn.Module", rows: Sequence[LearnedRow], loss: "RowsLoss") -> None:
    """The loss of the shortest row, so that an objective that cannot take the signal says so before training.

    Raises:
        DataError: it cannot.
    """
    import torch

    with torch.no_grad():
        loss(student, [min(rows, key=len)], torch.device("cpu"))
