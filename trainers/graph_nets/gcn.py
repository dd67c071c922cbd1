"""GCN: neighbours and the node itself, each divided by the roots of both degrees, added up, through one matrix.

Kipf, Welling. Semi-Supervised Classification with Graph Convolutional Networks. 2016. arXiv:1609.02907, equation 2.
Degrees are the batch's, each one more for the node itself: those of the graph that a node comes from, which a
computation tree does not hold by itself, as its leaves have lost their neighbours. A neighbour says node + edge, which
is the paper's where edges have no labels; the node's edge to itself is of zeros, beside self-loops that the graph has.
PyTorch Geometric's GCNConv takes no labels of edges, so that its aggregation alone is used.
"""

from torch import Tensor, nn
from torch_geometric.utils import scatter

from trainers.graph_nets import GraphBatch


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, nodes: Tensor, batch: GraphBatch, edges: Tensor) -> Tensor:
        source, target = batch.edges
        scale = (batch.degrees + 1).to(nodes.dtype).rsqrt()
        said = (nodes[source] + edges) * (scale[source] * scale[target]).unsqueeze(1)
        heard = scatter(said, target, dim=0, dim_size=len(nodes), reduce="sum")
        return self.linear(heard + nodes * scale.square().unsqueeze(1))


def gcn(width: int) -> nn.Module:
    """See `trainers.graph_nets.GraphLayer`."""
    return _Layer(width)
