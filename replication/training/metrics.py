"""What a training step reports, as sums and counts, so that micro-batches and processes add up (docs/glossary.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from replication.credit.advantage import acceptance_rate
from replication.credit.allocation import allocation_spread
from replication.objectives.correction import Correction
from replication.objectives.losses import kl_k3
from replication.objectives.objective import TokenLoss
from replication.rollout.trace import Rollout
from replication.training.batch import Sequences


class StepMetrics:
    """Sums and counts by name; `reduce` turns them into means over all processes and forgets them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.totals: dict[str, float] = {}
        self.before_update = True  # until the step's first update the policy is the one that sampled

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add to a mean's sum and count."""
        entry = torch.stack([torch.as_tensor(x, dtype=torch.float64, device="cpu") for x in (total, count)])
        self.sums[name] = self.sums.get(name, torch.zeros(2, dtype=torch.float64)) + entry

    def add_total(self, name: str, value: float) -> None:
        """Add to a sum over all processes."""
        self.totals[name] = self.totals.get(name, 0.0) + value

    def add_mean(self, name: str, values: Tensor, part: Sequences) -> None:
        """Add a [r, T] value at every completion token that is trained on; erased attempts are not among them."""
        mask = part.known & ~part.erased[:, None]
        self.add(name, values.detach()[mask].sum(), mask.sum())

    def add_tokens(
        self,
        part: Sequences,
        logp: Tensor,
        entropy: Tensor,
        old_logp: Tensor,
        out: TokenLoss,
        correction: Correction | None = None,
    ) -> None:
        """Add what a forward pass shows; `old_logp` is what its ratios are against."""
        self.add_mean("entropy", entropy, part)
        self.add_mean("ratio", out.ratio, part)
        self.add_mean("clip_fraction", out.clipped, part)
        self.add_mean("kl_step", kl_k3(logp.detach(), old_logp), part)
        if out.kl is not None:
            self.add_mean("kl_reference", out.kl, part)
        if correction is not None:
            self.add_mean("correction_weight", correction.weight, part)
            self.add_mean("correction_fraction", correction.outside, part)
        if self.before_update:
            self.add_mean("mismatch", (logp - part.old_logp).abs(), part)

    def add_rollout(self, rollout: Rollout, reward: Tensor) -> None:
        """Add what a rollout of P groups of G shows; reward is [P, G]."""
        rows = len(rollout.length)
        erased, kept = rollout.erased_tokens, rollout.length
        present = torch.arange(rollout.erasures.shape[1], device=kept.device) < rollout.segments[:, None]
        shape = *reward.shape, -1
        accepted = acceptance_rate(
            rollout.erasures.view(shape), present.view(shape), rollout.erasable.view(reward.shape)
        )
        tried = (present & rollout.erasable[:, None]).view(shape).any(1)  # [P, N] some erasing member has the segment
        attempts = rollout.segments.sum() + rollout.erasures.sum()
        self.add("reward", reward.sum(), reward.numel())
        self.add("reward_std", reward.std(1, correction=0).sum(), len(reward))
        self.add("groups_without_signal", (reward == reward[:, :1]).all(1).sum(), len(reward))
        self.add("completion_tokens", kept.sum(), rows)
        self.add("erased_tokens", erased.sum(), rows)
        self.add("erasure_rate", rollout.erasures.sum(), attempts)
        self.add("erased_rows", (rollout.erasures.amax(1) > 0).sum(), rows)
        self.add("truncated", (~rollout.ended).sum(), rows)
        if tried.any():
            self.add("acceptance", accepted[tried].sum(), tried.sum())
            self.add("acceptance_below_half", (accepted[tried] < 0.5).sum(), tried.sum())
        for name, members in (("reward_erasable", rollout.erasable), ("reward_plain", ~rollout.erasable)):
            if members.any():
                self.add(name, reward.flatten()[members].sum(), members.sum())

    def add_allocation_spread(self, rollout: Rollout, shares: Tensor) -> None:
        """Add how unevenly the [R, N] shares c_n divide the reward over the segments."""
        present = torch.arange(shares.shape[1], device=shares.device) < rollout.segments[:, None]
        spread = allocation_spread(shares, present)
        self.add("allocation_spread", spread.sum(), len(spread))

    def reduce(self, strategy: Any) -> dict[str, float]:
        """Means over all processes, by name."""
        names = sorted(self.sums)
        table = strategy.reduce(torch.stack([self.sums[n] for n in names]).to(strategy.root_device), reduce_op="sum")
        totals = torch.tensor([self.totals[n] for n in sorted(self.totals)], dtype=torch.float64)
        totals = strategy.reduce(totals.to(strategy.root_device), reduce_op="sum")
        out = {name: float(total / count) if count else 0.0 for name, (total, count) in zip(names, table, strict=True)}
        out |= {name: float(total) for name, total in zip(sorted(self.totals), totals, strict=True)}
        self.sums, self.totals, self.before_update = {}, {}, True
        return out
