"""Fused kernels of liger-kernel in place of transformers' own: norms, feed-forward layers, rotary positions.

The logits need none: they are made in chunks, and made again in the backward pass (`logprobs`).
"""

from __future__ import annotations

from typing import Any

from transformers.integrations.liger import apply_liger_kernel

from replication.errors import UserError

LEFT_OUT = {"cross_entropy": False, "fused_linear_cross_entropy": False}  # of a loss that is not ours


def use_liger(model: Any) -> None:
    """Give a causal LM liger-kernel's forward and backward passes, in place; models of its kind that are loaded later
    have them, too. They are Triton's: for tensors on a GPU.

    Raises:
        UserError: liger-kernel has none for this kind of model.
    """
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN  # the extra `liger`

    kind = model.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise UserError(f"trainer.kernels liger: liger-kernel has no kernels for {kind}: leave it at torch")
    apply_liger_kernel(model, LEFT_OUT)
