"""The trainer's weights into a live vLLM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from replication.rollout.adapters import plain_weights


@torch.no_grad()
def push(model: Any, llm: Any) -> None:
    """Load the model's weights, and forget every prefix that was cached under the old ones.

    Raises:
        RuntimeError: some weight of vLLM's did not get a value, or did not take it.
    """
    sent = revert_weight_conversion(model, dict(plain_weights(model)))  # named as in a checkpoint

    def load(worker: Any) -> list[str]:
        theirs = worker.model_runner.model
        taken = set(theirs.load_weights(iter(sent.items())) or ())
        own = dict(theirs.named_parameters())
        return sorted((set(own) - taken) | changed(own, sent, getattr(theirs, "packed_modules_mapping", {})))

    for missing in llm.collective_rpc(load):
        if missing:
            raise RuntimeError(f"vLLM did not take {len(missing)} weights, {missing[0]} among them")
    if not llm.reset_prefix_cache():
        raise RuntimeError("vLLM kept prefixes that were cached under the old weights: a request is unfinished")


def changed(own: Mapping[str, Tensor], sent: Mapping[str, Tensor], fused: Mapping[str, Sequence[str]]) -> set[str]:
    """Names of weights that do not hold what was sent, by their sums: vLLM may turn them, or fill them up with zeros.

    Args:
        own: vLLM's weights.
        sent: the model's. What has another name there is not compared.
        fused: module of vLLM's -> modules of the model's that it holds one after the other.
    """
    wrong = set()
    for name, weight in own.items():
        owner, _, kind = name.rpartition(".")
        above, _, module = owner.rpartition(".")
        parts = [f"{above}.{part}.{kind}".lstrip(".") for part in fused.get(module, [module])]
        if all(part in sent for part in parts):
            want = sum(total(sent[part].to(weight.dtype)) for part in parts)
            if not math.isclose(total(weight), want, rel_tol=1e-9, abs_tol=1e-6) and math.isfinite(want):
                wrong.add(name)
    return wrong


def total(weight: Tensor) -> float:
    """The sum of a weight's numbers, in float64."""
    return float(weight.sum(dtype=torch.float64))
