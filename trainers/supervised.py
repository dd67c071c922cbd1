"""Supervised fine-tuning: a language model learns the completions of traces."""

import inspect
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.transformers_models import Example, TemplateError, device_type, encode, end_tokens
from datagen.contracts.dataset import content_hash
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection, Trace
from datagen.contracts.stage import find_methods, load_method
from trainers import loop
from trainers.students import check_usable, count_reasons, losses, train_shown, write_student

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch

    from trainers.objectives import SumCount

STAGE = "train_lm"
_NOT_NEEDED = frozenset({"equal_completion", "over_cap"})  # all other reasons say that a row cannot be used
_OF_CLASSES = frozenset({"binary_cross_entropy"})  # objectives of a classifier; all others are of tokens

log = logging.getLogger(__name__)


class Config(Params):
    """Who learns what.

    `max_tokens` bounds a sequence, prompt included: a longer one is dropped, never cut. Of a prompt's equal completions
    one is kept, and of the rest the first `max_rows_per_prompt`.
    """

    model: str = EMBEDDED
    objective: str = "supervised"
    max_tokens: int = Field(1024, ge=2)
    max_rows_per_prompt: int = Field(1_000_000, ge=1)
    needs_cuda: bool = False


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against every Config of supervised fine-tuning."""
    params = validate(section, Config, loop.Config, InputParams)
    objectives = [name for name in find_methods("trainers.objectives") if name not in _OF_CLASSES]
    if (name := params[Config].objective) in _OF_CLASSES:
        raise ParamsError(
            f"objective: {name} learns the labels of a text, for train_encoder; {STAGE} takes {', '.join(objectives)}"
        )
    if name not in objectives:
        raise ParamsError(f"objective: no {name!r}; there are {', '.join(objectives)}")
    return params


def fit(section: Mapping[str, Any], traces: str, checkpoints: str, out: str) -> dict[str, Any]:
    """Train on `traces` and write the student into the folder `out`.

    Args:
        section: as `parse` takes it.
        traces: dataset of Traces, or a file of them.
        checkpoints: folder of this training's checkpoints.
        out: gets the model in transformers' format with its tokenizer, loss.json, rejections.parquet, manifest.json.

    Returns:
        Counts and losses, the same in every process.

    Raises:
        DataError: no row is left to train on, or too many cannot be used.
        MissingError: the model is not one of transformers' text models, or has no chat template.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    params = parse(section)
    config, loop_config = params[Config], params[loop.Config]
    is_main = PartialState(cpu=device_type() == "cpu").is_main_process
    base = resolve_model(config.model)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
    model: Any = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise MissingError(f"model {config.model!r}: {type(model).__name__} takes no logits_to_keep; choose another")
    if not tokenizer.chat_template:
        raise MissingError(f"model {config.model!r} has no chat template; add chat_template.jinja to its folder")

    rows = Rows(Path(traces), Trace, STAGE, params[InputParams])
    examples, rejections = select(rows, config, tokenizer, end_tokens(model, tokenizer))
    check_usable(traces, rejections, len(rows), params[InputParams].max_rejected_share, _NOT_NEEDED)
    reasons = count_reasons(rejections)
    if not examples:
        raise DataError(f"{traces}: no row is left to train on: {reasons}")
    log.info("%s: trains on %d of %d rows, left out %s", STAGE, len(examples), len(rows), reasons or "none")

    records = train_shown(STAGE, model, examples, _loss(config), loop_config, checkpoints, is_main=is_main)
    metrics = {
        "rows": {"in": len(rows), "out": len(examples), "rejected": len(rejections)},
        "rejected": reasons,
        "n_completion_tokens": sum(example.n_completion_tokens for example in examples),
        "n_tokens_learned": sum(record["count"] for record in records),
        **losses(records),
    }
    if is_main:
        manifest = {
            "stage": STAGE,
            "params": params.values(),
            "inputs": {"traces": content_hash(Path(traces))},
            **metrics,
        }
        write_student(Path(out), model, tokenizer, base, records, rejections, manifest)
    return metrics


def select(
    rows: Iterable[Trace | Rejection], config: Config, tokenizer: Any, ends: frozenset[int]
) -> tuple[list[Example], list[Rejection]]:
    """What to train on, in the order of the rows, and what not, with the reason."""
    examples: list[Example] = []
    rejections: list[Rejection] = []
    completions: defaultdict[str, set[tuple[str | None, str]]] = defaultdict(set)

    def reject(trace: Trace, reason: str, detail: str) -> None:
        rejections.append(Rejection(id=trace.id, stage=STAGE, reason=reason, detail=detail))

    for row in rows:
        if isinstance(row, Rejection):
            rejections.append(row)
            continue
        kept, completion = completions[row.prompt.id], (row.reasoning, row.completion)
        try:
            example = encode(row, tokenizer, ends)
        except TemplateError as error:
            reject(row, "chat_template", str(error))
            continue
        if not row.completion.strip():
            reject(row, "empty_completion", "nothing to learn")
        elif len(example) > config.max_tokens:
            reject(row, "too_long", f"{len(example)} tokens, max_tokens is {config.max_tokens}")
        elif completion in kept:
            reject(row, "equal_completion", "an earlier trace of the prompt says the same")
        elif len(kept) == config.max_rows_per_prompt:
            reject(row, "over_cap", f"max_rows_per_prompt is {config.max_rows_per_prompt}")
        else:
            kept.add(completion)
            examples.append(example)
    return examples, rejections


def _loss(config: Config) -> "Callable[[torch.nn.Module, Sequence[Example], torch.device], SumCount]":
    """The objective on the completions of some examples."""
    import torch

    from trainers.batches import collate, completion_logits

    objective = getattr(load_method("trainers.objectives", config.objective), config.objective)

    def loss(network: torch.nn.Module, examples: "Sequence[Example]", device: torch.device) -> "SumCount":
        batch = collate(examples).to(device)
        labels = batch.labels
        return objective(completion_logits(network, batch), labels, torch.ones_like(labels, dtype=torch.bool))

    return loss
