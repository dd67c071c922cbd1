import math

import pytest
import torch
from pytest import approx

from trainers.objectives.supervised import supervised


def logits_of(*probabilities: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_two_token_vocabulary_closed_form():
    """-ln 0.9 - ln 0.2 nats over two tokens."""
    loss, n = supervised(logits_of((0.9, 0.1), (0.8, 0.2)), torch.tensor([[0, 1]]), torch.ones(1, 2).bool())
    assert loss.item() == approx(-math.log(0.9) - math.log(0.2), rel=1e-12)
    assert n.item() == 2


def test_uniform_logits_cost_ln_v_a_token():
    """Any constant logits over V tokens cost ln V."""
    loss, n = supervised(torch.full((3, 5, 7), 42.0), torch.zeros(3, 5).long(), torch.ones(3, 5).bool())
    assert loss.item() / n.item() == approx(math.log(7), rel=1e-6)


def test_the_gradient_is_probability_minus_one_hot():
    """d/dz (-log softmax(z)_y) = softmax(z) - onehot(y)."""
    logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 5, 2, 2])
    supervised(logits, labels, torch.ones(4).bool()).sum.backward()
    expected = logits.detach().softmax(-1) - torch.eye(6, dtype=torch.float64)[labels]
    torch.testing.assert_close(logits.grad, expected)


def test_gradcheck_in_float64():
    """Finite differences."""
    logits = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels, mask = torch.tensor([[0, 1, 2], [3, 0, 1]]), torch.tensor([[True, False, True], [True, True, False]])
    assert torch.autograd.gradcheck(lambda z: supervised(z, labels, mask).sum, (logits,))


def test_what_stands_outside_the_mask_does_not_matter():
    """The closed form of the one token under the mask, whatever the others are, NaN and -100 included."""
    logits = torch.cat([logits_of((0.25, 0.75)), torch.full((1, 1, 2), math.nan, dtype=torch.float64)], dim=1)
    loss, n = supervised(logits, torch.tensor([[1, -100]]), torch.tensor([[True, False]]))
    assert loss.item() == approx(-math.log(0.75), rel=1e-12)
    assert n.item() == 1


def test_a_constant_added_to_the_logits_changes_nothing():
    """Softmax is invariant to it: still -ln 0.9."""
    loss, _ = supervised(logits_of((0.9, 0.1)) + 1000, torch.tensor([[0]]), torch.ones(1, 1).bool())
    assert loss.item() == approx(-math.log(0.9), rel=1e-9)


def test_half_precision_is_summed_in_float32():
    """1,000 tokens at ln 2 nats; a bfloat16 sum would stall at 256 ln 2."""
    loss, n = supervised(torch.zeros(1000, 2, dtype=torch.bfloat16), torch.zeros(1000).long(), torch.ones(1000).bool())
    assert loss.item() == approx(1000 * math.log(2), rel=1e-5)
    assert n.item() == 1000


def test_an_empty_mask_gives_zero_and_zero():
    """A sum over nothing; its gradient is zero too."""
    logits = torch.randn(2, 3, requires_grad=True)
    loss, n = supervised(logits, torch.zeros(2).long(), torch.zeros(2).bool())
    loss.backward()
    assert (loss.item(), n.item()) == (0, 0)
    assert logits.grad is not None and not logits.grad.any()


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"logits \(2, 3\), tokens \(3,\)"):
        supervised(torch.zeros(2, 3), torch.zeros(3).long(), torch.ones(3).bool())
