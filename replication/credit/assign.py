"""Rewards to advantages of segments, by the settings: the one place where the equations of this room meet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from replication.config import CreditConfig
from replication.credit.advantage import acceptance_rate, group_advantage, segment_advantage
from replication.credit.allocation import allocation_weights
from replication.credit.reward import overlong_penalty
from replication.rollout.trace import Rollout


class Credit(NamedTuple):
    """What every segment earns."""

    members: Tensor  # [R, N] advantages of the segments
    erased: Tensor  # [P, N] that of an erased attempt at the segment, 0 unless erased attempts are negatives
    shares: Tensor  # [R, N] c_n: the part of the completion's reward that each segment gets, 0 where absent


def assign_credit(settings: CreditConfig, rollout: Rollout, correct: Tensor, mass: Tensor | None) -> Credit:
    """Advantages of every segment and of every erased attempt at it.

    Args:
        settings: the credit section.
        rollout: R = P * G completions of at most N segments.
        correct: [P, G] verdicts, 1 or 0.
        mass: [R, N] the answer's attention mass on each segment; None where nothing is allocated by attention.
    """
    (p, g), n = correct.shape, rollout.erasures.shape[1]
    longest = rollout.tokens.shape[1]
    penalty = overlong_penalty(rollout.length, longest, settings.overlong_buffer, settings.overlong_penalty)
    reward = correct + penalty.view(p, g)
    present = torch.arange(n, device=correct.device) < rollout.segments[:, None]  # [R, N]
    erasures = rollout.erasures.view(p, g, n)
    shares = present.float()  # c_n = 1
    if settings.advantage == "group":
        per_row = group_advantage(reward, settings.eps, settings.scale).view(-1, 1).expand(-1, n)
        members, erased = per_row.view(p, g, n), reward.new_zeros(p, n)
    else:
        if mass is not None:
            shares = allocation_weights(mass, rollout.start.diff(dim=1), present, settings.tau)
        returns = (reward.view(-1, 1) * shares).view(p, g, n)
        negatives = erasures.sum(1) if settings.negatives else None
        members, erased = segment_advantage(
            returns, present.view(p, g, n), reward, settings.eps, settings.scale, negatives
        )
    if settings.acceptance:
        erasable = rollout.erasable.view(p, g)
        rate = acceptance_rate(erasures, present.view(p, g, n), erasable)
        members = torch.where(erasable[..., None], members * rate[:, None], members)
    return Credit(members.reshape(-1, n), erased, shares)
