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


def sequence_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """s = exp(sum_t m_t (logp_t - old_logp_t) / sum_t m_t), the geometric mean of a completion's importance ratios
    (GSPO, Zheng et al. 2025); 1 for a completion without tokens. The gradient reaches every token of the completion.

    Args:
        logp, old_logp: [r, T] log-probabilities of the tokens, in nats.
        mask: [r, T] boolean, a token of the completion.

    Returns:
        [r, 1] ratios.
    """
    difference = (logp - old_logp).masked_fill(~mask, 0.0)
    return torch.exp(difference.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1))


def clipped_loss(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), PPO's clipped surrogate with its sign turned. [R]

    Args:
        ratio: [..., T] importance ratios.
        advantage: [..., T] advantages, equal over a completion (GRPO) or over a segment (E3RL).
        clip_low, clip_high: the trust region.
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def sigmoid_loss(ratio: Tensor, advantage: Tensor, tau_positive: float, tau_negative: float) -> Tensor:
    """-(4 / tau) sigmoid(tau (r - 1)) A: a smooth gate in place of the clip, whose slope at r = 1 is that of -r A
    (SAPO, Gao et al. 2025).

    Args:
        ratio: [..., T] importance ratios.
        advantage: [..., T] advantages.
        tau_positive, tau_negative: tau where A > 0, and elsewhere.
    """
    tau = torch.where(advantage > 0, tau_positive, tau_negative)
    return -4 / tau * torch.sigmoid(tau * (ratio - 1)) * advantage


def is_clipped(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Boolean: the clip binds, so that the token has no gradient."""
    return ((ratio > 1 + clip_high) & (advantage > 0)) | ((ratio < 1 - clip_low) & (advantage < 0))


def kl_k3(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """k3 = exp(d) - d - 1 with d = reference_logp - logp: an unbiased, non-negative estimate of KL(policy || reference)
    on tokens of the policy (Schulman 2020), in nats. [R]: optional KL; form [O]
    """
    d = reference_logp - logp
    return torch.exp(d) - d - 1
