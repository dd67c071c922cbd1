"""Oracle: the network on each sequence alone, all positions at once, without a cache."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from datagen.backends.scoring import completion_log_probs
from datagen.backends.transformers_models import Example
from tests.tiny_model import write_tiny_model

EXAMPLES = [Example([5, 6, 7, 8], 2), Example([9, 4], 1), Example(list(range(20, 60)), 7), Example([3] * 12, 11)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def gather(network: Any, **bounds: int) -> list[torch.Tensor]:
    pieces: list[list[torch.Tensor]] = [[] for _ in EXAMPLES]
    for row, first, log_probs in completion_log_probs(network, EXAMPLES, **bounds):
        assert first == sum(map(len, pieces[row]))
        pieces[row].append(log_probs)
    return [torch.cat(one) for one in pieces]


@pytest.mark.parametrize("bounds", [{}, {"logits_bytes": 30_000, "distributions_bytes": 7_000}, {"logits_bytes": 1}])
def test_padding_segments_and_pieces_change_nothing(network: Any, bounds: dict[str, int]):
    """One whole pass; the tolerance is float32's, of logits around 5."""
    for found, example in zip(gather(network, **bounds), EXAMPLES, strict=True):
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([example.tokens])).logits[0, example.n_prompt_tokens - 1 : -1]
        torch.testing.assert_close(found, logits.double().log_softmax(-1), rtol=0, atol=1e-4)
        assert found.exp().sum(-1).sub(1).abs().max() < 1e-12


def test_memory_is_bounded(network: Any):
    """The network's own output and what is yielded, in bytes: four sequences of 39 tokens by 259 logits are 162 kB."""
    seen: list[int] = []
    hook = network.register_forward_hook(lambda _, __, output: seen.append(output.logits.numel() * 4))
    found = completion_log_probs(network, EXAMPLES, logits_bytes=30_000, distributions_bytes=7_000)
    sizes = [log_probs.numel() * 8 for _, _, log_probs in found]
    hook.remove()
    assert len(seen) == 6 and max(seen) <= 30_000 and max(sizes) <= 7_000
