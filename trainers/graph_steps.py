"""How students of graphs are trained, whoever compares them: network, steps, loss of a batch, what they get right.

Defaults are those of Mirage (Gupta et al. 2023, arXiv:2310.09486) for ogbg-molbace, as its repository states them:
hidden 128, 3 layers, dropout 0.6, batches of 32, Adam at 1e-3 with weight decay 1e-2 in the gradient, a constant rate,
roots summed. Departures: no batch normalisation, as means and variances of a few trees are not those of the graphs that
are met later (`norm=batch` has it, over roots); the last step is judged, and nothing is chosen by it.

Axes: G graphs, K classes.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.errors import MissingError
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed
from trainers.steps import Position, RowSteps

if TYPE_CHECKING:  # a stage reads Steps without torch
    import torch

    from trainers.graph_batches import GraphTensors
    from trainers.graph_nets import GraphBatch
    from trainers.graph_nets.opening import Columns, GraphNetwork
    from trainers.objectives import SumCount

_BATCH = 256  # graphs that are judged at once
Norm = Literal["batch", "layer", "none"]
Pool = Literal["mean", "sum"]
Weighting = Literal["weight", "sample", "none"]
Measure = Literal["auc", "accuracy"]


class Network(Params):
    """What students of graphs look like, whatever their layer.

    Attributes:
        hidden: units of a node after every layer; a multiple of 4 for gat.
        layers: how far a node sees; a condensed set's trees must be as deep, or nodes see less than later.
        dropout: after each layer.
        norm: after each layer: batch over roots, layer over a node's units, or none.
        pool: of a graph's roots.
    """

    hidden: int = Field(128, ge=1)
    layers: int = Field(3, ge=1)
    dropout: float = Field(0.6, ge=0, lt=1)
    norm: Norm = "none"
    pool: Pool = "sum"


class Steps(RowSteps):
    """How students of graphs are trained: by adam as in the papers.

    Attributes:
        weighting: of condensed graphs: `weight` multiplies the loss of each by its weight, scaled to a mean of 1;
            `sample` draws, for each student once, as many graphs as there are, with replacement, by their weights, as
            Mirage's code does; `none` takes each once, and so do the others where all weights are equal, as those of
            real graphs are.
        batch_size: graphs a step; all of them where there are fewer.
        optimizer: see `trainers.steps.RowSteps`.
        momentum: of sgd.
        weight_decay: of any.
    """

    weighting: Weighting = "weight"
    batch_size: int = Field(32, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(1e-2, ge=0)


def check_geometric() -> None:
    """Fail before any work where graph networks cannot be made.

    Raises:
        MissingError: torch_geometric is not installed.
    """
    if find_spec("torch_geometric") is None:
        raise MissingError("graph networks need torch_geometric: `pip install 'datastill[graph]'`")


def fresh_net(name: str, columns: "Columns", n_classes: int, network: Network, seed: int) -> "GraphNetwork":
    """A student of `seed` before it learns: the same initial weights for every set."""
    from trainers.graph_nets.opening import open_graph_net

    return open_graph_net(name, columns, n_classes, network, seed=derive_seed(seed, "student"))


def rows_of(graphs: "GraphTensors", weighting: Weighting, seed: int) -> list[Position]:
    """What the loop takes its batches of: each graph once, or draws by weight."""
    import numpy as np

    weights = graphs.weights.double().cpu().numpy()
    if weighting != "sample" or (weights == weights[0]).all():
        return [Position(at) for at in range(len(graphs))]
    generator = np.random.default_rng(derive_seed(seed, "sample"))
    return [Position(int(at)) for at in generator.choice(len(weights), len(weights), p=weights / weights.sum())]


def loss_of(
    graphs: "GraphTensors", weighting: Weighting
) -> "Callable[[torch.nn.Module, Sequence[Position], torch.device], SumCount]":
    """Cross-entropy of some graphs, for the loop; with `weighting` weight that of each by its weight over their mean.

    The count is that of the graphs, not of their weights, so that over the batches of an epoch each graph weighs what
    its weight says, whatever it came with.
    """
    import torch
    from torch.nn import functional

    from trainers.objectives import SumCount

    weights = graphs.weights / graphs.weights.mean() if weighting == "weight" else torch.ones_like(graphs.weights)

    def loss(network: torch.nn.Module, rows: Sequence[Position], device: torch.device) -> "SumCount":
        at = torch.tensor([row.at for row in rows], device=graphs.weights.device)
        batch = graphs.batch(at)
        each = functional.cross_entropy(network(batch).float(), batch.labels, reduction="none")
        return SumCount((each * weights[at]).sum(), torch.tensor(len(rows), device=device))

    return loss


def logits_of(net: "torch.nn.Module", graphs: "GraphTensors") -> "torch.Tensor":
    """(G, K)."""
    import torch

    net.eval()
    everything = torch.arange(len(graphs), device=graphs.weights.device)
    with torch.no_grad():
        return torch.cat([net(graphs.batch(at)) for at in everything.split(_BATCH)])


def drawn(graphs: "GraphTensors", rows: "Sequence[Position]") -> "GraphBatch":
    """All that a student with these rows learns from."""
    import torch

    return graphs.batch(torch.tensor([row.at for row in rows], device=graphs.weights.device))


def measures_of(net: "torch.nn.Module", graphs: "GraphTensors") -> dict[Measure, float] | None:
    """Accuracy and, of two classes that are both there, the area under the ROC curve; None where the student diverged.

    They are the share of graphs whose greatest logit is their label's, and the area by the difference of the logits.
    """
    from sklearn.metrics import roc_auc_score

    logits = logits_of(net, graphs).double().cpu()
    if not logits.isfinite().all():
        return None
    truth = graphs.labels.cpu()
    found: dict[Measure, float] = {"accuracy": int((logits.argmax(dim=1) == truth).sum()) / len(truth)}
    if logits.shape[1] == 2 and len(truth.unique()) == 2:
        found["auc"] = float(roc_auc_score(truth.numpy(), (logits[:, 1] - logits[:, 0]).numpy()))
    return found
