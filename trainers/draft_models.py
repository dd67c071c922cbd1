"""Drafts and targets of transformers: next tokens with a cache, acceptance on given texts, greedy texts three ways.

Greedy texts are transformers' own: alone, assisted by the draft, and with n-grams of the text itself as the draft
(Saxena. Prompt Lookup Decoding. 2023. https://github.com/apoorvumang/prompt-lookup-decoding), which costs no training.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from datagen.backends.transformers_models import device_type
from trainers.drafts import acceptance, probabilities

WAYS = ("alone", "draft", "ngram")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model's folder."""
    return AutoTokenizer.from_pretrained(folder)


def load_models(folders: Mapping[str, Path], dtype: str) -> dict[str, Any]:
    """Name to causal language model, on this process's device, in evaluation mode and torch's `dtype`."""
    device = torch.device(device_type())
    models: dict[str, Any] = {}
    for name, folder in folders.items():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        models[name] = model.to(device).eval()
    return models


class NextTokensOf:
    """A causal language model as `drafts.speculate` asks it; keys and values of the tokens before are kept.

    `width` cuts its vocabulary to the target's, so that no padding of the draft's head is ever drawn.
    """

    def __init__(self, model: Any, temperature: float, width: int | None = None) -> None:
        """`model` in evaluation mode, on its device."""
        self._model, self._temperature, self._width = model, temperature, width
        self._cache, self._read = DynamicCache(), list[int]()

    @torch.inference_mode()
    def __call__(self, tokens: Sequence[int], n: int) -> Tensor:
        """(n, V) float64 on the CPU: probabilities of what follows each of the last n prefixes."""
        n_same = 0
        for read, token in zip(self._read, tokens[: len(tokens) - n], strict=False):
            if read != token:
                break
            n_same += 1
        if n_same == 0:
            self._cache = DynamicCache()
        elif n_same < len(self._read):
            self._cache.crop(n_same - len(self._read))
        new = torch.tensor([list(tokens[n_same:])], device=self._model.device)
        output = self._model(input_ids=new, past_key_values=self._cache, use_cache=True, logits_to_keep=n)
        self._read = list(tokens)
        return probabilities(output.logits[0, -n:, : self._width], self._temperature).cpu()


@torch.inference_mode()
def next_probabilities(model: Any, tokens: Sequence[int], n_prompt: int, temperature: float) -> Tensor:
    """(len(tokens) - n_prompt, V) float64: of what stands at each place after the prompt, given all before it."""
    n = len(tokens) - n_prompt
    read = torch.tensor([list(tokens[:-1])], device=model.device)
    return probabilities(model(input_ids=read, use_cache=False, logits_to_keep=n).logits[0, -n:], temperature)


def acceptances(target: Any, drafts: Sequence[Any], tokens: Sequence[int], n_prompt: int, temperature: float) -> Tensor:
    """(drafts, len(tokens) - n_prompt) float64: sum min(p, q) of each draft at each place of a text, in [0, 1]."""
    p = next_probabilities(target, tokens, n_prompt, temperature)
    every = [acceptance(p, next_probabilities(draft, tokens, n_prompt, temperature)) for draft in drafts]
    return torch.stack(every).cpu()


@dataclass(frozen=True, slots=True)
class Greedy:
    """A greedy text and what it cost: passes of the target, seconds of the clock and of the processor."""

    tokens: list[int]
    n_passes: int
    seconds: float
    cpu_seconds: float


def greedy(
    target: Any,
    prompt: Sequence[int],
    way: str,
    *,
    draft: Any,
    n_drafted: int,
    n_tokens: int,
    pad_token: int,
    tokenizer: Any,
) -> Greedy:
    """The target's greedy text by transformers' `generate`.

    Args:
        target: in evaluation mode.
        prompt: tokens before.
        way: `alone`; `draft`, assisted by it; or `ngram`, by tokens that followed the same ones before.
        draft: with the target's tokenizer.
        n_drafted: tokens a block, however sure the draft is; fewer n-grams are drafted where the text has none.
        n_tokens: at most so many are written.
        pad_token: any; nothing is padded.
        tokenizer: of both, read only where their vocabularies are padded to different widths.
    """
    options: dict[str, Any] = {}
    if way == "draft":
        settings = draft.generation_config
        settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = n_drafted, "constant"
        settings.assistant_confidence_threshold = 0.0
        options["assistant_model"] = draft
        if draft.config.vocab_size != target.config.vocab_size:
            options |= {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}
    elif way == "ngram":
        options["prompt_lookup_num_tokens"] = n_drafted
    read = torch.tensor([list(prompt)], device=target.device)
    passes: list[None] = []
    hook = target.register_forward_hook(lambda *_: passes.append(None))
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        output = target.generate(
            input_ids=read, attention_mask=torch.ones_like(read), do_sample=False, max_new_tokens=n_tokens,
            pad_token_id=pad_token, **options,
        )  # fmt: skip
    finally:
        hook.remove()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Greedy(output[0, len(prompt) :].tolist(), len(passes), seconds, cpu_seconds)


def gap(target: Any, prompt: Sequence[int], tokens: Sequence[int], own: Sequence[int]) -> float:
    """How far the first token that is not the target's own lies below its highest, in logits; 0 where all are its own.

    Of one text's blocks and of one token at a time the products are rounded differently, so that tokens as good as
    equal may change places; any other is an error. Infinite if one text is but the start of the other.
    """
    if list(tokens) == list(own):
        return 0.0
    same = next((i for i, (a, b) in enumerate(zip(tokens, own, strict=False)) if a != b), None)
    if same is None:
        return float("inf")
    read = torch.tensor([[*prompt, *own[:same]]], device=target.device)
    with torch.inference_mode():
        logits = target(input_ids=read, use_cache=False, logits_to_keep=1).logits[0, -1].double()
    return float(logits.max() - logits[tokens[same]])
