"""Hand-worked losses."""

import math

import pytest
import torch

from replication.objectives.losses import (
    clipped_loss,
    importance_ratio,
    is_clipped,
    kl_k3,
    sequence_ratio,
    sigmoid_loss,
)
from replication.objectives.normalise import loss_weights, row_mean_weights, row_sum_weights, token_mean_weights


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_ratio_is_new_over_old():
    close(importance_ratio(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])), [math.exp(0.5), math.exp(-1.0)])


def sequence_inputs():
    """Three completions of 2, 3 and 0 tokens; what stands on padding must not matter."""
    old = torch.tensor([[-3.0, -2.5, -1.0], [-0.5, -2.0, -1.0], [-1.0, -1.0, -1.0]])
    difference = torch.tensor([[math.log(2), math.log(8), 5.0], [-1.0, 0.4, 0.3], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    return old + difference, old, mask


def test_sequence_ratio_is_the_geometric_mean_over_the_completions_tokens():
    close(sequence_ratio(*sequence_inputs()), [[4.0], [math.exp(-0.1)], [1.0]])


def test_the_gradient_of_the_sequence_ratio_reaches_every_token_of_the_completion():
    logp, old, mask = sequence_inputs()
    logp.requires_grad_()
    sequence_ratio(logp, old, mask).sum().backward()
    close(logp.grad, [[2.0, 2.0, 0.0], [math.exp(-0.1) / 3] * 3, [0.0] * 3])


RATIO = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 0.9])
ADVANTAGE = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0, -3.0])


def test_clip_binds_only_where_it_makes_the_objective_smaller():
    close(clipped_loss(RATIO, ADVANTAGE, 0.2, 0.3), [-2.6, 3.0, -1.0, 1.6, -3.3, 2.7])
    assert is_clipped(RATIO, ADVANTAGE, 0.2, 0.3).tolist() == [True, False, False, True, False, False]


def test_clipped_tokens_have_no_gradient():
    logp = RATIO.log().requires_grad_()
    clipped_loss(importance_ratio(logp, torch.zeros(6)), ADVANTAGE, 0.2, 0.3).sum().backward()
    assert (logp.grad == 0).tolist() == is_clipped(RATIO, ADVANTAGE, 0.2, 0.3).tolist()


def test_sigmoid_gate_has_a_temperature_for_each_sign_of_the_advantage():
    ratio, advantage = torch.tensor([1.0, 2.0, 0.5, 2.0, 1.7]), torch.tensor([3.0, 1.5, 1.5, -2.0, 0.0])
    # 4 / 0.8 = 5 and 4 / 2 = 2; sigmoid(0.8) = 0.6899745, sigmoid(-0.4) = 0.4013123, sigmoid(2) = 0.8807971
    close(sigmoid_loss(ratio, advantage, 0.8, 2.0), [-7.5, -5.174809, -3.009843, 3.523188, 0.0])


def test_the_sigmoid_gates_gradient_is_that_of_the_clip_at_the_old_policy_and_fades_away_from_it():
    advantage = torch.tensor([3.0, -2.0, 3.0])
    logp = torch.tensor([0.0, 0.0, math.log(6)], requires_grad=True)
    sigmoid_loss(importance_ratio(logp, torch.zeros(3)), advantage, 0.8, 2.0).sum().backward()
    # at ratio 6: -4 sigmoid'(4) 6 x 3, sigmoid'(4) = 0.01766271
    close(logp.grad, [-3.0, 2.0, -1.271715])
    start = torch.zeros(2, requires_grad=True)
    clipped_loss(importance_ratio(start, torch.zeros(2)), advantage[:2], 0.2, 0.2).sum().backward()
    torch.testing.assert_close(logp.grad[:2], start.grad)


def test_k3_is_zero_at_equality_and_otherwise_positive():
    close(kl_k3(torch.tensor([-1.0, -1.0, -2.0]), torch.tensor([-1.0, -2.0, -1.0])), [0.0, math.exp(-1), math.e - 2])


def test_k3_pulls_the_policy_to_the_reference():
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    kl_k3(logp, torch.tensor([-2.0, -1.0])).sum().backward()
    close(logp.grad, [1 - math.exp(-1), 1 - math.e])


MASK = torch.tensor([[True, True, True, True], [True, False, False, False], [False] * 4])


def test_weights_are_a_mean_over_rows_of_means_over_tokens():
    close(row_mean_weights(MASK, 5), [[0.05] * 4, [0.2, 0.0, 0.0, 0.0], [0.0] * 4])


def test_token_weights_count_the_tokens_of_the_whole_minibatch():
    close(token_mean_weights(MASK, torch.tensor(8.0)), [[0.125] * 4, [0.125, 0.0, 0.0, 0.0], [0.0] * 4])
    of_two_minibatches = torch.tensor([[10.0], [4.0], [4.0]])
    close(token_mean_weights(MASK, of_two_minibatches), [[0.1] * 4, [0.25, 0.0, 0.0, 0.0], [0.0] * 4])
    assert token_mean_weights(MASK[2:], torch.tensor(0.0)).tolist() == [[0.0] * 4]


def test_row_sum_weights_divide_by_the_longest_length_whatever_the_completions():
    close(row_sum_weights(MASK, 5, 10), [[0.02] * 4, [0.02, 0.0, 0.0, 0.0], [0.0] * 4])


@pytest.mark.parametrize("aggregate", ["row_mean", "token_mean", "row_sum"])
def test_how_the_rows_are_spread_cannot_change_the_loss(aggregate):
    loss = torch.tensor([[3.0, -1.0, 0.5, 2.0], [4.0, 9.0, 9.0, 9.0], [9.0] * 4])
    counts = {"rows": 3, "tokens": MASK.sum(), "longest": 6}
    whole = (loss * loss_weights(MASK, aggregate, **counts)).sum()
    close(whole, {"row_mean": (4.5 / 4 + 4) / 3, "token_mean": 8.5 / 5, "row_sum": 8.5 / 18}[aggregate])
    for micro_rows in (1, 2):
        parts = zip(loss.split(micro_rows), MASK.split(micro_rows), strict=True)
        torch.testing.assert_close(sum((part * loss_weights(m, aggregate, **counts)).sum() for part, m in parts), whole)


def test_an_unknown_aggregate_is_refused():
    with pytest.raises(ValueError, match="row_median"):
        loss_weights(MASK, "row_median", 3, MASK.sum(), 6)
