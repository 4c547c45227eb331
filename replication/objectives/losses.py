"""Per-token losses: pure functions of log-probabilities and advantages (method.md section 7)."""

from __future__ import annotations

import torch
from torch import Tensor


def importance_ratio(logp: Tensor, old_logp: Tensor) -> Tensor:
    """r_t = exp(logp_t - old_logp_t), against the policy that sampled the tokens. [R] (PPO, Schulman et al. 2017)

    Args:
        logp, old_logp: [..., T] log-probabilities of the tokens, in nats.
    """
    return torch.exp(logp - old_logp)


def clipped_loss(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), PPO's clipped surrogate with its sign turned. [R]

    Args:
        ratio: [..., T] importance ratios.
        advantage: [..., T] advantages, equal over a completion (GRPO) or over a segment (E3RL).
        clip_low, clip_high: the trust region.
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def is_clipped(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Boolean: the clip binds, so that the token has no gradient."""
    return ((ratio > 1 + clip_high) & (advantage > 0)) | ((ratio < 1 - clip_low) & (advantage < 0))


def kl_k3(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """k3 = exp(d) - d - 1 with d = reference_logp - logp: an unbiased, non-negative estimate of KL(policy || reference)
    on tokens of the policy (Schulman 2020), in nats. [R]: optional KL; form [O]
    """
    d = reference_logp - logp
    return torch.exp(d) - d - 1
