"""Traces as token sequences: chat template, completion mask, padding.

Axes: B sequences, T tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from datagen.backends.transformers_models import template_message
from datagen.contracts.records import Trace


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: the first `n_prompt_tokens` are given, the rest are learned; its length is its cost."""

    tokens: list[int]
    n_prompt_tokens: int

    def __len__(self) -> int:
        """Tokens, the prompt's included."""
        return len(self.tokens)

    @property
    def n_completion_tokens(self) -> int:
        """Tokens that are learned."""
        return len(self.tokens) - self.n_prompt_tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        tokens: (B, T) int64.
        attention_mask: (B, T) int64, 1 on tokens, 0 on padding.
        learned: (B, T) bool, True where the next token is learned.
    """

    tokens: Tensor
    attention_mask: Tensor
    learned: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        return Batch(self.tokens.to(device), self.attention_mask.to(device), self.learned.to(device))

    @property
    def labels(self) -> Tensor:
        """(learned.sum(),) int64: the learned tokens, sequence after sequence."""
        return self.tokens[:, 1:][self.learned[:, :-1]]


class TemplateError(ValueError):
    """The chat template gives another prompt with the answer than without it, so what is learned is never asked."""


def encode(trace: Trace, tokenizer: Any, end_tokens: frozenset[int]) -> Example:
    """The trace in the student's chat template, up to the first token that ends the turn.

    The prompt's tokens are those that generation starts from. An answer that was cut at its length limit is not
    followed by the end of the turn, or the student would learn to stop there.

    Args:
        trace: the answer may hold reasoning, which templates that know none leave out.
        tokenizer: of the student, with a chat template; transformers types its answers too loosely to use.
        end_tokens: any of them ends a turn.

    Raises:
        TemplateError: the prompt's tokens are not a prefix of the whole conversation's.
    """
    messages = [template_message(message) for message in trace.prompt.messages]
    answer: dict[str, Any] = {"role": "assistant", "content": trace.completion}
    if trace.reasoning:
        answer["reasoning_content"] = trace.reasoning
    tools = json.loads(trace.prompt.tools) if trace.prompt.tools else None
    prompt = _tokens(tokenizer, messages, tools, add_generation_prompt=True)
    whole = _tokens(tokenizer, [*messages, answer], tools, add_generation_prompt=False)
    n_prompt = len(prompt)
    if whole[:n_prompt] != prompt:
        raise TemplateError("the chat template changes the prompt when the answer follows it")
    ends = [i for i in range(n_prompt, len(whole)) if whole[i] in end_tokens]
    if trace.finish_reason == "length":
        whole = whole[: ends[-1]] if ends else whole
    elif ends:
        whole = whole[: ends[-1] + 1]
    return Example(whole, n_prompt)


def collate(examples: Sequence[Example]) -> Batch:
    """Pad on the right to the longest; padding is token 0 and never attended to."""
    shape = (len(examples), max(map(len, examples)))
    tokens = torch.zeros(shape, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    learned = torch.zeros(shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example)] = torch.tensor(example.tokens)
        attention_mask[row, : len(example)] = 1
        learned[row, example.n_prompt_tokens - 1 : len(example) - 1] = True
    return Batch(tokens, attention_mask, learned)


def completion_logits(network: nn.Module, batch: Batch) -> Tensor:
    """(batch.learned.sum(), V): the logits before each learned token, those of no other position computed.

    The start that all sequences share (a template's system prompt) goes through the network once. Its keys and values
    serve every sequence, and its gradient is the sum over them, as if each had computed it. Several processes go
    without: sharded networks need as many passes in each.
    """
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    n_shared = 0 if several else n_shared_tokens(batch)
    cache = None
    if n_shared:
        cache = DynamicCache()
        network(input_ids=batch.tokens[:1, :n_shared], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(batch.tokens))
    output = network(
        input_ids=batch.tokens[:, n_shared:],
        attention_mask=batch.attention_mask,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=batch.learned[:, n_shared:],
    )
    return output.logits


def n_shared_tokens(batch: Batch) -> int:
    """How many tokens all of several sequences start with, before the first position whose logits are needed."""
    if len(batch.tokens) == 1:
        return 0
    shared = (batch.tokens == batch.tokens[:1]).all(dim=0) & ~batch.learned.any(dim=0)
    return int(shared.long().cumprod(dim=0).sum())


def _tokens(tokenizer: Any, messages: list[dict[str, Any]], tools: Any, *, add_generation_prompt: bool) -> list[int]:
    text = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]
