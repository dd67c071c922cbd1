"""Answers of a student to prompts, by transformers' `generate`, and the entropy of what they were drawn from.

A draw is the largest of log-probs with Gumbel noise, which is a draw from the softmax (Maddison, Tarlow, Minka. A*
Sampling. 2014. arXiv:1411.0030, section 2). The noise of a row is of its own seed, so that no other row changes it.

Axes: B rows, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from datagen.contracts.errors import DataError
from trainers.language_models import StudentModel, causal

if TYPE_CHECKING:
    from trainers.on_policy import Config


class Gumbel(LogitsProcessor):
    """Adds noise to each row's logits, so that the largest is a draw from them."""

    def __init__(self, seeds: Sequence[int]) -> None:
        """A seed a row."""
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, V) scores with noise."""
        uniform = torch.stack(
            [torch.rand(scores.shape[1], generator=one, dtype=torch.float64) for one in self._generators]
        )
        smallest = torch.finfo(uniform.dtype).tiny
        noise = -(-uniform.clamp(min=smallest).log()).clamp(min=smallest).log()
        return (scores.cpu().double() + noise).to(scores)


class Entropies(LogitsProcessor):
    """Notes the entropy in nats of each row's distribution before it is changed."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are."""
        self.steps.append(torch.distributions.Categorical(logits=scores.float()).entropy().cpu())
        return scores


@torch.no_grad()
def sample(
    network: nn.Module,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    config: "Config",
    ends: frozenset[int],
    context: int,
) -> list[tuple[list[int], float]]:
    """An answer to each prompt, its end included where it ended, and the sum of its tokens' entropies in nats.

    Args:
        network: a `StudentModel` or a model of transformers, in eval mode.
        prompts: tokens, at least one each.
        seeds: of each prompt's draws.
        config: of the rollouts.
        ends: tokens that end an answer.
        context: positions that student and teacher have.

    Raises:
        DataError: a prompt leaves no position to answer in.
    """
    model: Any = causal(network.model if isinstance(network, StudentModel) else network)
    found: dict[int, tuple[list[int], float]] = {}
    for places in _batches([len(tokens) for tokens in prompts], config, context):
        part = [prompts[place] for place in places]
        width = max(map(len, part))
        ids = torch.zeros(len(part), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(part):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        entropies = Entropies()
        processors = LogitsProcessorList([entropies, TemperatureLogitsWarper(config.rollout_temperature)])
        if config.rollout_top_p < 1:
            processors.append(TopPLogitsWarper(config.rollout_top_p))
        processors.append(Gumbel([seeds[place] for place in places]))
        written: Tensor = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            logits_processor=processors,
            max_new_tokens=min(config.rollout_tokens, context - width),
            do_sample=False, num_beams=1, repetition_penalty=1.0, no_repeat_ngram_size=0, suppress_tokens=None,
            forced_eos_token_id=None, eos_token_id=sorted(ends) or None, pad_token_id=0, use_cache=True,
        )  # fmt: skip
        for row, (place, tokens) in enumerate(zip(places, written[:, width:].tolist(), strict=True)):
            end = next((at for at, token in enumerate(tokens) if token in ends), len(tokens) - 1)
            spent = torch.stack([step[row] for step in entropies.steps[: end + 1]])
            found[place] = tokens[: end + 1], float(spent.double().sum())
    return [found[place] for place in range(len(prompts))]


def _batches(lengths: Sequence[int], config: "Config", context: int) -> list[list[int]]:
    """Places of prompts that are answered at once: one without room for the longest answer alone, or it cuts others'.

    Raises:
        DataError: a prompt leaves no position to answer in.
    """
    if (longest := max(lengths)) >= context:
        raise DataError(f"a prompt of {longest} tokens leaves no room for an answer in a context of {context}")
    roomy = [place for place, length in enumerate(lengths) if length + config.rollout_tokens <= context]
    parts = [roomy[start : start + config.rollout_batch] for start in range(0, len(roomy), config.rollout_batch)]
    return parts + [[place] for place in range(len(lengths)) if lengths[place] + config.rollout_tokens > context]
