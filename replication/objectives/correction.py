"""Weights of tokens to which the sampler and the trainer give different probabilities (docs/objectives.md)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from replication.config import ObjectiveConfig

LARGEST = 20.0
"""nats; a log-ratio is clamped to it on either side, as in verl"""


class Correction(NamedTuple):
    """[r, T] each; meaningless but finite on padding."""

    weight: Tensor  # of the token's surrogate loss
    outside: Tensor  # boolean: the ratio lies beyond a bound


def sampler_ratio(trainer_logp: Tensor, sampled_logp: Tensor) -> Tensor:
    """rho_t = exp(trainer_logp_t - sampled_logp_t), both of the policy that sampled; the difference is clamped to
    +-20 nats (verl). No gradient.

    Args:
        trainer_logp: [..., T] log-probabilities of the tokens as the trainer has them, in nats.
        sampled_logp: [..., T] as the sampler has them.
    """
    return torch.exp((trainer_logp - sampled_logp).detach().clamp(-LARGEST, LARGEST))


def truncated_weight(ratio: Tensor, cap: float) -> Tensor:
    """min(rho, cap): truncated importance sampling of each token (Yao et al. 2025; TRL's `token_truncate`, verl's
    `rollout_is: token`).

    Args:
        ratio: [..., T] ratios of trainer to sampler.
        cap: the largest weight.
    """
    return ratio.clamp(max=cap)


def masked_weight(ratio: Tensor, low: float, high: float) -> Tensor:
    """rho where low <= rho <= high, else 0 (IcePop, Zhao et al. 2025; TRL's `token_mask`, verl's threshold `low_high`).

    Args:
        ratio: [..., T] ratios of trainer to sampler.
        low, high: the ratios that are kept, bounds included.
    """
    return torch.where((ratio >= low) & (ratio <= high), ratio, 0.0)


def correction_of(kind: str, settings: ObjectiveConfig, trainer_logp: Tensor, sampled_logp: Tensor) -> Correction:
    """The weights of a correction, `truncate` or `mask`; arguments as of `sampler_ratio`."""
    ratio = sampler_ratio(trainer_logp, sampled_logp)
    if kind == "mask":
        weight = masked_weight(ratio, settings.correction_low, settings.correction_high)
    else:
        weight = truncated_weight(ratio, settings.correction_cap)
    return Correction(weight, weight != ratio)
