"""E3RL as a LightningModule: one `training_step` is one rollout and all the updates on it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from replication.config import Config
from replication.credit.allocation import answer_attention, segment_mass
from replication.credit.assign import assign_credit
from replication.data.module import Batch
from replication.data.sources import Problem
from replication.grading.pool import Grader
from replication.grading.rates import check_rates
from replication.objectives.correction import correction_of
from replication.objectives.normalise import loss_weights
from replication.objectives.objective import token_loss
from replication.rollout.masks import positions
from replication.rollout.policy import Policy
from replication.rollout.threshold import running_baseline
from replication.rollout.trace import Rollout
from replication.training.accumulate import optimizer_step
from replication.training.batch import MicroBatch, Sequences, Widths, idle, micro_batches, sequences
from replication.training.guard import check_history, check_known, check_weights, not_finite
from replication.training.logprobs import chunks, completion_logp
from replication.training.metrics import StepMetrics
from replication.training.sampler import Sampler
from replication.training.samples import log_samples, sample_rows
from replication.training.strategy import whole_weights


class E3RLModule(L.LightningModule):
    """The policy and everything that is done to it.

    Args:
        config: the run's settings.
        policy: a transformers causal LM.
        tokenizer: its tokenizer.
        problems: all training problems.
        seed: of the samples.
        heldout: problems of the validation, if there is one.
    """

    def __init__(
        self,
        config: Config,
        policy: Any,
        tokenizer: Any,
        problems: Sequence[Problem],
        seed: int,
        heldout: Sequence[Problem] = (),
    ):
        super().__init__()
        self.automatic_optimization = False
        self.config, self.policy, self.tokenizer = config, policy, tokenizer
        self.reference = copy.deepcopy(policy).requires_grad_(False) if config.objective.kl else None
        self.grader = Grader.of(config.grading)
        self.metrics = StepMetrics()
        writer = Policy.of(policy, tokenizer, config.policy.thinking, config.rollout, [*problems, *heldout])
        self.sampler = Sampler(config, writer, problems, heldout, seed, self.grader, self.metrics)
        self.head_calls = 1  # of each micro-batch's forward pass: the same number on every process
        self.running: Tensor | None = None  # [N] running baseline of the erasure, in nats
        self.history: list[dict[str, float]] = []  # one row a step; saved with the checkpoint
        self.doing = "first step"  # phase and step, for the watchdog

    def train(self, mode: bool = True) -> E3RLModule:
        """Stay in eval mode, whoever asks: what is random in training mode is of another policy than sampled."""
        super().train(False)
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Roll out, grade, give credit, and update on every minibatch."""
        step, slots, indices = batch  # this process's share of the step's problems
        self.doing = f"rollout of step {step + 1}"
        with whole_weights(self.trainer.strategy):
            rollout, correct = self.sampler.step(step, slots, indices, self.running)  # verdicts are [P, G]
            widths = Widths(self.config.train.width_multiple, positions(self.policy))
            seqs = sequences(rollout, self.tokenizer.pad_token_id, self.config.credit.negatives, widths)
            lost = (seqs.token_mask & ~seqs.known).sum()
            self.metrics.add_total("dropped_logp", float(lost))
            dropped, scored = self.added(lost, seqs.token_mask.sum())
            check_known(dropped, scored, step + 1)
            advantage = self.credit(rollout, seqs, correct)  # [r, T]
            reference, before = self.reference_logp(seqs), self.trainer_logp(seqs)
        if self.trainer.loggers and self.global_rank == 0 and step % self.config.train.checkpoint_every == 0:
            log_samples(self.trainer.loggers, sample_rows(step + 1, rollout, correct, self.tokenizer))

        self.doing = f"update of step {step + 1}"
        train, g = self.config.train, rollout.group_size
        minibatch_of = (torch.arange(len(slots), device=self.device) % train.minibatches)[seqs.owner // g]  # [r]
        weight = self.loss_weight(seqs, minibatch_of)  # [r, T]
        self.set_learning_rate(step)
        for _ in range(train.epochs):
            for minibatch in range(train.minibatches):
                rows = (minibatch_of == minibatch).nonzero().squeeze(1)
                parts = list(micro_batches(rows, train.micro_rows, seqs, advantage, weight, reference, before))
                parts += [idle(parts[0])] * (self.most(len(parts)) - len(parts))
                self.head_calls = self.most(max(chunks(self.policy, part.sequences.tokens) for part in parts))
                loss = optimizer_step(self, parts, train.grad_clip)
                self.metrics.before_update = False
                self.metrics.add("loss", loss, 1 / self.trainer.world_size)
        self.update_running_baseline(rollout)
        check_weights(self.most(not_finite(self.policy.parameters())), step + 1)
        self.report(step)

    def credit(self, rollout: Rollout, seqs: Sequences, correct: Tensor) -> Tensor:
        """[r, T] advantage of every token that is trained on."""
        settings, t = self.config.credit, seqs.tokens.shape[1]
        look_back = settings.advantage == "segment" and settings.allocation == "attention"
        mass = self.answer_mass(rollout, seqs) if look_back else None
        members, erased, shares = assign_credit(settings, rollout, correct, mass)  # [R, N], [P, N], [R, N]
        self.metrics.add_allocation_spread(rollout, shares)
        advantage = members.gather(1, rollout.segment_of[:, :t].clamp(min=0))
        if seqs.erased.any():
            group = torch.tensor([a.row // rollout.group_size for a in rollout.attempts], device=self.device)
            segment = torch.tensor([a.segment for a in rollout.attempts], device=self.device)
            advantage = torch.cat([advantage, erased[group, segment][:, None].expand(-1, t)])
        return advantage

    def loss_weight(self, seqs: Sequences, minibatch_of: Tensor) -> Tensor:
        """[r, T] weight of each token's loss in its minibatch, over all processes.

        A token of an erased attempt weighs as one of the completion that it was erased from [O]. One whose
        log-probability is not finite weighs nothing, but counts.
        """
        train, rollout = self.config.train, self.config.rollout
        mask = seqs.token_mask & ~seqs.erased[:, None]
        tokens = torch.zeros(train.minibatches, device=self.device).index_add(0, minibatch_of, mask.sum(1).float())
        tokens = self.trainer.strategy.reduce(tokens, reduce_op="sum")  # of each minibatch
        weight = loss_weights(
            mask,
            self.config.objective.aggregate,
            rows=train.prompts * rollout.group_size // train.minibatches,
            tokens=tokens[minibatch_of][:, None],
            longest=rollout.segments * rollout.segment_tokens,
        )
        return weight.amax(1)[seqs.owner, None] * seqs.known

    def most(self, count: int) -> int:
        """The largest of a number over all processes."""
        found = torch.tensor(float(count), device=self.device)
        return int(self.trainer.strategy.reduce(found, reduce_op="max"))

    def added(self, *counts: Tensor) -> list[float]:
        """Numbers, each summed over all processes."""
        found: list[float] = self.trainer.strategy.reduce(torch.stack(counts).double(), reduce_op="sum").tolist()
        return found

    def update_running_baseline(self, rollout: Rollout) -> None:
        """Where the erasure's baseline runs over the steps: take this step's first attempts in."""
        if self.config.erasure.baseline != "running":
            return
        u = rollout.first_u
        sums = torch.stack([u.nansum(0), u.square().nansum(0), (~u.isnan()).sum(0)])  # [3, N]
        total, squares, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        mean = total / count  # nan where nobody reached the segment
        now = mean + self.config.erasure.kappa * (squares / count - mean.square()).clamp(min=0).sqrt()
        self.running = running_baseline(self.running, now)

    def answer_mass(self, rollout: Rollout, seqs: Sequences) -> Tensor:
        """[R, N] attention mass that the last segment puts on each segment."""
        masses = []
        t, segment_of = seqs.tokens.shape[1], rollout.segment_of
        for index in torch.arange(len(rollout.length), device=self.device).split(self.config.train.micro_rows):
            last = rollout.start[index].gather(1, rollout.segments[index, None] - 1).squeeze(1)
            offset = seqs.at[index, 0]  # where the completion starts
            queries = offset + last, offset + rollout.length[index]
            on_position = answer_attention(self.policy, seqs.ids[index], *queries)
            on_token = on_position.gather(1, seqs.at[index])  # [r, T]
            masses.append(segment_mass(on_token, segment_of[index, :t], rollout.erasures.shape[1]))
        return torch.cat(masses)

    def reference_logp(self, seqs: Sequences) -> Tensor | None:
        """[R, T] log-probabilities under the policy before RL, where the objective has a KL term."""
        return None if self.reference is None else self.logp_before(self.reference, seqs)

    def trainer_logp(self, seqs: Sequences) -> Tensor | None:
        """[R, T] log-probabilities under the policy before the step's updates, where a correction cannot do without."""
        return self.logp_before(self.policy, seqs) if self.config.scores_first else None

    @torch.no_grad()
    def logp_before(self, model: Any, seqs: Sequences) -> Tensor:
        """[R, T] log-probabilities under a model, before the updates."""
        out = torch.zeros_like(seqs.old_logp)
        for index in torch.arange(len(seqs.ids), device=self.device).split(self.config.train.micro_rows):
            part = seqs.rows(index)
            out[index, : part.tokens.shape[1]] = self.score(model, part)[0]
        return out

    def score(self, model: Any, part: Sequences) -> tuple[Tensor, Tensor]:
        """[r, T] log-probabilities and entropies of the completions under a model."""
        temperature = self.config.rollout.temperature
        return completion_logp(model, part.ids, part.at, part.tokens, temperature, self.head_calls)

    def forward(self, batch: MicroBatch) -> Tensor:
        """The micro-batch's part of the minibatch's loss."""
        part = batch.sequences
        logp, entropy = self.score(self.policy, part)
        old, correction, weight = part.old_logp, None, None
        if self.config.correction != "none":
            old = logp.detach() if batch.trainer_logp is None else batch.trainer_logp
            correction = correction_of(self.config.correction, self.config.objective, old, part.old_logp)
            weight = correction.weight
        out = token_loss(self.config.objective, logp, old, batch.advantage, part.known, batch.reference_logp, weight)
        self.metrics.add_tokens(part, logp, entropy, old, out, correction)
        return (out.loss * batch.weight).sum()

    def set_learning_rate(self, step: int) -> None:
        """A linear warm-up, then a linear fall to `lr_end`: a function of the step, so that a resumed run needs no
        scheduler."""
        train = self.config.train
        fallen = max(0, step - train.warmup) / max(1, train.steps - 1 - train.warmup)  # from 0 to 1
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = train.lr * min(1.0, (step + 1) / (train.warmup + 1)) * (1 - (1 - train.lr_end) * fallen)

    def report(self, step: int) -> None:
        """Validate if it is time; reduce the step's metrics over processes, log them, and keep them."""
        train = self.config.train
        if train.validate_every and (step + 1) % train.validate_every == 0:
            self.doing = f"validation after step {step + 1}"
            with whole_weights(self.trainer.strategy):
                self.sampler.validate(self.sampler.heldout[self.global_rank :: self.trainer.world_size])
        row = {"step": float(step + 1), **self.metrics.reduce(self.trainer.strategy)}
        rates = row["verdict/no_answer"], row["verdict/timed_out"]
        check_rates(self.config.grading, train.prompts * self.config.rollout.group_size, *rates, f"step {step + 1}")
        self.history.append(row)
        check_history(train, self.history, self.config.trainer.precision)
        self.log_dict({f"train/{k}": v for k, v in row.items() if k != "step"}, rank_zero_only=True, sync_dist=False)
        self.log("reward", row["reward"], prog_bar=True, logger=False, rank_zero_only=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [weight for weight in self.policy.parameters() if weight.requires_grad]  # with LoRA, the adapters
        train, fused = self.config.train, True if self.config.trainer.offload != "none" else None
        return torch.optim.AdamW(trained, lr=train.lr, weight_decay=train.weight_decay, fused=fused)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"], checkpoint["running"] = self.history, self.running

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.running = checkpoint["history"], checkpoint["running"]

    def teardown(self, stage: str) -> None:
        self.grader.close()
