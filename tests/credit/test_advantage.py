"""Hand-worked advantages."""

import math

import torch

from replication.credit.advantage import acceptance_rate, group_advantage, segment_advantage


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_group_advantage_uses_the_sample_std_of_the_group():
    reward = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    std = 0.5  # sqrt((0.75^2 + 3 * 0.25^2) / 3)
    close(group_advantage(reward, 0.1), [[0.75 / (std + 0.1)] + [-0.25 / (std + 0.1)] * 3, [0.0] * 4])


def test_a_group_of_one_has_no_advantage():
    close(group_advantage(torch.tensor([[1.0]]), 1e-4), [[0.0]])


def test_segment_advantage_compares_the_members_that_have_the_segment():
    returns = torch.tensor([[[2.0, 0.5], [0.0, 0.0], [1.0, 9.0]]])  # the third member has no second segment
    present = torch.tensor([[[True, True], [True, True], [True, False]]])
    reward = torch.tensor([[1.0, 0.0, 1.0]])
    first = 1 / (1.0 + 0.1)  # mean 1, sample std 1
    second = 0.25 / (math.sqrt(0.125) + 0.1)  # mean 0.25 over two members, sample std sqrt(2 * 0.0625)
    close(segment_advantage(returns, present, reward, 0.1)[0], [[[first, second], [-first, -second], [0.0, 0.0]]])


def test_equal_rewards_silence_the_allocation():
    returns = torch.tensor([[[1.7, 0.3], [0.4, 1.6]]])
    present = torch.ones(1, 2, 2, dtype=torch.bool)
    close(segment_advantage(returns, present, torch.ones(1, 2), 1e-4)[0], [[[0.0, 0.0], [0.0, 0.0]]])


def test_equal_rewards_are_silent_to_the_last_bit():
    """Seven rewards of 0.7, whose mean is not 0.7 in fp32."""
    reward = torch.full((1, 7), 0.7)
    returns, present = reward[..., None], torch.ones(1, 7, 1, dtype=torch.bool)
    assert (reward - reward.sum() / 7).abs().max() > 0
    assert (segment_advantage(returns, present, reward, 1e-4)[0] == 0).all()


def test_a_segment_that_one_member_has_gives_no_advantage():
    returns, present = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[True], [False]]])
    close(segment_advantage(returns, present, torch.tensor([[1.0, 0.0]]), 1e-4)[0], [[[0.0], [0.0]]])


def test_members_of_equal_reward_do_not_compete_for_a_segment_that_only_they_have():
    """Rewards 1, 1, 0, 0; the second segment is held by the two right members, whose returns differ by allocation."""
    returns = torch.tensor([[[0.98, 1.02], [1.02, 0.98], [0.0, 0.0], [0.0, 0.0]]])
    present = torch.tensor([[[True, True], [True, True], [True, False], [True, False]]])
    got, _ = segment_advantage(returns, present, torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 1e-4)
    assert (got[..., 1] == 0).all() and (got[..., 0] != 0).all()


def test_dr_grpo_does_not_divide():
    close(group_advantage(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 1e-4, "none"), [[0.75, -0.25, -0.25, -0.25]])
    returns = torch.tensor([[[2.0], [0.0], [1.0]]])
    got, _ = segment_advantage(returns, torch.ones(1, 3, 1).bool(), torch.tensor([[1.0, 0.0, 1.0]]), 1e-4, "none")
    close(got, [[[1.0], [-1.0], [0.0]]])


def test_erased_attempts_are_samples_with_return_0():
    """Segment 0: returns 1, 1 and two erased attempts; segment 1: returns 1, 1 and none."""
    returns, present = torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    members, erased = segment_advantage(returns, present, torch.ones(1, 2), 0.1, erased=torch.tensor([[2, 0]]))
    size = 0.5 / (math.sqrt(1 / 3) + 0.1)  # mean 0.5 of 1, 1, 0, 0; sample std sqrt(4 * 0.25 / 3)
    close(members, [[[size, 0.0], [size, 0.0]]])
    close(erased, [[-size, 0.0]])


def test_right_members_do_not_compete_beside_erased_attempts():
    """Four right members whose returns differ by allocation alone, and an erased attempt: samples 1, 1, 1, 1, 0."""
    returns, present = torch.tensor([[[0.6], [1.4], [0.8], [1.2]]]), torch.ones(1, 4, 1, dtype=torch.bool)
    members, erased = segment_advantage(returns, present, torch.ones(1, 4), 0.1, erased=torch.tensor([[1]]))
    std = math.sqrt((4 * 0.2**2 + 0.8**2) / 4)
    close(members, [[[0.2 / (std + 0.1)]] * 4])
    close(erased, [[-0.8 / (std + 0.1)]])


def test_erased_attempts_of_a_wrong_group_teach_nothing():
    returns, present = torch.zeros(1, 2, 1), torch.ones(1, 2, 1, dtype=torch.bool)
    members, erased = segment_advantage(returns, present, torch.zeros(1, 2), 1e-4, erased=torch.tensor([[3]]))
    close(members, [[[0.0], [0.0]]])
    close(erased, [[0.0]])


def test_acceptance_counts_the_erasing_members_that_have_the_segment():
    erasures = torch.tensor([[[3, 0], [0, 1], [5, 5]]])
    present = torch.tensor([[[True, False], [True, True], [True, True]]])
    erasable = torch.tensor([[True, True, False]])  # the third rolled out plainly
    close(acceptance_rate(erasures, present, erasable), [[2 / 5, 1 / 2]])
    close(acceptance_rate(erasures, present, torch.zeros(1, 3, dtype=torch.bool)), [[1.0, 1.0]])
