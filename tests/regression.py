"""Regression on a line, in float64: rows of several points, a loss, a network and the loop's Config for them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from trainers.loop import Config
from trainers.objectives import SumCount


@dataclasses.dataclass(frozen=True)
class Points:
    """Regression targets; as many tokens as points, so that rows weigh differently."""

    x: list[float]
    y: list[float]

    def __len__(self) -> int:
        return len(self.x)


ROWS = [Points([0.1 * (i + j) for j in range(1 + i % 4)], [0.3 * i - j for j in range(1 + i % 4)]) for i in range(10)]


def squares(network: torch.nn.Module, rows: Sequence[Points], device: torch.device) -> SumCount:
    x = torch.tensor([v for row in rows for v in row.x], dtype=torch.float64, device=device)[:, None]
    y = torch.tensor([v for row in rows for v in row.y], dtype=torch.float64, device=device)[:, None]
    return SumCount((network(x) - y).square().sum(), torch.tensor(len(x)))


def line(a: float = 0.0, b: float = 0.0) -> Any:
    network = torch.nn.Linear(1, 1, dtype=torch.float64)
    torch.nn.init.constant_(network.weight, a)
    torch.nn.init.constant_(network.bias, b)
    return network


def config(**more: Any) -> Config:
    return Config(**{"n_threads": 1, "batch_size": 10, "epochs": 1, "max_gradient_norm": 1e9, **more})
