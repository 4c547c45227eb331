"""Avg@k and Pass@k as torchmetrics metrics."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class AvgAtK(Metric):
    """Avg@k: the share of correct samples, k a problem."""

    correct: Tensor
    total: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, correct: Tensor) -> None:
        """Add [P, n] booleans: n graded samples of each of P problems."""
        self.correct += correct.sum()
        self.total += correct.numel()

    def compute(self) -> Tensor:
        return self.correct / self.total


class PassAtK(Metric):
    """Pass@k: the chance that one of k samples is correct, by the unbiased estimator of Chen et al. 2021.

    Args:
        k: samples, at most the n that were drawn of each problem.
    """

    passed: Tensor
    problems: Tensor
    full_state_update = False

    def __init__(self, k: int):
        super().__init__()
        self.k = k
        self.add_state("passed", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, correct: Tensor) -> None:
        """Add [P, n] booleans: n >= k graded samples of each of P problems."""
        self.passed += pass_at_k(correct.sum(1), correct.shape[1], self.k).sum()
        self.problems += len(correct)

    def compute(self) -> Tensor:
        return self.passed / self.problems


def pass_at_k(correct: Tensor, n: int, k: int) -> Tensor:
    """1 - C(n - c, k) / C(n, k) with c of n samples correct, as a product that cannot overflow.

    Args:
        correct: [P] correct samples of each problem.
        n: samples drawn of each.
        k: samples allowed, 1 <= k <= n.

    Returns:
        [P] float64.
    """
    if not 1 <= k <= n:
        raise ValueError(f"Pass@{k} needs 1 <= k <= {n}, the samples drawn of each problem")
    drawn = torch.arange(n - k + 1, n + 1, dtype=torch.float64)  # C(n-c,k)/C(n,k) = prod_{j=n-k+1..n} (1 - c / j)
    missed = (1 - correct.double()[:, None] / drawn).clamp(min=0).prod(1)
    return 1 - torch.where(n - correct < k, 0.0, missed)
