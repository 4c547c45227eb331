"""Hand-worked thresholds."""

import math

import torch

from replication.rollout.threshold import (
    frequency_penalty,
    group_baseline,
    history_modulation,
    must_erase,
    running_baseline,
)


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_baseline_counts_the_members_that_reach_the_segment():
    u = torch.tensor([[1.0, 4.0, 7.0, torch.nan], [2.0, 2.0, 2.0, 10.0]])
    reached = torch.tensor([[True, True, True, False], [True, True, True, True]])
    close(group_baseline(u, reached, 0.0), [4.0, 4.0])
    close(group_baseline(u, reached, 0.5), [4.0 + 0.5 * math.sqrt(6), 4.0 + 0.5 * math.sqrt(12)])  # population std


def test_frequency_penalty_grows_exponentially():
    close(frequency_penalty(torch.tensor([0, 1, 3]), 0.3), [1.0, math.exp(0.3), math.exp(0.9)])


def test_history_gives_room_after_an_uncertain_past():
    history = torch.tensor([[1.0, 2.0, 6.0, 99.0]])
    reached = torch.tensor([[True, True, True, False]])
    std = math.sqrt((4 + 1 + 9) / 3)
    want = [1 + 0.1 * math.tanh((h - 3) / std) for h in (1.0, 2.0, 6.0)]
    close(history_modulation(history, reached, 0.1)[:, :3], [want])
    assert want[2] > 1 > want[0]


def test_history_is_neutral_where_all_pasts_are_equal():
    history = torch.tensor([[0.0, 0.0], [0.3, 0.3]])
    close(history_modulation(history, torch.ones(2, 2, dtype=torch.bool), 0.9), [[1.0, 1.0], [1.0, 1.0]])


def test_erasure_needs_more_than_the_threshold_and_erasures_left():
    u, theta, spent = torch.tensor([2.0, 1.0, 2.0, 0.5]), torch.ones(4), torch.tensor([4, 0, 5, 0])
    assert must_erase(u, theta, spent, 5).tolist() == [True, False, False, False]


def test_rounding_does_not_erase():
    """Members that wrote the same text have the same U, which is then the group's mean up to rounding."""
    u = torch.tensor([0.30000004, 0.3002])
    assert must_erase(u, torch.full((2,), 0.3), torch.zeros(2), 5).tolist() == [False, True]


def test_nothing_is_erased_below_the_floor():
    u, theta = torch.tensor([0.3, 0.6, 0.6]), torch.tensor([0.1, 0.1, 0.7])
    assert must_erase(u, theta, torch.zeros(3), 5, floor=0.5).tolist() == [False, True, False]


def test_the_running_baseline_averages_over_steps_and_skips_what_nobody_reached():
    nan = torch.nan
    first = running_baseline(None, torch.tensor([1.0, nan, nan]))
    second = running_baseline(first, torch.tensor([2.0, 3.0, nan]), 0.75)
    close(second[:2], [1.25, 3.0])
    assert second[2].isnan()
    close(running_baseline(second, torch.tensor([nan, nan, 4.0]))[[0, 2]], [1.25, 4.0])
