"""Distributions from a transformers model on this machine, which sees whole ones: any method."""

import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.transformers_models import Example, device_type, end_tokens
from datagen.contracts.errors import MissingError
from datagen.contracts.params import Params
from datagen.contracts.records import Trace

BATCH_TOKENS = 2048  # padding included: enough to fill the machine, and activations stay small


class Config(Params):
    """The teacher by name, folder or hub name, as the backend `local` takes it.

    A trace of more tokens than the teacher has positions is dropped, whatever `max_tokens` says.
    """

    backend: Literal["local"] = "local"
    model: str = EMBEDDED
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_tokens: int = Field(default=4096, ge=2)


class Teacher:
    """A `datagen.stages.teacher_signals` teacher."""

    def __init__(self, config: Config) -> None:
        """Load it.

        Raises:
            MissingError: the model, a package, its chat template or the device is not there.
        """
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from transformers.utils.logging import disable_progress_bar
        except ModuleNotFoundError as error:
            raise MissingError(f"a local teacher needs {error.name}: `pip install 'datastill[lm]'`") from None
        disable_progress_bar()
        device, model = device_type(), resolve_model(config.model)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(model.folder)
            network: Any = AutoModelForCausalLM.from_pretrained(model.folder, dtype=getattr(torch, config.dtype))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise MissingError(f"model {config.model!r} cannot be loaded: {' '.join(str(error).split())}") from None
        if not self.tokenizer.chat_template:
            raise MissingError(f"model {config.model!r} has no chat template; add chat_template.jinja to its folder")
        if "logits_to_keep" not in inspect.signature(network.forward).parameters:
            raise MissingError(f"model {config.model!r}: {type(network).__name__} takes no logits_to_keep")
        self.network = network.to(device).eval()
        self.end_tokens = end_tokens(network, self.tokenizer)
        positions = getattr(network.config, "max_position_embeddings", None) or sys.maxsize
        self.max_tokens = min(config.max_tokens, positions)
        self.vocabulary: int = network.get_output_embeddings().weight.shape[0]
        self.identity: Mapping[str, Any] = {
            "backend": config.backend,
            "model": model.name,
            "revision": model.revision,
            "dtype": config.dtype,
        }

    def signals(
        self, method: Any, config: Any, examples: Sequence[tuple[Trace, Example]]
    ) -> Iterator[tuple[Trace, Any]]:
        """The signal of every trace, or why there is none; batches are cut by length, from these examples alone."""
        import torch

        from datagen.backends.scoring import completion_log_probs
        from datagen.contracts.signal_columns import Signal, join

        for batch in _batches(examples):
            pieces: defaultdict[int, list[Signal]] = defaultdict(list)
            unusable: set[int] = set()
            for row, first, log_probs in completion_log_probs(self.network, [example for _, example in batch]):
                if torch.isnan(log_probs).any():
                    unusable.add(row)
                else:
                    pieces[row].append(method(config, log_probs, batch[row][0].id, first))
            for row, (trace, _) in enumerate(batch):
                if row in unusable:
                    yield trace, ("not_finite", "the teacher's logits hold NaN; a dtype of float32 may mend it")
                else:
                    yield trace, join(pieces[row])


def _batches(examples: Iterable[tuple[Trace, Example]]) -> Iterator[list[tuple[Trace, Example]]]:
    batch: list[tuple[Trace, Example]] = []
    for one in sorted(examples, key=lambda pair: len(pair[1])):
        if batch and (len(batch) + 1) * len(one[1]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
