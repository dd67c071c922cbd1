"""Evaluate a draft for speculative decoding: how much of what it proposes its target keeps, and what that saves.

On each prompt an accept-reject loop writes a text (`trainers/drafts.py`), at each place of which sum min(p, q) is
taken too, of a draft before training likewise; and transformers writes the target's greedy text alone, assisted by the
draft, and with n-grams of the text itself as the draft.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from datagen.backends.models import Model, resolve_model
from datagen.backends.transformers_models import (
    TemplateError,
    chat_tokens,
    device_type,
    end_tokens,
    template_message,
    tokenizer_hash,
)
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, main
from trainers.device import check_packages
from trainers.draft_scores import DraftScore, figures
from trainers.students import check_usable


class Config(Params):
    """How texts are written, each of up to `max_new_tokens`, in blocks of `n_drafted` drafted tokens.

    `temperature` is the loop's; at 0 acceptance is the share of tokens where draft and target agree. `n_threads` counts
    on the CPU only, where rounding depends on it.
    """

    n_drafted: int = Field(4, ge=1)
    temperature: float = Field(1.0, ge=0)
    max_new_tokens: int = Field(64, ge=1)
    n_resamples: int = Field(2000, ge=1)
    dtype: Literal["float32", "bfloat16"] = "float32"
    n_threads: int = Field(2, ge=1)
    seed: int = 0


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    return validate(section, Config, InputParams)


def run(run: Run) -> dict[str, Any]:
    """Write a score for each prompt; the figures are in the manifest too."""
    check_packages()
    import torch
    from transformers.utils.logging import disable_progress_bar

    from trainers.draft_models import load_models, load_tokenizer

    disable_progress_bar()
    config = run.params[Config]
    if device_type() == "cpu":
        torch.set_num_threads(config.n_threads)
    given = {name: run.inputs[name] for name in ("target", "draft", "before") if name in run.inputs}
    found = {name: resolve_model(str(path)) for name, path in given.items()}
    rows = list(_prompts(run))
    tokenizer = load_tokenizer(found["target"].folder)
    for name, model in found.items():
        _check_tokenizer(given[name], given["target"], load_tokenizer(model.folder), tokenizer)
    models = load_models({name: model.folder for name, model in found.items()}, config.dtype)
    limit = min(getattr(model.config, "max_position_embeddings", math.inf) for model in models.values())
    outcomes: list[DraftScore | Rejection] = []
    with run.progress(len(rows), "prompts") as bar:
        for row in rows:
            tokens = _tokens(run, row, tokenizer, limit, config)
            outcomes.append(tokens if isinstance(tokens, Rejection) else _score(run, row.id, tokens, models, tokenizer))
            bar.advance()
    scores = [one for one in outcomes if isinstance(one, DraftScore)]
    dropped = [one for one in outcomes if isinstance(one, Rejection)]
    if not scores:
        first = dropped[0]
        raise DataError(f"{run.inputs['data']}: no prompt to draft for; the first is {first.id!r}: {first.detail}")
    bound = run.params[InputParams].max_rejected_share
    check_usable(str(run.inputs["data"]), dropped, len(outcomes), bound, frozenset())
    metrics = figures(scores, n_drafted=config.n_drafted, n_resamples=config.n_resamples, seed=config.seed)
    with DatasetWriter(run.out, DraftScore, _manifest(run, found, metrics)) as writer:
        for one in outcomes:
            writer.read()
            writer.put(one)
    return metrics | {"rows": writer.rows, "rejected": dict(writer.reasons)}


def _prompts(run: Run) -> Iterator[Prompt | Rejection]:
    """Each prompt once, where the data is of traces too."""
    path = run.inputs["data"]
    rows = open_rows(path, run.name, run.params[InputParams])
    if rows.record not in (Prompt, Trace):
        raise DataError(f"{path}: holds {rows.record.__name__} rows, {run.name} takes prompts or traces")
    seen: set[str] = set()
    for row in rows:
        prompt = row.prompt if isinstance(row, Trace) else row
        if prompt.id not in seen:
            seen.add(prompt.id)
            yield prompt


def _check_tokenizer(path: Path, target: Path, tokenizer: Any, wanted: Any) -> None:
    if not tokenizer.chat_template:
        raise MissingError(f"{path}: has no chat template; add chat_template.jinja to its folder")
    if tokenizer_hash(tokenizer) != tokenizer_hash(wanted):
        raise DataError(
            f"{path}: its tokenizer differs from that of the target {target}, so what it drafts is other tokens; "
            "train a draft of the target's own layers, by train_lm with student=TARGET student_layers=N"
        )


def _tokens(run: Run, row: Prompt | Rejection, tokenizer: Any, limit: float, config: Config) -> list[int] | Rejection:
    """The prompt in the chat template, or why it cannot be used."""
    if isinstance(row, Rejection):
        return row
    messages = [template_message(message) for message in row.messages]
    try:
        tokens = chat_tokens(tokenizer, messages, row.tools, add_generation_prompt=True)
    except TemplateError as error:
        return Rejection(id=row.id, stage=run.name, reason="chat_template", detail=str(error))
    needed = len(tokens) + config.max_new_tokens + config.n_drafted + 1
    if needed > limit:
        detail = f"{len(tokens)} tokens, and {needed} with what is written, of a context of {limit:.0f}"
        return Rejection(id=row.id, stage=run.name, reason="too_long", detail=detail)
    return tokens


def _score(run: Run, id: str, prompt: list[int], models: Mapping[str, Any], tokenizer: Any) -> DraftScore:
    import torch

    from trainers.draft_models import WAYS, NextTokensOf, acceptances, gap, greedy
    from trainers.drafts import speculate

    config, target, draft = run.params[Config], models["target"], models["draft"]
    ends = end_tokens(target, tokenizer)
    p = NextTokensOf(target, config.temperature)
    q = NextTokensOf(draft, config.temperature, width=target.get_output_embeddings().weight.shape[0])
    written = speculate(
        p, q, prompt, n_drafted=config.n_drafted, n_tokens=config.max_new_tokens, ends=ends,
        generator=torch.Generator().manual_seed(derive_seed(config.seed, id)),
    )  # fmt: skip
    text = [*prompt, *written.tokens]
    drafts = [models[name] for name in ("draft", "before") if name in models]
    kept = [float(one) for one in acceptances(target, drafts, text, len(prompt), config.temperature).sum(dim=1)]
    texts = {
        way: greedy(
            target, prompt, way, draft=draft, n_drafted=config.n_drafted, n_tokens=config.max_new_tokens,
            pad_token=min(ends, default=0), tokenizer=tokenizer,
        )
        for way in WAYS
    }  # fmt: skip
    for way, one in texts.items():
        for name, seconds in (("seconds", one.seconds), ("cpu_seconds", one.cpu_seconds)):
            run.facts[f"greedy_{way}_{name}"] = run.facts.get(f"greedy_{way}_{name}", 0.0) + seconds
    own = texts["alone"].tokens
    return DraftScore(
        id=id,
        text=tokenizer.decode(written.tokens),
        n_tokens=len(written.tokens),
        n_passes=written.n_passes,
        n_judged=len(written.accepted),
        n_accepted=sum(written.accepted),
        expected=math.fsum(written.expected),
        variance=written.variance,
        acceptance=kept[0],
        acceptance_before=kept[1] if len(kept) > 1 else None,
        greedy_text=tokenizer.decode(own),
        n_greedy=len(own),
        passes_draft=texts["draft"].n_passes,
        passes_ngram=texts["ngram"].n_passes,
        gap_draft=gap(target, prompt, texts["draft"].tokens, own),
        gap_ngram=gap(target, prompt, texts["ngram"].tokens, own),
    )


def _manifest(run: Run, found: Mapping[str, Model], metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stage": run.name,
        "params": run.params.values(),
        **made_of({"data": run.inputs["data"]}),
        "models": {name: {"name": model.name, "revision": model.revision} for name, model in found.items()},
        "figures": metrics,
    }


STAGE = Stage(
    name="evaluate_draft",
    parse=parse,
    inputs={
        "draft": "folder that train_lm wrote, or any transformers model with the target's tokenizer",
        "target": "folder of the model that it drafts for, or its name",
        "data": "prompts that the draft did not see: dataset of Prompts or Traces, .jsonl or .parquet file",
    },
    run=run,
    optional_inputs={"before": "the draft before training, or any other to compare with"},
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
