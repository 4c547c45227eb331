"""What a training step reports, as sums and counts, so that micro-batches and processes add up (docs/glossary.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from replication.objectives.losses import kl_k3
from replication.rollout.trace import Rollout
from replication.training.batch import Sequences


class StepMetrics:
    """Sums and counts by name; `reduce` turns them into means over all processes and forgets them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.before_update = True  # until the step's first update the policy is the one that sampled

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add to a mean's sum and count."""
        entry = torch.stack([torch.as_tensor(x, dtype=torch.float64, device="cpu") for x in (total, count)])
        self.sums[name] = self.sums.get(name, torch.zeros(2, dtype=torch.float64)) + entry

    def add_mean(self, name: str, values: Tensor, part: Sequences) -> None:
        """Add a [r, T] value at every completion token."""
        self.add(name, values.detach()[part.token_mask].sum(), part.token_mask.sum())

    def add_tokens(self, part: Sequences, logp: Tensor, entropy: Tensor, ratio: Tensor, kl: Tensor | None) -> None:
        """Add what a forward pass shows."""
        self.add_mean("entropy", entropy, part)
        self.add_mean("ratio", ratio, part)
        self.add_mean("kl_step", kl_k3(logp.detach(), part.old_logp), part)
        if kl is not None:
            self.add_mean("kl_reference", kl, part)
        if self.before_update:
            self.add_mean("mismatch", (logp - part.old_logp).abs(), part)

    def add_rollout(self, rollout: Rollout, reward: Tensor) -> None:
        """Add what a rollout of P groups of G shows; reward is [P, G]."""
        rows = len(rollout.length)
        erased, kept = rollout.erased_tokens, rollout.length
        attempts = rollout.segments.sum() + rollout.erasures.sum()
        self.add("reward", reward.sum(), reward.numel())
        self.add("reward_std", reward.std(1, correction=0).sum(), len(reward))
        self.add("groups_without_signal", (reward == reward[:, :1]).all(1).sum(), len(reward))
        self.add("completion_tokens", kept.sum(), rows)
        self.add("erased_tokens", erased.sum(), rows)
        self.add("erasure_rate", rollout.erasures.sum(), attempts)
        self.add("erased_rows", (rollout.erasures.amax(1) > 0).sum(), rows)
        self.add("truncated", (~rollout.ended).sum(), rows)
        for name, members in (("reward_erasable", rollout.erasable), ("reward_plain", ~rollout.erasable)):
            if members.any():
                self.add(name, reward.flatten()[members].sum(), members.sum())

    def reduce(self, strategy: Any) -> dict[str, float]:
        """Means over all processes, by name."""
        names = sorted(self.sums)
        table = strategy.reduce(torch.stack([self.sums[n] for n in names]).to(strategy.root_device), reduce_op="sum")
        self.sums, self.before_update = {}, True
        return {name: float(total / count) for name, (total, count) in zip(names, table, strict=True)}
