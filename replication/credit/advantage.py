"""Advantages within a group: one a completion (GRPO), or one a segment (E3RL, method.md section 6)."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantage(reward: Tensor, eps: float, scale: str = "std") -> Tensor:
    """A_i = (R_i - mean) / (std + eps) over the group, sample std as in TRL; 0 where all rewards are equal.

    Args:
        reward: [P, G] final rewards.
        eps: added to the standard deviation.
        scale: `std`, or `none` for Dr. GRPO, which does not divide.

    Returns:
        [P, G] advantages.
    """
    if reward.shape[1] < 2:
        return reward.new_zeros(reward.shape)  # one completion has nothing to be compared with
    deviation = reward - reward.mean(1, keepdim=True)
    return deviation / (reward.std(1, keepdim=True) + eps) if scale == "std" else deviation


def segment_advantage(
    returns: Tensor, present: Tensor, reward: Tensor, eps: float, scale: str = "std", erased: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A_{i,n} = (R_{i,n} - mean) / (std + eps) over the samples of segment n, sample std. [R]; details [O]

    The samples are the members that have the segment and, as erased-as-negatives [O], its erased attempts with return 0
    (method.md section 9). The advantage is 0 where there are fewer than two samples, and where all of them got the same
    final reward: there the returns differ by the allocation alone, and its noise would become the signal.
    For the same reason members of equal final reward count with that reward, whatever the allocation, beside erased
    attempts.

    Args:
        returns: [P, G, N] segment returns R_{i,n} = R_i c_{i,n}.
        present: [P, G, N] boolean, the member has the segment.
        reward: [P, G] final rewards R_i.
        eps: added to the standard deviation.
        scale: `std`, or `none` not to divide.
        erased: [P, N] erased attempts that count as samples; None counts none.

    Returns:
        [P, G, N] advantages of the members, 0 where absent, and [P, N] that of each erased attempt.
    """
    negatives = present.new_zeros(present.shape[0], present.shape[2], dtype=torch.long) if erased is None else erased
    count = present.sum(1) + negatives  # [P, N]
    rewards = reward[..., None].expand_as(returns)
    highest = rewards.masked_fill(~present, -torch.inf).amax(1)  # [P, N], of the members
    lowest = rewards.masked_fill(~present, torch.inf).amin(1)
    returns = torch.where((highest == lowest)[:, None], rewards, returns)
    held = returns.masked_fill(~present, 0.0)
    mean = held.sum(1) / count.clamp(min=1)  # an erased attempt adds 0 to the sum
    deviation = (returns - mean[:, None]).masked_fill(~present, 0.0)
    variance = (deviation.square().sum(1) + negatives * mean.square()) / (count - 1).clamp(min=1)
    divisor = variance.sqrt() + eps if scale == "std" else torch.ones_like(variance)
    zero = torch.where(negatives > 0, 0.0, torch.nan)  # the final reward of erased attempts; fmax and fmin skip nan
    informative = (torch.fmax(highest, zero) > torch.fmin(lowest, zero)) & (count > 1)
    members = (deviation / divisor[:, None]).masked_fill(~(present & informative[:, None]), 0.0)
    return members, (-mean / divisor).masked_fill(~(informative & (negatives > 0)), 0.0)


def acceptance_rate(erasures: Tensor, present: Tensor, erasable: Tensor) -> Tensor:
    """Z_n = accepted / (accepted + erased) attempts at segment n over the group's erasing members. [O]

    An accepted segment is a sample of p(y | accepted) = p(y) / Z_n, so that Z_n estimates the importance weight
    p(y) / p(y | accepted) (method.md section 9).

    Args:
        erasures: [P, G, N] erasures spent.
        present: [P, G, N] boolean, the member has the segment.
        erasable: [P, G] boolean, the member rolled out with erasure.

    Returns:
        [P, N] rates in (0, 1]; 1 where no erasing member has the segment.
    """
    mine = present & erasable[..., None]
    accepted = mine.sum(1)
    return torch.where(accepted > 0, accepted / (accepted + (erasures * mine).sum(1)).clamp(min=1), 1.0)
