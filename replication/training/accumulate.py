"""One optimizer step from several micro-batches, the same on one device, under DDP and under DeepSpeed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from replication.training.batch import MicroBatch


def optimizer_step(module: Any, batches: Sequence[MicroBatch], grad_clip: float) -> Tensor:
    """Accumulate the gradients of the micro-batches' losses, clip, and step.

    A micro-batch's loss is its part of the sum over the whole minibatch of all processes (`objectives.normalise`).
    DDP and DeepSpeed average gradients over processes, so the loss is multiplied by their number to make it a sum.
    DeepSpeed must be told which backward is the last before the step, each forward must go through its engine, and it
    clips by itself (its `gradient_clipping` is set in `training.strategy`).

    Args:
        module: the LightningModule; its `forward` returns the loss of a micro-batch.
        batches: the micro-batches of this process, the same number on every process.
        grad_clip: largest gradient norm; 0 does not clip.

    Returns:
        The minibatch's loss on this process, its part of the sum.
    """
    optimizer, wrapped = module.optimizers(), module.trainer.strategy.model
    deepspeed = hasattr(wrapped, "set_gradient_accumulation_boundary")
    world = module.trainer.world_size
    total = torch.zeros((), device=module.device)
    if not deepspeed:
        optimizer.zero_grad()
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        if deepspeed:
            wrapped.set_gradient_accumulation_boundary(last)
        elif hasattr(wrapped, "require_backward_grad_sync"):
            wrapped.require_backward_grad_sync = last  # DDP's no_sync
        loss = wrapped(batch) if deepspeed else module(batch)
        module.manual_backward(loss * world)
        total += loss.detach()
    if grad_clip and not deepspeed:
        torch.nn.utils.clip_grad_norm_(module.policy.parameters(), grad_clip)
    optimizer.step()
    return total
