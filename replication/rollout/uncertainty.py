"""Token and segment uncertainty (method.md sections 2 and 3), in nats."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def token_entropy(logp: Tensor) -> Tensor:
    """H_t = -sum_v p_t(v) log p_t(v), the cross-entropy of the next-token distribution with itself. [A]; reading [O]

    Args:
        logp: [..., V] log-probabilities, in nats.

    Returns:
        [...] entropies, in nats.
    """
    least = torch.finfo(logp.dtype).min  # p log p is 0 where p is 0
    return -(logp.exp() * logp.clamp(min=least)).sum(-1)


def token_surprisal(logp: Tensor, token: Tensor) -> Tensor:
    """H_t = -log p_t(y_t), the cross-entropy of the distribution with the emitted token. [A]; reading [O]

    Args:
        logp: [..., V] log-probabilities, in nats.
        token: [...] token ids.

    Returns:
        [...] surprisals, in nats.
    """
    return -logp.gather(-1, token[..., None]).squeeze(-1)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "surprisal": token_surprisal,
    "entropy": lambda logp, token: token_entropy(logp),
}
"""H_t by name, of [..., V] log-probabilities and [...] tokens: the values of `erasure.uncertainty`"""


def moving_average(h: Tensor, window: int) -> Tensor:
    """Hbar_t = (1/w) sum_{j=t-w+1..t} H_j, over fewer terms at the start of the completion. [R]

    Args:
        h: [R, T] token uncertainties, in nats.
        window: w, in tokens.

    Returns:
        [R, T] averages, in nats.
    """
    total = h.cumsum(-1, dtype=torch.float64)
    before = torch.nn.functional.pad(total, (window, 0))[..., : h.shape[-1]]
    terms = torch.arange(1, h.shape[-1] + 1, device=h.device).clamp(max=window)
    return ((total - before) / terms).to(h.dtype)


def segment_uncertainty(
    h: Tensor, start: Tensor, end: Tensor, window: int, w_base: float, w_max: float, w_rise: float
) -> Tensor:
    """U_n = w_b b_n + w_m m_n + w_g g_n of one segment a row. [R]; exact forms [O]

    b_n, the base uncertainty, is the mean over the segment of Hbar_t; m_n, the extreme deviation, the largest H_t;
    g_n, the gradient anomaly, the largest rise max(0, Hbar_t - Hbar_{t-1}), where the first token of a completion
    has no rise.

    Args:
        h: [R, T] token uncertainties of the completions from their start, in nats; what lies after `end` is ignored,
            and what is not finite is 0, so that a segment with such a token is judged by the others.
        start, end: [R] the segment is the tokens start <= t < end; it has at least one.
        window: w, in tokens.
        w_base, w_max, w_rise: the weights.

    Returns:
        [R] segment uncertainties, in nats.
    """
    h = h.nan_to_num(0.0, 0.0, 0.0)
    mean = moving_average(h, window)
    rise = torch.nn.functional.pad(mean[:, 1:] - mean[:, :-1], (1, 0)).clamp(min=0)
    t = torch.arange(h.shape[1], device=h.device)
    inside = (t >= start[:, None]) & (t < end[:, None])  # [R, T]
    base = torch.where(inside, mean, 0.0).sum(1) / (end - start)
    extreme = torch.where(inside, h, -torch.inf).amax(1)
    anomaly = torch.where(inside, rise, 0.0).amax(1)
    return w_base * base + w_max * extreme + w_rise * anomaly


def segment_uncertainties(
    h: Tensor, start: Tensor, segments: Tensor, window: int, w_base: float, w_max: float, w_rise: float
) -> Tensor:
    """U_n of every segment, of plain rollouts too: a diagnostic, which the rollout itself does not need.

    Args:
        h: [R, T] token uncertainties, in nats.
        start: [R, N + 1] first token of each segment, and the end of the last.
        segments: [R] how many segments each row has.
        window, w_base, w_max, w_rise: as of `segment_uncertainty`.

    Returns:
        [R, N] in nats, nan where a row has no such segment.
    """
    out = torch.full((len(h), start.shape[1] - 1), torch.nan, device=h.device)
    for n in range(out.shape[1]):
        rows = (segments > n).nonzero().squeeze(1)
        if len(rows):
            span = start[rows, n], start[rows, n + 1]
            out[rows, n] = segment_uncertainty(h[rows], *span, window, w_base, w_max, w_rise)
    return out
