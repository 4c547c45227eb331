"""The plain model that a policy with LoRA's adapters stands for: y = (W + (alpha / r) B A) x."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

NAME = "default"  # of the adapter, as peft calls it
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
                value = value + layers[owner].get_delta_weight(NAME).to(value.dtype)
            name = f"{owner}.{kind}"
        yield name, value


class Merged:
    """The adapters of a model's linear layers, added to copies of their weights: a forward pass is the plain model's,
    of half as many operations. The weights themselves are put back as they were, bit for bit."""

    def __init__(self, model: Any):
        self.layers: list[tuple[Any, Tensor]] = []  # with the weight's own values
        for layer in model.modules():
            if hasattr(layer, "merged_adapters") and isinstance(layer.base_layer, nn.Linear) and not layer.merged:
                self._merge(layer, layer.base_layer.weight)

    @torch.no_grad()
    def _merge(self, layer: Any, weight: nn.Parameter) -> None:
        self.layers.append((layer, weight.data))
        weight.data = weight.data + layer.get_delta_weight(NAME).to(weight.dtype)
        layer.merged_adapters.append(NAME)  # its forward pass leaves them out

    def undo(self) -> None:
        """Put the weights back."""
        for layer, values in self.layers:
            layer.base_layer.weight.data = values
            layer.merged_adapters.clear()
        self.layers.clear()
