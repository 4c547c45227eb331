"""The token loss that the settings describe; docs/objectives.md has the settings of each algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from replication.config import ObjectiveConfig
from replication.objectives.losses import (
    clipped_loss,
    importance_ratio,
    is_clipped,
    kl_k3,
    sequence_ratio,
    sigmoid_loss,
)


class TokenLoss(NamedTuple):
    """What a forward pass gives, [r, T] each; meaningless but finite on padding."""

    loss: Tensor
    ratio: Tensor  # importance ratio, of the token or of its completion
    clipped: Tensor  # boolean: the clip binds
    kl: Tensor | None  # k3 estimate of the KL divergence to the reference policy, in nats


def token_loss(
    settings: ObjectiveConfig,
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    mask: Tensor,
    reference_logp: Tensor | None = None,
    correction: Tensor | None = None,
) -> TokenLoss:
    """The surrogate of every token and, with a reference, its share of the KL term.

    Args:
        settings: the objective section.
        logp: [r, T] log-probabilities of the tokens under the policy in training, in nats.
        old_logp: [r, T] under the policy that sampled them: as the sampler has them or, with a correction, as the
            trainer does.
        advantage: [r, T] advantages.
        mask: [r, T] boolean, a token of the completion.
        reference_logp: [r, T] under the reference policy; None for no KL term.
        correction: [r, T] weight of each token's surrogate, but not of its KL term; None for no correction.
    """
    logp = torch.where(mask, logp, old_logp)  # padding has ratio 1 and no gradient
    if settings.level == "sequence":
        ratio = sequence_ratio(logp, old_logp, mask).expand_as(logp)
    else:
        ratio = importance_ratio(logp, old_logp)
    if settings.surrogate == "sigmoid":
        loss = sigmoid_loss(ratio, advantage, settings.tau_positive, settings.tau_negative)
        clipped = torch.zeros_like(mask)
    else:
        loss = clipped_loss(ratio, advantage, settings.clip_low, settings.clip_high)
        clipped = is_clipped(ratio, advantage, settings.clip_low, settings.clip_high)
    if correction is not None:
        loss = correction * loss
    if reference_logp is None:
        return TokenLoss(loss, ratio, clipped, None)
    kl = kl_k3(logp, torch.where(mask, reference_logp, logp.detach()))
    return TokenLoss(loss + settings.kl * kl, ratio, clipped, kl)
