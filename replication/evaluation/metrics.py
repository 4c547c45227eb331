"""Avg@k and Pass@k as torchmetrics metrics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from replication.seeds import seed_for


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


def majority_at_k(answers: Sequence[Sequence[str | None]], correct: Tensor, k: int, draws: int = 256) -> Tensor:
    """Maj@k: the chance that the most frequent answer among k of the n samples is right.

    Ties are broken evenly; a sample without an answer has no vote. Answers are equal where their texts are. Over all n
    samples the chance is exact, over fewer it is the mean over random subsets, the same ones for every problem.

    Args:
        answers: n answers of each of P problems, None for none.
        correct: [P, n] boolean verdicts.
        k: votes, 1 <= k <= n.
        draws: random subsets.

    Returns:
        [P] float64.
    """
    problems, n = correct.shape
    if not 1 <= k <= n:
        raise ValueError(f"Maj@{k} needs 1 <= k <= {n}, the samples drawn of each problem")
    if k == 1:
        return correct.double().mean(1)
    names = [sorted({a for a in row if a is not None}) for row in answers]
    vote = torch.zeros(problems, n, max(1, *(len(row) for row in names)), dtype=torch.float64)  # [P, n, C]
    for p, row in enumerate(answers):
        for i, answer in enumerate(row):
            if answer is not None:
                vote[p, i, names[p].index(answer)] = 1
    right = (vote * correct[..., None]).sum(1) / vote.sum(1).clamp(min=1)  # [P, C] whether each answer is right
    rng = torch.Generator().manual_seed(seed_for("majority", n, k))
    subsets = torch.stack([torch.randperm(n, generator=rng)[:k] for _ in range(1 if k == n else draws)])  # [B, k]
    chosen = torch.zeros(len(subsets), n, dtype=torch.float64).scatter_(1, subsets, 1.0)  # [B, n]
    counts = torch.einsum("bn,pnc->pbc", chosen, vote)
    winners = (counts == counts.amax(-1, keepdim=True)) & (counts > 0)
    share = winners.double() / winners.sum(-1, keepdim=True).clamp(min=1)
    return torch.einsum("pbc,pc->p", share, right) / len(subsets)
