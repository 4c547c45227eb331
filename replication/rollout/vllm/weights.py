"""The trainer's weights into a live vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SMALL = 1 << 16  # elements of a weight that is compared after the push
BASE, ADAPTERS = ".base_layer.", (".lora_A.", ".lora_B.")


def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every weight of the plain model: adapters are added to theirs, out of place."""
    layers = dict(model.named_modules())
    for name, weight in model.named_parameters():  # a tied one once
        if any(part in name for part in ADAPTERS):
            continue
        value = weight.detach()
        if BASE in name:
            owner, _, kind = name.rpartition(BASE)
            if kind == "weight":
                value = value + layers[owner].get_delta_weight("default").to(value.dtype)
            name = f"{owner}.{kind}"
        yield name, value


@torch.no_grad()
def push(model: Any, llm: Any) -> None:
    """Load the model's weights, and forget every prefix that was cached under the old ones.

    Raises:
        RuntimeError: some weight of vLLM's did not get a value, or did not take it.
    """
    sent = dict(plain_weights(model))

    def load(worker: Any) -> set[str]:
        theirs = worker.model_runner.model
        taken = set(theirs.load_weights(iter(sent.items())) or ())
        own = dict(theirs.named_parameters())
        wrong = {
            name
            for name, value in sent.items()
            if name in own
            and own[name].shape == value.shape
            and value.numel() <= SMALL
            and not torch.equal(own[name].cpu(), value.to(own[name].dtype).cpu())
        }
        return (set(own) - taken if taken else set()) | wrong

    for missing in llm.collective_rpc(load):
        if missing:
            raise RuntimeError(f"vLLM did not take {len(missing)} weights, {sorted(missing)[0]} among them")
    if not llm.reset_prefix_cache():
        raise RuntimeError("vLLM kept prefixes that were cached under the old weights: a request is unfinished")
