"""Hand-worked losses."""

import math

import torch

from replication.objectives.losses import clipped_loss, importance_ratio, is_clipped, kl_k3
from replication.objectives.normalise import row_mean_weights


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_ratio_is_new_over_old():
    close(importance_ratio(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])), [math.exp(0.5), math.exp(-1.0)])


RATIO = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 0.9])
ADVANTAGE = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0, -3.0])


def test_clip_binds_only_where_it_makes_the_objective_smaller():
    close(clipped_loss(RATIO, ADVANTAGE, 0.2, 0.3), [-2.6, 3.0, -1.0, 1.6, -3.3, 2.7])
    assert is_clipped(RATIO, ADVANTAGE, 0.2, 0.3).tolist() == [True, False, False, True, False, False]


def test_clipped_tokens_have_no_gradient():
    logp = RATIO.log().requires_grad_()
    clipped_loss(importance_ratio(logp, torch.zeros(6)), ADVANTAGE, 0.2, 0.3).sum().backward()
    assert (logp.grad == 0).tolist() == is_clipped(RATIO, ADVANTAGE, 0.2, 0.3).tolist()


def test_k3_is_zero_at_equality_and_otherwise_positive():
    close(kl_k3(torch.tensor([-1.0, -1.0, -2.0]), torch.tensor([-1.0, -2.0, -1.0])), [0.0, math.exp(-1), math.e - 2])


def test_weights_are_a_mean_over_rows_of_means_over_tokens():
    mask = torch.tensor([[True, True, True, True], [True, False, False, False], [False] * 4])
    close(row_mean_weights(mask, 5), [[0.05] * 4, [0.2, 0.0, 0.0, 0.0], [0.0] * 4])
