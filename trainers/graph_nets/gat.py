"""GAT: neighbours and the node itself are weighed by attention, in four heads side by side.

Veličković, Cucurull, Casanova, Romero, Liò, Bengio. Graph Attention Networks. 2017. arXiv:1710.10903, equations 3 and
5; by PyTorch Geometric's GATConv, in which edges take part in the attention. Each node listens to itself over an edge
of zeros, beside self-loops that the graph has. Departure: no dropout of the attention.
"""

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from datagen.contracts.errors import ParamsError
from trainers.graph_nets import GraphBatch

N_HEADS = 4


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = GATConv(width, width // N_HEADS, heads=N_HEADS, edge_dim=width, add_self_loops=False)

    def forward(self, nodes: Tensor, batch: GraphBatch, edges: Tensor) -> Tensor:
        selves = torch.arange(len(nodes), device=nodes.device).expand(2, -1)
        return self.conv(
            nodes, torch.cat([batch.edges, selves], dim=1), torch.cat([edges, torch.zeros_like(nodes)], dim=0)
        )


def gat(width: int) -> nn.Module:
    """See `trainers.graph_nets.GraphLayer`."""
    if width % N_HEADS:
        raise ParamsError(f"hidden: gat has {N_HEADS} heads; give a multiple of {N_HEADS} (got {width})")
    return _Layer(width)
