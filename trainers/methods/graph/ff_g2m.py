"""FF-G2M: an MLP learns what a graph network says of a node's neighbours, and how it tells neighbours apart.

Wu, Lin, Huang, Fan, Li. Extracting Low-/High-Frequency Knowledge from Graph Neural Networks and Injecting it into
MLPs: An Effective GNN-to-MLP Distillation Framework. AAAI 2023. arXiv:2305.10758:
label_weight * cross-entropy + (1 - label_weight) * (low + high). As in its code

- low is KL(teacher at j || student at i) over i and j joined or the same, at temperature 1;
- high is KL of softmax(|z_i - z_j| / temperature), of the logits as they are, over joined nodes alone;
- each of the two is a mean over its pairs, not over nodes, so nodes with many neighbours weigh more.

Without edges, low is GLNN's term, and high is 0 by definition, where the code divides by 0. `parts` takes one term
alone, as its ablation does.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.params import Params
from trainers.methods.graph import NodeLoss, Task

if TYPE_CHECKING:
    from torch import Tensor


class Config(Params):
    """Defaults are those of Cora with a GCN as its teacher, in the authors' param/best_parameters.json.

    `label_weight` is lambda, `temperature` tau, of the high frequencies.
    """

    method: Literal["ff_g2m"] = "ff_g2m"
    label_weight: float = Field(0.4, ge=0, le=1)
    temperature: float = Field(1.5, gt=0)
    parts: Literal["both", "low", "high"] = "both"


def ff_g2m(config: Config, task: Task) -> NodeLoss:
    """See `trainers.methods.graph.NodeMethod`."""
    from trainers.methods.graph._terms import high_frequency, labels_term, low_frequency, weighted

    low = low_frequency(task.edges, task.teacher_logits)
    high = high_frequency(task.edges, task.teacher_logits, config.temperature)
    terms = {"both": [low, high], "low": [low], "high": [high]}[config.parts]

    def loss(student_logits: "Tensor") -> "Tensor":
        labels = labels_term(student_logits, task.labels, task.train)
        first, *others = [term(student_logits) for term in terms]
        return weighted(config.label_weight, labels, sum(others, start=first))

    return loss
