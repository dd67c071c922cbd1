import math

import pytest
import torch
from pytest import approx
from torch.nn import BCEWithLogitsLoss

from trainers.objectives.binary_cross_entropy import binary_cross_entropy


def logit(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).logit()


def test_two_classes_closed_form():
    """-ln 0.9 for the one that holds, -ln(1 - 0.2) for the other."""
    loss, n = binary_cross_entropy(logit(0.9, 0.2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool())
    assert loss.item() == approx(-math.log(0.9) - math.log(0.8), rel=1e-12)
    assert n.item() == 2


def test_a_soft_label_costs_its_entropy_at_the_least():
    """At p = y = 0.3 the loss is H(0.3), and its gradient is zero."""
    logits = logit(0.3).requires_grad_()
    loss, _ = binary_cross_entropy(logits, torch.tensor([[0.3]], dtype=torch.float64), torch.ones(1, 1).bool())
    loss.backward()
    assert loss.item() == approx(-0.3 * math.log(0.3) - 0.7 * math.log(0.7), rel=1e-12)
    assert logits.grad is not None and logits.grad.item() == approx(0, abs=1e-12)


def test_a_positive_weight_multiplies_what_holds():
    """5 ln 2 where the class holds at p = 1/2, ln 2 where it does not."""
    loss, n = binary_cross_entropy(
        torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]), torch.ones(2, 1).bool(), positive_weight=torch.tensor([5.0])
    )
    assert loss.item() == approx(6 * math.log(2), rel=1e-6)
    assert n.item() == 2


def test_an_unsplit_batch_is_torchs_own_loss():
    """BCEWithLogitsLoss, with weights and soft labels: its mean is our sum over our number."""
    generator = torch.Generator().manual_seed(0)
    logits, signal = (torch.randn(7, 5, generator=generator), torch.rand(7, 5, generator=generator))
    weight = torch.rand(5, generator=generator) * 9 + 1
    loss, n = binary_cross_entropy(logits, signal, torch.ones(7, 5).bool(), positive_weight=weight)
    assert loss.item() / n.item() == approx(BCEWithLogitsLoss(pos_weight=weight)(logits, signal).item(), rel=1e-6)


def test_the_gradient_is_probability_minus_label():
    """d/dz = sigmoid(z) - y."""
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    signal = torch.tensor([[0, 1, 0.5]] * 4, dtype=torch.float64)
    binary_cross_entropy(logits, signal, torch.ones(4, 3).bool()).sum.backward()
    torch.testing.assert_close(logits.grad, logits.detach().sigmoid() - signal)


def test_gradcheck_in_float64():
    """Finite differences, with a mask and weights."""
    logits = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    signal = torch.tensor([[0, 1, 0.2], [1, 0.7, 0]], dtype=torch.float64)
    mask, weight = torch.tensor([[True, False, True], [True, True, False]]), torch.tensor([2.0, 3.0, 1.0]).double()
    assert torch.autograd.gradcheck(
        lambda z: binary_cross_entropy(z, signal, mask, positive_weight=weight).sum, (logits,)
    )


def test_what_stands_outside_the_mask_does_not_matter():
    """The closed form of the one entry under the mask, whatever the others are, NaN included."""
    logits = torch.cat([logit(0.25), torch.full((1, 1), math.nan, dtype=torch.float64)], dim=1)
    loss, n = binary_cross_entropy(logits, torch.tensor([[1.0, math.nan]]), torch.tensor([[True, False]]))
    assert loss.item() == approx(-math.log(0.25), rel=1e-12)
    assert n.item() == 1


def test_half_precision_is_summed_in_float32():
    """1,000 entries at ln 2 nats; a bfloat16 sum would stall at 256 ln 2."""
    ones = torch.ones(1000, 1)
    loss, n = binary_cross_entropy(torch.zeros(1000, 1, dtype=torch.bfloat16), ones, ones.bool())
    assert loss.item() == approx(1000 * math.log(2), rel=1e-5)
    assert n.item() == 1000


def test_an_empty_mask_gives_zero_and_zero():
    """A sum over nothing; its gradient is zero too."""
    logits = torch.randn(2, 3, requires_grad=True)
    loss, n = binary_cross_entropy(logits, torch.zeros(2, 3), torch.zeros(2, 3).bool())
    loss.backward()
    assert (loss.item(), n.item()) == (0, 0)
    assert logits.grad is not None and not logits.grad.any()


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"logits \(2, 3\), signal \(2,\)"):
        binary_cross_entropy(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match=r"positive_weight \(2,\): needs \(3,\)"):
        binary_cross_entropy(
            torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3).bool(), positive_weight=torch.ones(2)
        )
