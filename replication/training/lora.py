"""LoRA (Hu et al. 2021): low-rank adapters are trained in place of the weights, and merged into them at the end.

The policy stays the transformers model it is, with other linear layers inside, so that whatever rolls it out, scores it
or looks into its attention knows nothing of adapters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from replication.config import PolicyConfig
from replication.rollout.adapters import NAME
from replication.seeds import seed_for


def add_adapters(policy: Any, config: PolicyConfig, seed: int) -> None:
    """Freeze the policy and give every linear layer of its blocks an adapter: y = W x + (alpha / r) B A x.

    B [out, r] starts at 0. A [r, in] is uniform in ±1/sqrt(in), peft's and Hu et al.'s choice, but drawn from (seed,
    name of the layer): every process has the same, whatever was drawn before. There is no dropout, which would make the
    trainer disagree with the sampler.

    Args:
        policy: a transformers causal LM; changed in place. Embeddings and output head get no adapter, nor do
            routers of experts that are linear layers and give more than a product.
        config: rank and alpha.
        seed: of the run.
    """
    routers = [n for n, m in policy.named_modules() if isinstance(m, nn.Linear) and "Router" in type(m).__name__]
    settings = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules="all-linear", exclude_modules=routers or None
    )
    inject_adapter_in_model(settings, policy, NAME)
    for name, layer in adapted(policy):
        a = layer.lora_A[NAME].weight
        generator = torch.Generator().manual_seed(seed_for(seed, "lora", name))
        drawn = torch.empty(a.shape).uniform_(-1, 1, generator=generator)
        with torch.no_grad():
            a.copy_(drawn / math.sqrt(a.shape[1]))


def adapted(policy: Any) -> list[tuple[str, LoraLayer]]:
    """The layers that have an adapter, by name."""
    return [(name, layer) for name, layer in policy.named_modules() if isinstance(layer, LoraLayer)]


def merge_adapters(policy: Any) -> None:
    """Add the adapters to their weights and take them out: the policy is the plain model again, in place."""
    layers = adapted(policy)
    for _, layer in layers:
        layer.merge()
    for name, layer in layers:
        if not name.endswith(".base_layer"):  # of a module of several weights, experts say, each adapter wraps the next
            policy.set_submodule(name, layer.get_base_layer())
    del policy.peft_config  # what peft left on the model
