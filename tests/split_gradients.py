"""One step of the loop on ragged rows in float64, with any objective: what its gradient is, in one process or several.

Axes: V vocabulary, H width.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datagen.contracts.checkpoint import Checkpoints
from trainers.chunk_likelihoods import ChunkSignal, chunk_signal
from trainers.linear_loss import linear_loss
from trainers.loop import Config, train
from trainers.objectives import SumCount
from trainers.objectives.likelihood_matching import likelihood_matching_of_hidden
from trainers.signals import HiddenStates, Labelled
from trainers.tokenizer_bias import Span
from trainers.weighted import Combined, combined

V, H = 9, 4
LENGTHS = (3, 7, 1, 5, 2, 6, 4)
OBJECTIVES: dict[str, Any] = {
    "supervised": "supervised",
    "forward_kl": {"forward_kl": {"temperature": 2.0}},
    "reverse_kl": "reverse_kl",
    "jensen_shannon": {"jensen_shannon": {"weight_of_teacher": 0.3}},
    "total_variation": "total_variation",
    "total_variation_pp": "total_variation_pp",
    "total_variation_pp_of_batch": {"total_variation_pp": {"baseline": "batch"}},
    "negative_log_acceptance": "negative_log_acceptance",
    "taid": "taid",
    "two": {"forward_kl": 0.9, "supervised": 0.1},
}


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A row: tokens, the one after each, and a teacher's states."""

    tokens: Tensor
    labels: Tensor
    states: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


class Network(nn.Module):
    """An embedding that is the head too, and a layer between."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Parameter(torch.randn(V, H, dtype=torch.float64, generator=generator))
        self.layer = nn.Parameter(torch.randn(H, H, dtype=torch.float64, generator=generator))

    def forward(self, tokens: Tensor, loss_of: Callable[[Tensor, Tensor], SumCount]) -> SumCount:
        return loss_of((self.embedding[tokens] @ self.layer).tanh(), self.embedding)


class Loss:
    """An objective and, as the loop sees it, its state."""

    def __init__(self, objective: Combined) -> None:
        self.objective = objective
        self.head = torch.randn(V, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def __call__(self, network: nn.Module, rows: Sequence[Tokens], device: torch.device) -> SumCount:
        tokens, labels, states = (torch.cat([getattr(row, name) for row in rows]) for name in Tokens.__annotations__)
        signal = Labelled(labels, HiddenStates(states, self.head))
        return network(
            tokens, lambda hidden, weight: linear_loss(hidden, weight, signal, self.objective, chunk_tokens=4)
        )

    @property
    def needs_first_pass(self) -> bool:
        return self.objective.needs_first_pass

    def begin(self, mean_loss: Callable[[], float]) -> None:
        self.objective.begin(mean_loss)

    def update(self, loss: float, step: int, n_steps: int) -> Mapping[str, float]:
        return self.objective.update(loss, step + 1, n_steps)

    def state_dict(self) -> dict[str, Any]:
        return self.objective.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.objective.load_state_dict(state)


class Matching:
    """Likelihood matching, whose signal is of chunks."""

    def __call__(self, network: nn.Module, rows: Sequence[Tokens], device: torch.device) -> SumCount:
        signal = halves(rows)
        tokens = torch.cat([row.tokens for row in rows])
        return network(tokens, lambda hidden, weight: likelihood_matching_of_hidden(hidden, weight, signal))


def halves(rows: Sequence[Tokens]) -> ChunkSignal:
    """Each row as two chunks, a word ending between them, or as one where it has a token only."""
    texts: list[tuple[list[int], list[Span]]] = []
    log_probs: list[Tensor] = []
    for row in rows:
        n, half = len(row), (len(row) + 1) // 2
        spans = [Span(0, half, False, n > 1), *([Span(half, n, True, False)] if n > 1 else [])]
        texts.append((row.labels.tolist(), spans))
        log_probs += [-row.states[span.start : span.stop].abs().sum() for span in spans]
    return chunk_signal(texts, torch.stack(log_probs), [0, 3, 4])


def rows() -> list[Tokens]:
    generator = torch.Generator().manual_seed(2)
    return [
        Tokens(
            torch.randint(V, (n,), generator=generator),
            torch.randint(V, (n,), generator=generator),
            torch.randn(n, 3, dtype=torch.float64, generator=generator),
        )
        for n in LENGTHS
    ]


def gradients(micro_batch_tokens: int) -> dict[str, dict[str, Any]]:
    """By objective: loss, gradient norm and count of a step, and its gradient, as SGD at rate 1 takes it off."""
    config = Config.model_validate(
        {
            "optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant", "warmup_share": 0, "epochs": 1,
            "batch_size": len(LENGTHS), "max_gradient_norm": None, "n_threads": 1,
            "micro_batch_tokens": micro_batch_tokens,
        }
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for name in (*OBJECTIVES, "likelihood_matching"):
        network, loss = Network(), Loss(combined(OBJECTIVES[name])) if name in OBJECTIVES else Matching()
        with tempfile.TemporaryDirectory() as folder:
            state = loss if isinstance(loss, Loss) else None
            (record,) = train(network, rows(), loss, config, Checkpoints(Path(folder)), state=state)
        moved = torch.cat(
            [(a - b).flatten() for a, b in zip(Network().parameters(), network.parameters(), strict=True)]
        )
        found[name] = {key: record[key] for key in ("loss", "gradient_norm", "count")} | {"gradient": moved.tolist()}
    return found
