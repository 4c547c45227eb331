"""The one place that turns per-token losses into a loss."""

from __future__ import annotations

from torch import Tensor


def row_mean_weights(mask: Tensor, rows: int) -> Tensor:
    """GRPO's aggregation, the mean over completions of the mean over their tokens, as weights.

    The loss is the sum of weight x token loss, over whatever micro-batches and processes: how the rows are spread
    cannot change it, because `rows` counts all of them.

    Args:
        mask: [r, T] boolean, a token of the completion; a row without tokens weighs nothing but counts.
        rows: completions in the whole minibatch, over all micro-batches and processes.

    Returns:
        [r, T] weights.
    """
    return mask / mask.sum(1, keepdim=True).clamp(min=1) / rows
