"""Decoding: the completions of a batch of prompts, each row drawn by randomness of its own.

A token is drawn by inverting the cumulative distribution at one uniform number from the row's own generator, so what a
row draws doesn't depend on the rows beside it. Temperature 0 takes the likeliest. Nucleus: Holtzman et al. 2019
(arXiv:1904.09751, section 3.1), with every token that is as likely as its last one.

What is shared is computed once: the start that all prompts have in common (a template's system prompt), and equal
prompts. Rows that are finished leave the batch.

Axes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from datagen.backends.base import Sampling
from datagen.backends.guided import Guide

PREFILL_TOKENS = 4096  # in one forward pass: enough to fill the machine, and activations stay small
NUCLEUS_TOKENS = 256  # looked at first; a nucleus is rarely larger

IsStopped = Callable[[int, Sequence[int]], bool]
"""(row, its tokens so far) to whether a stop string has come."""


@torch.inference_mode()
def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    end_tokens: Collection[int],
    is_stopped: IsStopped,
    guides: Sequence[Guide | None] | None = None,
) -> list[list[int]]:
    """The new tokens of every row, up to and with an end token, what completes a stop string, or `max_new_tokens`.

    A row with a guide takes only what that allows, and ends where nothing may follow.

    Args:
        model: a transformers model with a language-model head.
        prompts: token ids, at least one each.
        samplings: one a row; the seeds are the rows' own.
        end_tokens: ids that end a row.
        is_stopped: says which rows end otherwise.
        guides: one a row, None where its answer is free; they follow it.
    """
    guides = guides or [None] * len(prompts)
    distinct = {tuple(prompt): i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    cache, attention, logits = _prefill(model, list(distinct))
    rows = list(range(len(prompts)))
    places = torch.tensor([distinct[tuple(prompt)] for prompt in prompts], device=logits.device)
    cache.batch_select_indices(places)
    attention, logits = attention[places], logits[places]
    generators = [torch.Generator().manual_seed(sampling.seed) for sampling in samplings]
    tokens: list[list[int]] = [[] for _ in prompts]
    while True:
        logits = without_forbidden(logits, [guides[row] for row in rows])
        chosen = choose_tokens(logits, [samplings[row] for row in rows], [generators[row] for row in rows])
        unfinished: list[int] = []
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            tokens[row].append(token)
            guide = guides[row]
            ended = (guide is not None and guide.take(token)) or token in end_tokens
            ended = ended or len(tokens[row]) == samplings[row].max_new_tokens
            if not ended and not is_stopped(row, tokens[row]):
                unfinished.append(place)
        if not unfinished:
            return tokens
        if len(unfinished) < len(rows):
            places = torch.tensor(unfinished, device=logits.device)
            cache.batch_select_indices(places)
            attention, chosen = attention[places], chosen[places]
            rows = [rows[place] for place in unfinished]
        attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
        logits = model(
            input_ids=chosen[:, None],
            attention_mask=attention,
            position_ids=attention.sum(dim=1, keepdim=True) - 1,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]


def without_forbidden(logits: Tensor, guides: Sequence[Guide | None]) -> Tensor:
    """(B, V) logits, minus infinity at what a row's guide forbids; rows without a guide stay as they are.

    Ids above the tokenizer's, which pad the network's vocabulary, are forbidden.
    """
    masks = {row: guide.allowed() for row, guide in enumerate(guides) if guide}
    if not masks:
        return logits
    packed = torch.stack([torch.frombuffer(mask, dtype=torch.uint8) for mask in masks.values()]).to(logits.device)
    powers = 1 << torch.arange(8, dtype=torch.uint8, device=logits.device)
    unset = (packed[:, :, None] & powers).flatten(1)[:, : logits.shape[-1]] == 0
    forbidden = torch.nn.functional.pad(unset, (0, logits.shape[-1] - unset.shape[1]), value=True)
    if len(masks) == len(logits):
        return logits.masked_fill(forbidden, -torch.inf)
    rows = torch.tensor(list(masks), device=logits.device)
    return logits.index_copy(0, rows, logits[rows].masked_fill(forbidden, -torch.inf))


def choose_tokens(logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> Tensor:
    """One token a row.

    Args:
        logits: (B, V), any float type.
        samplings: temperature and top_p of each row.
        generators: on the CPU; a row with temperature 0 draws nothing from its own.

    Returns:
        (B,) ids, int64.
    """
    greedy = logits.argmax(dim=-1)
    if all(sampling.temperature == 0 for sampling in samplings):
        return greedy
    options = [(s.temperature or 1.0, s.top_p) for s in samplings]
    temperature, top_p = torch.tensor(options, device=logits.device).T[:, :, None]
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    if any(sampling.top_p < 1 for sampling in samplings):
        probabilities = nucleus(probabilities, top_p)
    uniform = torch.tensor(
        [
            torch.rand((), generator=generator, dtype=torch.float64).item() if sampling.temperature else 0.0
            for sampling, generator in zip(samplings, generators, strict=True)
        ],
        dtype=torch.float64,
        device=logits.device,
    )
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    is_greedy = torch.tensor([sampling.temperature == 0 for sampling in samplings], device=logits.device)
    return torch.where(is_greedy, greedy, drawn.clamp(max=logits.shape[-1] - 1))


def nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Probabilities with 0 outside the nucleus: the likeliest tokens whose mass reaches top_p.

    Args:
        probabilities: (B, V).
        top_p: (B, 1).

    Returns:
        (B, V), not normalised.
    """
    n_tokens = min(NUCLEUS_TOKENS, probabilities.shape[-1])
    likeliest = probabilities.topk(n_tokens).values
    if (likeliest.sum(dim=-1, keepdim=True) < top_p).any():
        likeliest = probabilities.sort(descending=True).values
    before = likeliest.cumsum(dim=-1) - likeliest
    last = likeliest.masked_fill(before >= top_p, 1.0).amin(dim=-1, keepdim=True)
    return probabilities.masked_fill(probabilities < last, 0.0)


