"""What a completion's length does to its reward."""

from __future__ import annotations

from torch import Tensor


def overlong_penalty(length: Tensor, longest: int, buffer: float, penalty: float) -> Tensor:
    """DAPO's soft overlong penalty: 0 up to (1 - buffer) longest, then falling linearly to -penalty at the longest
    length (Yu et al. 2025, equation 13).

    Args:
        length: [...] tokens of each completion.
        longest: tokens of the longest completion that the rollout allows.
        buffer: share of `longest` over which the reward falls; 0 is no penalty.
        penalty: reward lost at the longest length.

    Returns:
        [...] to be added to the reward, in [-penalty, 0].
    """
    if not buffer:
        return length.new_zeros(length.shape, dtype=length.dtype).float()
    over = length - (1 - buffer) * longest
    return (-over / (buffer * longest)).clamp(-1.0, 0.0) * penalty
