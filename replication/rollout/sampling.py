"""Drawing one token a row from one uniform number a row."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from transformers import TopKLogitsWarper, TopPLogitsWarper


def tempered_logp(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(logits / temperature) over the last axis, in nats and float32: the one place that tempers logits.

    A temperature for each distribution comes as [..., 1].
    """
    return torch.log_softmax(logits.float() / temperature, dim=-1)


def truncate(logp: Tensor, top_k: int, top_p: float) -> Tensor:
    """[R, V] log-probabilities, -inf outside the top k (0: all) and then outside the nucleus of mass top_p."""
    if top_k:
        logp = TopKLogitsWarper(top_k)(cast(torch.LongTensor, None), cast(torch.FloatTensor, logp))
    if top_p < 1:
        logp = TopPLogitsWarper(top_p)(cast(torch.LongTensor, None), cast(torch.FloatTensor, logp))
    return logp


def draw(logp: Tensor, uniform: Tensor) -> Tensor:
    """Sample by inverting the cumulative distribution.

    Args:
        logp: [R, V] log-probabilities, in nats; they need not be normalised.
        uniform: [R] float64 in [0, 1).

    Returns:
        [R] token ids; a token of probability 0 is never drawn.
    """
    cdf = logp.exp().cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True).squeeze(-1).clamp(max=logp.shape[1] - 1)