def _prefill(model: Any, prompts: Sequence[tuple[int, ...]]) -> tuple[DynamicCache, Tensor, Tensor]:
    """The cache, the attention mask (B, T) and the next token's logits (B, V) of left-padded prompts."""
    n_tokens = max(len(prompt) for prompt in prompts)
    n_shared = _shared_start(prompts) if len(prompts) > 1 else 0
    ids = torch.zeros(len(prompts), n_tokens, dtype=torch.int64)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # the shared start, padding, the rest
        ids[row, :n_shared] = torch.tensor(prompt[:n_shared])
        attention[row, :n_shared] = 1
        ids[row, n_tokens - len(prompt) + n_shared :] = torch.tensor(prompt[n_shared:])
        attention[row, n_tokens - len(prompt) + n_shared :] = 1
    ids, attention = ids.to(model.device), attention.to(model.device)
    positions = (attention.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    if n_shared:
        model(input_ids=ids[:1, :n_shared], past_key_values=cache, logits_to_keep=1)
        cache.batch_select_indices(torch.zeros(len(prompts), dtype=torch.int64, device=model.device))
    step = max(1, PREFILL_TOKENS // len(prompts))

    def forward(start: int) -> Tensor:
        return model(
            input_ids=ids[:, start : start + step],
            attention_mask=attention[:, : start + step],
            position_ids=positions[:, start : start + step],
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]

    *starts, last = range(n_shared, n_tokens, step)
    for start in starts:
        forward(start)
    return cache, attention, forward(last)


def _shared_start(prompts: Sequence[tuple[int, ...]]) -> int:
    """Number of tokens that all prompts start with, leaving each at least one of its own."""
    first, last = min(prompts), max(prompts)
    shortest = min(len(prompt) for prompt in prompts)
    for i in range(shortest - 1):
        if first[i] != last[i]:
            return i
    return shortest - 1
