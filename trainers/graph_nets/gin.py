"""GIN: what the neighbours say is added up, the node itself added to it, and a small network reads the sum.

Xu, Hu, Leskovec, Jegelka. How Powerful are Graph Neural Networks? 2018. arXiv:1810.00826, equation 4.1, with a learned
epsilon. A neighbour says ReLU(node + edge), as in Hu et al. Strategies for Pre-training Graph Neural Networks. 2019.
arXiv:1905.12265; by PyTorch Geometric's GINEConv. The small network has one hidden layer, twice as wide, and no
normalisation of its own.
"""

from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from trainers.graph_nets import GraphBatch


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        reads = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.conv = GINEConv(reads, train_eps=True)

    def forward(self, nodes: Tensor, batch: GraphBatch, edges: Tensor) -> Tensor:
        return self.conv(nodes, batch.edges, edges)


def gin(width: int) -> nn.Module:
    """See `trainers.graph_nets.GraphLayer`."""
    return _Layer(width)
