"""Whether the uncertainty knows where it went wrong: a diagnostic for any model."""

from __future__ import annotations

import torch
from torch import Tensor


def group_auc(u: Tensor, wrong: Tensor, present: Tensor | None = None) -> float:
    """The chance that U of something wrong lies above U of something right of the same group, ties counting one half.

    Pooled over groups by the number of pairs: what erasing by a group's own baseline can make use of. 0.5 is no use.

    Args:
        u: [P, G] uncertainties, in nats.
        wrong: [P, G] boolean.
        present: [P, G] boolean, what counts at all; None counts everything.

    Returns:
        The AUC, nan where no group has both.
    """
    present = torch.ones_like(wrong) if present is None else present
    pairs = (wrong & present)[:, :, None] & (~wrong & present)[:, None, :]  # [P, G wrong, G right]
    above = (u[:, :, None] > u[:, None, :]).double() + 0.5 * (u[:, :, None] == u[:, None, :]).double()
    return float(above[pairs].mean())
