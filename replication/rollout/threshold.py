"""The dynamic threshold (method.md section 4). Statistics run over one group, or over what stands in for it (section
9); std is the population's [O]."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean_std(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation over the last axis where the mask holds.

    Args:
        x: [..., G] values.
        mask: [..., G] boolean.

    Returns:
        [...] means and standard deviations, 0 where nothing is selected.
    """
    count = mask.sum(-1).clamp(min=1)
    mean = torch.where(mask, x, 0.0).sum(-1) / count
    deviation = torch.where(mask, x - mean[..., None], 0.0)
    return mean, (deviation.square().sum(-1) / count).sqrt()


def group_baseline(first_u: Tensor, reached: Tensor, kappa: float) -> Tensor:
    """beta_n = mean + kappa std of the members' first attempts at the segment. [R]; exact form [O]

    Args:
        first_u: [..., G] segment uncertainty of each member's first attempt, in nats; the members are those of the
            group (the letter) or of all groups in flight (baseline `batch`).
        reached: [..., G] boolean, the members that reach the segment.
        kappa: standard deviations above the mean.

    Returns:
        [...] baselines, in nats.
    """
    mean, std = masked_mean_std(first_u, reached)
    return mean + kappa * std


def running_baseline(before: Tensor | None, now: Tensor, decay: float = 0.9) -> Tensor:
    """beta_n over the steps of the training, an exponential moving average (baseline `running`). [O]

    Args:
        before: [N] the average so far, in nats; None before the first step.
        now: [N] this step's `group_baseline` over all its rollouts, nan for a segment that nobody reached.
        decay: weight of the average so far.

    Returns:
        [N] in nats, nan for a segment that nobody ever reached.
    """
    if before is None:
        return now
    both = decay * before + (1 - decay) * now
    return torch.where(before.isnan(), now, torch.where(now.isnan(), before, both))


def frequency_penalty(erasures: Tensor, growth: float) -> Tensor:
    """Gamma(e) = exp(lambda e): the threshold grows with the erasures already spent on the segment. [R]; form [O]

    Args:
        erasures: [...] erasures spent, e.
        growth: lambda.

    Returns:
        [...] factors >= 1.
    """
    return torch.exp(growth * erasures)


def history_modulation(history: Tensor, reached: Tensor, strength: float) -> Tensor:
    """phi = 1 + eta tanh((h - mean) / std): an uncertain history earns room, a spike after a confident one none.
    [R]; form [O]

    Args:
        history: [P, G] mean U of each member's accepted segments so far, in nats.
        reached: [P, G] boolean, the members that reach the segment.
        strength: eta, below 1 in size.

    Returns:
        [P, G] factors; 1 where the group's histories are equal, as they are before the first segment.
    """
    mean, std = masked_mean_std(history, reached)
    spread = std[..., None] > 1e-6  # nats; below it the histories differ by rounding only
    z = (history - mean[..., None]) / torch.where(spread, std[..., None], 1.0)
    return torch.where(spread, 1 + strength * torch.tanh(z), 1.0)


ROUNDING = 1e-4  # nats; members that wrote the same text lie on their own mean, and rounding must not decide [O]


def must_erase(u: Tensor, threshold: Tensor, erasures: Tensor, cap: int, floor: float = 0.0) -> Tensor:
    """The erasure operator: erase if U_n > Theta_n(e), by more than rounding, and e < E_max. [A, R]; floor [O]

    Args:
        u, threshold: [...] segment uncertainty and Theta_n(e) = beta_n Gamma(e) phi, in nats.
        erasures: [...] erasures spent on the segment, e.
        cap: E_max.
        floor: in nats, what U_n must exceed besides; 0 is the letter.

    Returns:
        [...] boolean.
    """
    return (u > threshold.clamp(min=floor) + ROUNDING) & (erasures < cap)
