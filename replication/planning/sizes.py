"""The shape of a policy, from its configuration alone: its sizes, and a model of that shape with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Qwen3Config
from transformers.integrations.heterogeneity import AmbiguousGlobalPerLayerAttributeError

from replication.config import PolicyConfig
from replication.errors import UserError
from replication.policy import small_model, small_tokenizer
from replication.rollout.masks import refuse_unsupported, text_config

QWEN3 = {
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
}
HUB: dict[str, dict[str, Any]] = {  # the models of params.yaml, so that their plan needs no network
    "Qwen/Qwen3-4B": {**QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "tie_word_embeddings": True},
    "Qwen/Qwen3-8B": {**QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False},
}


@dataclass(frozen=True)
class Sizes:
    """What the plan needs to know of an architecture; numbers of elements, not bytes."""

    parameters: int  # all weights, a tied head once
    read: int  # weights that a token's forward pass reads: all but an embedding that is not the head too
    linear: int  # weights of the blocks' linear layers
    largest: int  # of the largest tensor: embedding or head
    adapters: int  # weights of LoRA adapters of the configured rank on the blocks' linear layers
    layers: int
    hidden: int  # D
    heads: int  # H
    kv_heads: int  # K
    head_dim: int  # d
    ffn: int  # I
    vocabulary: int  # V
    qk_norm: bool  # queries and keys are normalised, as in Qwen3


def architecture(policy: PolicyConfig) -> PretrainedConfig:
    """The configuration of a pretrained policy: of a local folder, of the table above, or of the hub.

    Raises:
        UserError: no such folder, or a hub id that is not in the table and cannot be reached.
    """
    name = str(policy.pretrained)
    if name in HUB:
        return Qwen3Config(**HUB[name])
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise UserError(f"{name} holds no config.json, so it is no checkpoint: name the folder of a model")
    try:
        return AutoConfig.from_pretrained(name, revision=policy.revision)
    except Exception as error:  # noqa: BLE001 - transformers raises whatever a damaged file leads to
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the architecture of {name} cannot be read ({first}): name a folder with its config.json, run this where "
            f"the hub can be reached, or plan one of {', '.join(HUB)}"
        ) from None


def random_model(policy: PolicyConfig) -> Any:
    """A model of the policy's architecture with random float32 weights.

    Raises:
        UserError: the architecture cannot be read, or is none of a causal LM.
    """
    if policy.pretrained is None:
        return small_model(policy, small_tokenizer(), seed=0)
    try:
        return AutoModelForCausalLM.from_config(architecture(policy), dtype=torch.float32)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        first = " ".join(str(error).split())
        raise UserError(
            f"{policy.pretrained} is no causal LM that transformers can build ({first}): plan another"
        ) from None


def sizes_of(policy: PolicyConfig) -> Sizes:
    """Sizes of the policy that the settings name; its weights are neither read nor allocated."""
    with torch.device("meta"):
        model = random_model(policy)
    config = text_config(model)
    refuse_unsupported(model)
    if not isinstance(getattr(config, "intermediate_size", None), int):
        raise UserError(f"there is no plan for {config.model_type}: its configuration names no one intermediate_size")
    try:
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    except AmbiguousGlobalPerLayerAttributeError:
        raise UserError(f"there is no plan for {config.model_type}: the heads of its layers differ") from None
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings().weight
    parameters = sum(p.numel() for p in model.parameters())
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return Sizes(
        parameters=parameters,
        read=parameters - (0 if embedding is head.weight else embedding.numel()),
        linear=sum(m.weight.numel() for m in layers),
        largest=max(p.numel() for p in model.parameters()),
        adapters=sum(policy.lora_rank * (m.in_features + m.out_features) for m in layers),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=config.intermediate_size,
        vocabulary=config.vocab_size,
        qk_norm=any(name.endswith("q_norm") for name, _ in model.named_modules()),
    )
