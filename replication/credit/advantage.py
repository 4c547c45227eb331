"""Advantages within a group: one a completion (GRPO), or one a segment (E3RL, method.md section 6)."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantage(reward: Tensor, eps: float) -> Tensor:
    """A_i = (R_i - mean) / (std + eps) over the group, sample std as in TRL; 0 where all rewards are equal.

    Args:
        reward: [P, G] final rewards.
        eps: added to the standard deviation.

    Returns:
        [P, G] advantages.
    """
    if reward.shape[1] < 2:
        return reward.new_zeros(reward.shape)  # one completion has nothing to be compared with
    return (reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + eps)


def segment_advantage(returns: Tensor, present: Tensor, reward: Tensor, eps: float) -> Tensor:
    """A_{i,n} = (R_{i,n} - mean) / (std + eps) over the members that have segment n, sample std. [R]; details [O]

    It is 0 where fewer than two members have the segment, and where those that have it got the same final reward: there
    the returns differ by the allocation alone, and its noise would become the signal (findings 29).

    Args:
        returns: [P, G, N] segment returns R_{i,n} = R_i c_{i,n}.
        present: [P, G, N] boolean, the member has the segment.
        reward: [P, G] final rewards R_i.
        eps: added to the standard deviation.

    Returns:
        [P, G, N] advantages, 0 where absent.
    """
    count = present.sum(1, keepdim=True)  # [P, 1, N]
    held = returns.masked_fill(~present, 0.0)
    mean = held.sum(1, keepdim=True) / count.clamp(min=1)
    deviation = (returns - mean).masked_fill(~present, 0.0)
    std = (deviation.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    rewards = reward[..., None].expand_as(returns)
    highest = rewards.masked_fill(~present, -torch.inf).amax(1, keepdim=True)
    lowest = rewards.masked_fill(~present, torch.inf).amin(1, keepdim=True)
    informative = highest > lowest
    return (deviation / (std + eps)).masked_fill(~(present & informative), 0.0)
