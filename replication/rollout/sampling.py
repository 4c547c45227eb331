"""Drawing one token a row from one uniform number a row."""

from __future__ import annotations

import torch
from torch import Tensor


def tempered_logp(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(logits / temperature) over the last axis, in nats and float32: the one place that tempers logits.

    A temperature for each distribution comes as [..., 1].
    """
    return torch.log_softmax(logits.float() / temperature, dim=-1)


def draw(logp: Tensor, uniform: Tensor) -> Tensor:
    """Sample by inverting the cumulative distribution.

    Args:
        logp: [R, V] log-probabilities, in nats.
        uniform: [R] float64 in [0, 1).

    Returns:
        [R] token ids; a token of probability 0 is never drawn.
    """
    cdf = logp.double().exp().cumsum(-1)
    return torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True).squeeze(-1).clamp(max=logp.shape[1] - 1)
