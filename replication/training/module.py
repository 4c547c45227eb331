"""E3RL as a LightningModule: one `training_step` is one rollout and all the updates on it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from replication.config import Config
from replication.credit.advantage import group_advantage, segment_advantage
from replication.credit.allocation import allocation_weights, answer_attention, segment_mass
from replication.data.module import Batch
from replication.data.sources import Problem
from replication.data.template import prompt_ids
from replication.grading.pool import Grader
from replication.grading.verdict import Verdict
from replication.objectives.losses import clipped_loss, importance_ratio, is_clipped, kl_k3
from replication.objectives.normalise import row_mean_weights
from replication.policy import eos_ids
from replication.rollout.engine import roll_out
from replication.rollout.trace import Rollout
from replication.seeds import seed_for
from replication.training.accumulate import optimizer_step
from replication.training.batch import MicroBatch, Sequences, micro_batches, sequences
from replication.training.logprobs import completion_logp
from replication.training.metrics import StepMetrics


class E3RLModule(L.LightningModule):
    """The policy and everything that is done to it.

    Args:
        config: the run's settings.
        policy: a transformers causal LM.
        tokenizer: its tokenizer.
        problems: all training problems.
        seed: of the samples.
    """

    def __init__(self, config: Config, policy: Any, tokenizer: Any, problems: Sequence[Problem], seed: int):
        super().__init__()
        self.automatic_optimization = False
        self.config, self.policy, self.tokenizer = config, policy, tokenizer
        self.problems, self.seed = problems, seed
        self.reference = copy.deepcopy(policy).requires_grad_(False) if config.objective.kl else None
        self.grader = Grader()
        self.metrics = StepMetrics()
        self.history: list[dict[str, float]] = []  # one row a step; saved with the checkpoint

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Roll out, grade, give credit, and update on every minibatch."""
        step, indices = batch
        problems = [self.problems[i] for i in indices]  # this process's share of the step's
        rollout = self.roll_out(step, problems)
        reward = self.grade(rollout, problems)  # [P, G]
        seqs = sequences(rollout, self.tokenizer.pad_token_id)
        advantage = self.credit(rollout, seqs, reward)  # [R, T]
        reference = self.reference_logp(seqs)

        train, g = self.config.train, rollout.group_size
        weight = row_mean_weights(seqs.token_mask, train.prompts * g // train.minibatches)
        minibatch_of = torch.arange(len(problems), device=self.device) % train.minibatches
        self.set_learning_rate(step)
        for _ in range(train.epochs):
            for minibatch in range(train.minibatches):
                rows = (minibatch_of.repeat_interleave(g) == minibatch).nonzero().squeeze(1)
                parts = list(micro_batches(rows, train.micro_rows, seqs, advantage, weight, reference))
                loss = optimizer_step(self, parts, train.grad_clip)
                self.metrics.before_update = False
                self.metrics.add("loss", loss, 1 / self.trainer.world_size)
        self.report(step, rollout, reward)

    def roll_out(self, step: int, problems: list[Problem]) -> Rollout:
        """A group of completions a problem; their random numbers depend on (seed, step, problem, member) alone."""
        g = self.config.rollout.group_size
        prompts = [prompt_ids(self.tokenizer, p.question, self.config.policy.thinking) for p in problems]
        keys = [seed_for(self.seed, "rollout", step, p.id, member) for p in problems for member in range(g)]
        ends = eos_ids(self.policy, self.tokenizer)
        self.policy.eval()
        rollout = roll_out(
            self.policy,
            prompts,
            torch.tensor(keys),
            self.config.rollout,
            self.config.erasure,
            ends,
            self.tokenizer.pad_token_id,
        )
        self.policy.train()
        return rollout

    def grade(self, rollout: Rollout, problems: list[Problem]) -> Tensor:
        """[P, G] rewards: 1 where the boxed answer equals the reference."""
        g = rollout.group_size
        texts = self.tokenizer.batch_decode(
            [ids[:end] for ids, end in zip(rollout.tokens.tolist(), rollout.length.tolist(), strict=True)],
            skip_special_tokens=True,
        )
        golds = [p.final_answer for p in problems for _ in range(g)]
        graded = self.grader.grade_many(list(zip(golds, texts, strict=True)))
        for verdict in (Verdict.NO_ANSWER, Verdict.TIMED_OUT):
            hits = sum(item.verdict == verdict for item in graded)
            self.metrics.add(f"verdict/{verdict.value.replace(' ', '_')}", hits, len(graded))
        return torch.tensor([item.reward for item in graded], device=self.device).view(-1, g)

    def credit(self, rollout: Rollout, seqs: Sequences, reward: Tensor) -> Tensor:
        """[R, T] advantage of every token."""
        settings, g = self.config.credit, rollout.group_size
        t = seqs.tokens.shape[1]
        if settings.advantage == "group":
            return group_advantage(reward, settings.eps).view(-1, 1).expand(-1, t)
        n = rollout.erasures.shape[1]
        present = torch.arange(n, device=self.device) < rollout.segments[:, None]  # [R, N]
        weights = present.float()
        if settings.allocation == "attention":
            mass = self.answer_mass(rollout, seqs)  # [R, N]
            weights = allocation_weights(mass, rollout.start.diff(dim=1), present, settings.tau)
        returns = reward.view(-1, 1) * weights
        advantage = segment_advantage(returns.view(-1, g, n), present.view(-1, g, n), reward, settings.eps).view(-1, n)
        return advantage.gather(1, rollout.segment_of[:, :t].clamp(min=0))

    def answer_mass(self, rollout: Rollout, seqs: Sequences) -> Tensor:
        """[R, N] attention mass that the last segment puts on each segment."""
        masses = []
        t = seqs.tokens.shape[1]
        for index in torch.arange(len(seqs.ids), device=self.device).split(self.config.train.micro_rows):
            last = rollout.start[index].gather(1, rollout.segments[index, None] - 1).squeeze(1)
            offset = seqs.at[index, 0]  # where the completion starts
            queries = offset + last, offset + rollout.length[index]
            on_position = answer_attention(self.policy, seqs.ids[index], *queries)
            on_token = on_position.gather(1, seqs.at[index])  # [r, T]
            masses.append(segment_mass(on_token, rollout.segment_of[index, :t], rollout.erasures.shape[1]))
        return torch.cat(masses)

    @torch.no_grad()
    def reference_logp(self, seqs: Sequences) -> Tensor | None:
        """[R, T] log-probabilities under the policy before RL, where the objective has a KL term."""
        if self.reference is None:
            return None
        out = torch.zeros_like(seqs.old_logp)
        for index in torch.arange(len(seqs.ids), device=self.device).split(self.config.train.micro_rows):
            part = seqs.rows(index)
            out[index, : part.tokens.shape[1]] = self.score(self.reference, part)[0]
        return out

    def score(self, model: Any, part: Sequences) -> tuple[Tensor, Tensor]:
        """[r, T] log-probabilities and entropies of the completions under a model."""
        return completion_logp(model, part.ids, part.at, part.tokens, self.config.rollout.temperature)

    def forward(self, batch: MicroBatch) -> Tensor:
        """The micro-batch's part of the minibatch's loss."""
        objective, part = self.config.objective, batch.sequences
        logp, entropy = self.score(self.policy, part)
        ratio = importance_ratio(logp, part.old_logp)
        loss = clipped_loss(ratio, batch.advantage, objective.clip_low, objective.clip_high)
        kl = None
        if batch.reference_logp is not None:
            kl = kl_k3(logp, batch.reference_logp)
            loss = loss + objective.kl * kl
        self.metrics.add_tokens(part, logp, entropy, ratio, kl)
        self.metrics.add_mean(
            "clip_fraction", is_clipped(ratio, batch.advantage, objective.clip_low, objective.clip_high), part
        )
        return (loss * batch.weight).sum()

    def set_learning_rate(self, step: int) -> None:
        """Linear warm-up, then constant: a function of the step, so that a resumed run needs no scheduler."""
        train = self.config.train
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = train.lr * min(1.0, (step + 1) / (train.warmup + 1))

    def report(self, step: int, rollout: Rollout, reward: Tensor) -> None:
        """Reduce the step's metrics over processes, log them, and keep them."""
        self.metrics.add_rollout(rollout, reward)
        row = {"step": float(step + 1), **self.metrics.reduce(self.trainer.strategy)}
        self.history.append(row)
        self.log_dict({f"train/{k}": v for k, v in row.items() if k != "step"}, rank_zero_only=True, sync_dist=False)
        self.log("reward", row["reward"], prog_bar=True, logger=False, rank_zero_only=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        train = self.config.train
        return torch.optim.AdamW(self.policy.parameters(), lr=train.lr, weight_decay=train.weight_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    def teardown(self, stage: str) -> None:
        self.grader.close()
