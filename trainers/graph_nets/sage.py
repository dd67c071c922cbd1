"""GraphSAGE: the mean of the neighbours beside the node itself, each through a matrix of its own.

Hamilton, Ying, Leskovec. Inductive Representation Learning on Large Graphs. 2017. arXiv:1706.02216, algorithm 1 with
the mean aggregator; by PyTorch Geometric's SAGEConv. A neighbour says node + edge, which is the paper's where edges
have no labels; every neighbour is heard, none drawn, and outputs keep their length.
"""

import torch
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from trainers.graph_nets import GraphBatch


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = SAGEConv((width, width), width)

    def forward(self, nodes: Tensor, batch: GraphBatch, edges: Tensor) -> Tensor:
        said = nodes[batch.edges[0]] + edges  # what each edge says is a source of its own to the layer
        each = torch.arange(len(said), device=nodes.device)
        return self.conv((said, nodes), torch.stack([each, batch.edges[1]]), size=(len(said), len(nodes)))


def sage(width: int) -> nn.Module:
    """See `trainers.graph_nets.GraphLayer`."""
    return _Layer(width)
