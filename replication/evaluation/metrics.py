"""The metrics of an evaluation, as torchmetrics metrics over problems and as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from replication.seeds import seed_for


class ProblemMetric(Metric):
    """A mean over problems that keeps each problem's value, [P] or [P, B]; every metric here is one."""

    values: list[Tensor]
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", [], dist_reduce_fx="cat")

    def add(self, values: Tensor) -> None:
        """Take in the values of further problems."""
        self.values.append(values.double())

    def by_problem(self) -> Tensor:
        """The value of each problem, in the order they were added."""
        return dim_zero_cat(self.values)

    def compute(self) -> Tensor:
        return self.by_problem().mean(0)


class AvgAtK(ProblemMetric):
    """Avg@k: the share of correct samples, k a problem."""

    def update(self, correct: Tensor) -> None:
        """Add [P, k] booleans: k graded samples of each of P problems."""
        self.add(correct.double().mean(1))


class PassAtK(ProblemMetric):
    """Pass@k: the chance that one of k samples is correct, by the unbiased estimator of Chen et al. 2021.

    Args:
        k: samples, at most the n that were drawn of each problem.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def update(self, correct: Tensor) -> None:
        """Add [P, n] booleans: n >= k graded samples of each of P problems."""
        self.add(pass_at_k(correct.sum(1), correct.shape[1], self.k))


class MajAtK(ProblemMetric):
    """Maj@k: the chance that the most frequent answer of k samples is right, see `majority_at_k`.

    Args:
        k: votes, at most the n samples that were drawn of each problem.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def update(self, answers: Sequence[Sequence[str | None]], correct: Tensor) -> None:
        """Add n >= k answers of each of P problems, None for none, and their [P, n] verdicts."""
        self.add(majority_at_k(answers, correct, self.k))


class AccuracyAtTokens(ProblemMetric):
    """The share of samples that are correct and took at most so many generated tokens, for each of B budgets.

    Args:
        budgets: tokens a sample, erased ones included.
    """

    def __init__(self, budgets: Sequence[int]):
        super().__init__()
        self.budgets = list(budgets)

    def update(self, correct: Tensor, tokens: Tensor) -> None:
        """Add [P, n] verdicts and the [P, n] tokens that each sample took."""
        within = tokens[..., None] <= torch.tensor(self.budgets)  # [P, n, B]
        self.add((correct[..., None] & within).double().mean(1))


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
