"""What stops a training that has gone wrong, before it costs days."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from replication.config import TrainConfig
from replication.errors import UserError

MOST_DROPPED = 0.5
"""Largest share of a step's tokens whose log-probability when sampled is not finite"""


def not_finite(weights: Iterable[torch.nn.Parameter]) -> int:
    """How many of the weight tensors hold a nan or an infinity; of ZeRO-3's, in this process's share."""
    return sum(not getattr(w, "ds_tensor", w).isfinite().all() for w in weights)


def check_weights(broken: int, step: int) -> None:
    """Raise a `UserError` where weight tensors are not finite after a step, before they are saved."""
    if broken:
        raise UserError(
            f"step {step}: {broken} weight tensors hold nan or infinity; no checkpoint has them, but the same command "
            "would end here again: lower train.lr or set train.grad_clip, and start anew with --fresh"
        )


def check_known(dropped: float, scored: float, step: int) -> None:
    """Raise a `UserError` where most of a step's tokens have no finite log-probability, before it trains on the rest.

    Args:
        dropped: tokens of all processes without one.
        scored: all that would be trained on.
        step: counted from 1.
    """
    if dropped > MOST_DROPPED * scored:
        raise UserError(
            f"step {step}: {dropped:,.0f} of {scored:,.0f} sampled tokens have a log-probability that is nan or "
            f"infinite, more than {MOST_DROPPED:.0%}: too little is left to train on; start anew (--fresh) with "
            "trainer.precision 32 or another rollout.engine"
        )


def check_history(train: TrainConfig, history: Sequence[dict[str, float]], precision: str = "bf16") -> None:
    """Raise a `UserError` where the last of the steps shows a run that learns nothing any more.

    Args:
        train: the limits.
        history: metrics by name, one row a step; the same on every process, so that all stop.
        precision: `trainer.precision`.
    """
    row = history[-1]
    step = int(row["step"])
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"step {step}: {bad[0]} is {row[bad[0]]}: lower train.lr or look at the data of that step, and start anew "
            "with --fresh; checkpoints are from before"
        )
    if row["mismatch"] > train.max_mismatch:
        cause = (
            "in float32 this is no rounding: this model samples long texts otherwise than it scores them; use another"
            if precision == "32"
            else "in float32 they agreed before the first step, so the difference is rounding: raise the limit and run "
            "the same command to go on, or start anew (--fresh) with trainer.precision 32"
        )
        raise UserError(
            f"step {step}: sampler and trainer differ by {row['mismatch']:.3g} nats a token, more than "
            f"train.max_mismatch = {train.max_mismatch:g}: the gradient is of other samples than were drawn; {cause}"
        )
    if row["truncated"] > train.max_truncated:
        raise UserError(
            f"step {step}: {row['truncated']:.1%} of the completions were cut off at their longest length, more than "
            f"train.max_truncated = {train.max_truncated:g}: raise the limit and run the "
            "same command to go on, or start anew (--fresh) with more rollout.segments or rollout.segment_tokens"
        )
    limit = train.max_silent_steps
    if limit and len(history) >= limit and all(r["groups_without_signal"] == 1 for r in history[-limit:]):
        raise UserError(
            f"step {step}: no group's rewards have differed for {limit} steps (train.max_silent_steps), the last "
            f"ones {row['reward']:.3g} on average: nothing is learned; raise the limit and run the same command "
            "to go on, or start anew (--fresh) with easier or harder problems or a larger rollout.group_size"
        )
