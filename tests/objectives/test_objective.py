"""What the settings make of the losses, worked by hand."""

import math

import pytest
import torch

from replication.config import ObjectiveConfig
from replication.objectives.objective import token_loss

MASK = torch.tensor([[True, True, True], [True, True, False]])
OLD = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -1.0, -9.0]])
LOG_RATIO = torch.tensor([[math.log(1.5), math.log(0.5), 0.0], [math.log(1.25), math.log(0.8), 3.0]])
ADVANTAGE = torch.tensor([[2.0, 2.0, -1.0], [-4.0, -4.0, 7.0]])


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_the_default_is_the_clipped_loss_of_each_tokens_ratio():
    out = token_loss(ObjectiveConfig(clip_low=0.1, clip_high=0.3), OLD + LOG_RATIO, OLD, ADVANTAGE, MASK)
    close(out.loss[MASK], [-2.6, -1.0, 1.0, 5.0, 3.6])
    close(out.ratio[MASK], [1.5, 0.5, 1.0, 1.25, 0.8])
    assert out.clipped[MASK].tolist() == [True, False, False, False, True]
    assert out.kl is None


def test_the_sequence_level_clips_whole_completions_by_their_geometric_mean():
    old = torch.zeros(5, 2, dtype=torch.float64) - 2
    mean = torch.tensor([[3.5e-4], [4.5e-4], [4.5e-4], [-2.5e-4], [-3.5e-4]], dtype=torch.float64)
    logp = old + mean + torch.tensor([[0.3, -0.3]], dtype=torch.float64)
    advantage = torch.tensor([[1.0], [1.0], [-1.0], [-1.0], [-1.0]], dtype=torch.float64).expand(5, 2)
    settings = ObjectiveConfig(level="sequence", clip_low=3e-4, clip_high=4e-4)
    out = token_loss(settings, logp, old, advantage, torch.ones(5, 2, dtype=torch.bool))
    assert out.clipped.tolist() == [[clipped] * 2 for clipped in (False, True, False, False, True)]
    expected = [-math.exp(3.5e-4), -1.0004, math.exp(4.5e-4), math.exp(-2.5e-4), 0.9997]
    torch.testing.assert_close(out.loss, torch.tensor(expected).double()[:, None].expand(5, 2), rtol=0, atol=1e-7)
    torch.testing.assert_close(out.ratio, mean.exp().expand(5, 2))


def test_the_sequence_levels_gradient_flows_through_every_token():
    logp = (OLD + LOG_RATIO).requires_grad_()
    advantage = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 7.0]])
    settings = ObjectiveConfig(level="sequence", clip_low=0.5, clip_high=0.5)
    token_loss(settings, logp, OLD, advantage, MASK).loss[MASK].sum().backward()
    close(logp.grad, [[-(0.75 ** (1 / 3))] * 3, [0.0] * 3])  # the ratio of row 0 is the cube root of 1.5 x 0.5


def test_the_sigmoid_surrogate_takes_its_own_temperatures_and_clips_nothing():
    settings = ObjectiveConfig(surrogate="sigmoid", tau_positive=0.8, tau_negative=2.0)
    out = token_loss(settings, OLD + LOG_RATIO, OLD, ADVANTAGE, MASK)
    # sigmoid(0.4) = 0.5986877, sigmoid(-0.4) = 0.4013123, sigmoid(0.5) = 0.6224593
    close(out.loss[MASK], [-5.986877, -4.013123, 1.0, 4.979675, 3.210499])
    assert not out.clipped.any()


def test_the_kl_term_is_added_by_its_weight():
    plain = ObjectiveConfig(clip_low=0.1, clip_high=0.3)
    reference = OLD + LOG_RATIO + torch.tensor([[1.0, -1.0, 0.0], [math.log(3), 0.0, 50.0]])
    out = token_loss(
        ObjectiveConfig(clip_low=0.1, clip_high=0.3, kl=0.5), OLD + LOG_RATIO, OLD, ADVANTAGE, MASK, reference
    )
    k3 = [math.e - 2, math.exp(-1), 0.0, 2 - math.log(3), 0.0]
    close(out.kl[MASK], k3)
    without = token_loss(plain, OLD + LOG_RATIO, OLD, ADVANTAGE, MASK).loss
    close((out.loss - without)[MASK], [0.5 * k for k in k3])


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("surrogate", ["clip", "sigmoid"])
@pytest.mark.parametrize("sign", [1, -1])
def test_padding_is_finite_and_has_no_gradient(level, surrogate, sign):
    mask = torch.tensor([[True, False, False], [False, False, False]])
    logp = torch.tensor([[-1.0, 0.0, -300.0], [0.0, -300.0, 0.0]], requires_grad=True)
    old = torch.tensor([[-1.5, -300.0, 0.0], [-300.0, 0.0, -300.0]])
    settings = ObjectiveConfig(level=level, surrogate=surrogate, kl=0.1)
    out = token_loss(settings, logp, old, sign * torch.ones(2, 3), mask, reference_logp=-logp.detach() - 200)
    assert all(x.isfinite().all() for x in (out.loss, out.ratio, out.kl))
    (out.loss * mask).sum().backward()
    assert logp.grad.isfinite().all() and logp.grad[0, 0] != 0 and not logp.grad[~mask].any()
