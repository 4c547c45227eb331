"""Hand-worked token and segment uncertainties."""

import math

import torch

from replication.rollout.uncertainty import (
    moving_average,
    segment_uncertainties,
    segment_uncertainty,
    token_entropy,
    token_surprisal,
)


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_entropy_and_surprisal():
    p = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    close(token_entropy(p.log()), [1.5 * math.log(2), 0.0])
    close(token_surprisal(p.log(), torch.tensor([1, 0])), [2 * math.log(2), 0.0])


def test_entropy_does_not_hide_broken_logits():
    assert token_entropy(torch.tensor([[float("nan"), 0.0]])).isnan().all()


def test_moving_average_is_causal_and_short_at_the_start():
    close(moving_average(torch.tensor([[1.0, 3.0, 8.0, 0.0, 4.0]]), 3), [[1.0, 2.0, 4.0, 11 / 3, 4.0]])


def test_moving_average_longer_than_the_text():
    close(moving_average(torch.tensor([[2.0, 4.0]]), 10), [[2.0, 3.0]])


H = torch.tensor([[1.0, 3.0, 8.0, 0.0, 4.0, 100.0]])  # w = 2: Hbar = 1, 2, 5.5, 4, 2, 52; rises 0, 1, 3.5, 0, 0, 50


def u(start, end, *weights):
    return segment_uncertainty(H, torch.tensor([start]), torch.tensor([end]), 2, *weights)


def test_base_uncertainty_is_the_mean_moving_average():
    close(u(1, 4, 1.0, 0.0, 0.0), [(2 + 5.5 + 4) / 3])


def test_extreme_deviation_is_the_largest_token_uncertainty():
    close(u(1, 4, 0.0, 1.0, 0.0), [8.0])
    close(u(3, 5, 0.0, 1.0, 0.0), [4.0])


def test_gradient_anomaly_is_the_largest_rise_of_the_average():
    close(u(1, 4, 0.0, 0.0, 1.0), [3.5])
    close(u(2, 4, 0.0, 0.0, 1.0), [3.5])  # the rise into the segment's first token counts
    close(u(3, 5, 0.0, 0.0, 1.0), [0.0])  # falls only
    close(u(0, 1, 0.0, 0.0, 1.0), [0.0])  # the first token of a completion has no rise


def test_terms_are_weighted_and_added_and_the_future_is_not_seen():
    close(u(1, 4, 1.0, 0.5, 0.25), [11.5 / 3 + 4.0 + 0.875])


def test_rows_are_judged_by_their_own_spans():
    h = torch.tensor([[1.0, 3.0, 8.0], [2.0, 2.0, 5.0]])
    got = segment_uncertainty(h, torch.tensor([0, 1]), torch.tensor([2, 3]), 1, 1.0, 0.0, 0.0)
    close(got, [2.0, 3.5])


def test_every_segment_of_rows_that_differ():
    h = torch.tensor([[1.0, 3.0, 8.0, 2.0], [2.0, 2.0, 5.0, 9.0]])
    got = segment_uncertainties(h, torch.tensor([[0, 2, 4], [0, 3, 0]]), torch.tensor([2, 1]), 1, 1.0, 0.0, 0.0)
    close(got[0], [2.0, 5.0])
    close(got[1, :1], [3.0])
    assert got[1, 1].isnan()


def test_the_moving_average_of_a_long_completion_is_exact():
    h = torch.cat([torch.full((8192,), 7.3), torch.tensor([0.001, 0.002, 0.009])])
    close(moving_average(h[None], 3)[0, -1:], [0.004])
