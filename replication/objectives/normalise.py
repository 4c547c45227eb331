"""The one place that turns per-token losses into a loss.

The loss is the sum of weight x token loss, over whatever micro-batches and processes: how the rows are spread cannot
change it, because the divisors count the whole minibatch.
"""

from __future__ import annotations

from torch import Tensor


def row_mean_weights(mask: Tensor, rows: int) -> Tensor:
    """GRPO's aggregation: the mean over completions of the mean over their tokens.

    Args:
        mask: [r, T] boolean, a token of the completion; a row without tokens weighs nothing but counts.
        rows: completions in the whole minibatch, over all micro-batches and processes.

    Returns:
        [r, T] weights.
    """
    return mask / mask.sum(1, keepdim=True).clamp(min=1) / rows


def token_mean_weights(mask: Tensor, tokens: Tensor) -> Tensor:
    """DAPO's aggregation: the mean over all tokens.

    Args:
        mask: [r, T] boolean, a token of the completion.
        tokens: [r, 1] or [] tokens of the whole minibatch, over all micro-batches and processes.

    Returns:
        [r, T] weights.
    """
    return mask / tokens.clamp(min=1)


def row_sum_weights(mask: Tensor, rows: int, longest: int) -> Tensor:
    """Dr. GRPO's aggregation: the mean over completions of the sum over their tokens, divided by a constant length.

    Args:
        mask: [r, T] boolean, a token of the completion.
        rows: completions in the whole minibatch, over all micro-batches and processes.
        longest: tokens of the longest completion that the rollout allows.

    Returns:
        [r, T] weights.
    """
    return mask / (rows * longest)


def loss_weights(mask: Tensor, aggregate: str, rows: int, tokens: Tensor, longest: int) -> Tensor:
    """The weights of the aggregation that `objective.aggregate` names; arguments as above."""
    match aggregate:
        case "row_mean":
            return row_mean_weights(mask, rows)
        case "token_mean":
            return token_mean_weights(mask, tokens)
        case "row_sum":
            return row_sum_weights(mask, rows, longest)
    raise ValueError(f"aggregate is {aggregate!r}, must be row_mean, token_mean or row_sum")
