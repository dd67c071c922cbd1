"""Move a model to another tokenizer: the start of a student, which learns by `objective=likelihood_matching`.

The tokenizer is of bytes, trained on texts, or another model's; embeddings as `trainers/tokenizer_transfer.py` says.
The new model is a folder of transformers with its tokenizer, whose chat template and special tokens are the old one's;
of another model's tokenizer they are its own, but for a chat template that it lacks.
A trained tokenizer counts the messages and answers of DATA.
"""

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.contracts.dataset import content_hash, replace_directory, write_json
from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_model
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Trace
from datagen.contracts.stage import Run, Stage, main
from trainers.device import check_packages
from trainers.students import provenance


class Config(Params):
    """`tokenizer` is `bytes`, `trained` on texts to `n_tokens` without special ones, or a model that has one."""

    student: str = EMBEDDED
    tokenizer: str = "bytes"
    n_tokens: int = Field(default=4096, gt=256)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    return validate(section, Config, InputParams)


def run(run: Run) -> dict[str, Any]:
    """Write the model; numbers of tokens and of weights."""
    check_packages()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from trainers.tokenizer_transfer import byte_tokenizer, moved, trained_tokenizer

    disable_progress_bar()
    config = run.params[Config]
    if (config.tokenizer == "trained") != ("data" in run.inputs):
        raise ParamsError(
            f"tokenizer: trained is what counts the texts of --data, and nothing else is (got {config.tokenizer!r} "
            f"{'with' if 'data' in run.inputs else 'without'} --data)"
        )
    base = resolve_model(config.student)
    tokenizers: Any = AutoTokenizer  # the types of both are partly unknown
    models: Any = AutoModelForCausalLM
    old, new = tokenizers.from_pretrained(base.folder), None
    model = models.from_pretrained(base.folder, dtype=torch.float32)
    match config.tokenizer:
        case "bytes":
            new = byte_tokenizer(old)
        case "trained":
            new = trained_tokenizer(_texts(run), config.n_tokens, old)
        case name:
            new = tokenizers.from_pretrained(resolve_model(name).folder)
            if new.eos_token_id is None:
                raise MissingError(f"tokenizer {name!r} has no end token (eos_token); a student needs one")
            new.chat_template = new.chat_template or old.chat_template
    student = moved(model, old, new)
    writing = run.out.with_name(f".{run.out.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    student.save_pretrained(writing)
    new.save_pretrained(writing)
    if (base.folder / "LICENSE").is_file():
        shutil.copyfile(base.folder / "LICENSE", writing / "LICENSE")
    metrics = {
        "n_tokens": {"before": len(old), "after": len(new)},
        "n_weights": {
            when: sum(weight.numel() for weight in one.parameters())
            for when, one in (("before", model), ("after", student))
        },
    }
    manifest = {
        "format": "datastill",
        "base": provenance(base),
        "stage": run.name,
        "params": run.params.values(),
        **made_of(run.inputs, of_model(config.student, "base")),
        **metrics,
        "files": {file.name: content_hash(file) for file in sorted(writing.iterdir())},
    }
    write_json(writing / "manifest.json", manifest)
    replace_directory(writing, run.out)
    return metrics


def _texts(run: Run) -> Iterator[str]:
    for row in Rows(run.inputs["data"], Trace, run.name, run.params[InputParams]):
        if isinstance(row, Trace):
            yield from (content for message in row.prompt.messages if (content := message.get("content")))
            yield row.completion


STAGE = Stage(
    name="move_tokenizer",
    parse=parse,
    inputs={},
    optional_inputs={"data": "for tokenizer=trained: dataset of Traces, or a .jsonl or .parquet file of such rows"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
