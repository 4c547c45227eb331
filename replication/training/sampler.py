"""Graded rollouts of a step's problems, DAPO's dynamic sampling, and the validation on held-out problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from replication.config import Config
from replication.data.sources import Problem
from replication.grading.pool import Grader
from replication.grading.verdict import Verdict
from replication.rollout.policy import Policy
from replication.rollout.trace import Rollout
from replication.seeds import seed_for
from replication.training.metrics import StepMetrics


@dataclass
class Sampler:
    """Samples from the policy as it is, and grades. A completion's random numbers depend on (seed, step, slot, problem,
    member) alone, where a slot is a place among the step's problems."""

    config: Config
    policy: Policy
    problems: Sequence[Problem]
    heldout: Sequence[Problem]
    seed: int
    grader: Grader
    metrics: StepMetrics

    def step(
        self, step: int, slots: Sequence[int], indices: Sequence[int], running: Tensor | None
    ) -> tuple[Rollout, Tensor]:
        """A group of completions for the problem of every slot, and their verdicts.

        With `train.refills`, a slot whose group's rewards are all equal gets another problem, up to so many times
        (DAPO's dynamic sampling); which one is a function of (seed, step, slot, try). The metrics are of the first
        problems, so that they stay an unbiased sample, but for the tokens, which are all that were generated.

        Args:
            step: counted from 0.
            slots: the step's places that this process fills.
            indices: the first problem of each.
            running: [N] running baseline in nats, or None.

        Returns:
            The rollout of P groups in the order of the slots, and [P, G] verdicts, 1 or 0.
        """
        self.policy.engine.sync()
        rollout, correct = self._groups(step, slots, indices, running)
        self.metrics.add_rollout(rollout, correct)
        for attempt in range(self.config.train.refills):
            silent = (correct == correct[:, :1]).all(1).nonzero().flatten().tolist()
            if not silent:
                break
            others = [slots[i] for i in silent]
            drawn = [seed_for(self.seed, "refill", step, slot, attempt) % len(self.problems) for slot in others]
            more, more_correct = self._groups(step, others, drawn, running)
            order = list(range(len(slots)))
            for new, i in enumerate(silent):
                order[i] = len(slots) + new
            rollout = Rollout.concatenate([rollout, more]).pick(order)
            correct = torch.cat([correct, more_correct])[order]
        self.policy.engine.rest()
        return rollout, correct

    def _groups(
        self, step: int, slots: Sequence[int], indices: Sequence[int], running: Tensor | None
    ) -> tuple[Rollout, Tensor]:
        config = self.config
        problems = [self.problems[i] for i in indices]
        keys = [
            seed_for(self.seed, "rollout", step, slot, problem.id, member)
            for slot, problem in zip(slots, problems, strict=True)
            for member in range(config.rollout.group_size)
        ]
        rollout = self.policy.roll_out(problems, keys, config.rollout, config.erasure, running)
        self.metrics.add_total("generated_tokens", rollout.row_steps)
        self.metrics.add_total("groups", len(problems))
        return rollout, self._grade(rollout, problems)

    def validate(self, problems: Sequence[Problem]) -> None:
        """Plain completions of held-out problems, the same random numbers each time, into the metric `heldout`."""
        k = self.config.train.validate_samples
        rollout = replace(
            self.config.rollout, group_size=k, cool_fraction=0.0, max_rows=max(k, self.config.rollout.max_rows)
        )
        keys = [seed_for(self.seed, "validate", problem.id, i) for problem in problems for i in range(k)]
        self.policy.engine.sync()
        done = self.policy.roll_out(problems, keys, rollout, replace(self.config.erasure, fraction=0.0))
        self.policy.engine.rest()
        correct = self._grade(done, problems, "heldout_")
        self.metrics.add("heldout", correct.sum(), correct.numel())

    def _grade(self, rollout: Rollout, problems: Sequence[Problem], prefix: str = "") -> Tensor:
        """[P, G] verdicts: 1 where the boxed answer equals the reference."""
        g = rollout.group_size
        golds = [p.final_answer for p in problems for _ in range(g)]
        tolerances = [p.tolerance for p in problems for _ in range(g)]
        graded = self.grader.grade_many(list(zip(golds, self.policy.texts(rollout), strict=True)), tolerances)
        for verdict in (Verdict.NO_ANSWER, Verdict.TIMED_OUT):
            hits = sum(item.verdict == verdict for item in graded)
            self.metrics.add(f"verdict/{prefix}{verdict.value.replace(' ', '_')}", hits, len(graded))
        return torch.tensor([item.reward for item in graded], device=rollout.tokens.device).view(-1, g)
