"""Attention masks for rows of unequal length, and the models whose attention can be rolled back."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from replication.errors import UserError

KINDS = {"full_attention", "sliding_attention"}
SCALED = {"longrope", "dynamic"}  # rotary positions whose scale follows the largest position of a pass


def attention_mask(config: PretrainedConfig, positions: Tensor, live: int) -> Tensor | dict[str, Tensor]:
    """What each fed token may attend to: itself and what lies before it, as far as the layer's window reaches.

    Args:
        config: the model's configuration.
        positions: [r, q] positions of the tokens that are fed.
        live: cache entries of a row that the pass reads.

    Returns:
        [r, 1, q, live]: boolean, or for eager attention 0 and the least number, to be added to the scores; a mask for
        each kind of layer where a model has several kinds.
    """
    keys, queries = torch.arange(live, device=positions.device), positions[:, None, :, None]
    past = keys <= queries

    def ready(allowed: Tensor) -> Tensor:
        if config._attn_implementation != "eager":
            return allowed
        least = torch.finfo(config.dtype or torch.float32).min
        return torch.zeros(allowed.shape, dtype=config.dtype, device=keys.device).masked_fill(~allowed, least)

    kinds = getattr(config, "layer_types", None)
    window = window_of(config)
    if kinds is None:  # one kind for all layers: Llama's, or Mistral's with a window
        return ready(past if window is None else past & (keys > queries - window))
    if "sliding_attention" not in kinds:
        return ready(past)
    return {"full_attention": ready(past), "sliding_attention": ready(past & (keys > queries - window))}


def window_of(config: PretrainedConfig) -> int | None:
    """Tokens that a sliding layer sees, or None.

    A key of config.json that the model's class does not know is no window: its forward pass does not read it.
    """
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return getattr(config, "sliding_window", None) if slides or hasattr(type(config), "sliding_window") else None


def cut_mask(masks: Tensor | dict[str, Tensor], query: int, live: int) -> Tensor | dict[str, Tensor]:
    """The part of an `attention_mask` that is of one query and the first `live` entries, as a view."""
    if isinstance(masks, dict):
        return {kind: mask[:, :, query : query + 1, :live] for kind, mask in masks.items()}
    return masks[:, :, query : query + 1, :live]


def text_config(model: Any) -> PretrainedConfig:
    """The configuration of the language model, which is part of the whole one where a model also sees or hears."""
    config: PretrainedConfig = model.config.get_text_config(decoder=True)
    return config


def decoder_of(model: Any) -> Any:
    """The module whose hidden states a causal LM turns into logits; for some it is a part of its base model."""
    found = model.get_decoder()
    return model.base_model if found in (model, model.get_output_embeddings()) else found


def embedded(model: Any) -> int:
    """How many ids the model can read."""
    return int(model.get_input_embeddings().weight.shape[0])


def cache_name(model: Any) -> str:
    """The argument that takes a model's cache: `cache` since transformers 5.24."""
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


def positions(model: Any) -> int:
    """How many positions the model can take: of some there is no end."""
    return int(getattr(text_config(model), "max_position_embeddings", None) or 2**31)


def refuse_unsupported(model: Any) -> None:
    """Raise a `UserError` for models whose past is anything but a cache of keys and values that a mask can cut."""
    config = text_config(model)
    takes = inspect.signature(type(model).forward).parameters
    other = set(getattr(config, "layer_types", None) or ()) - KINDS
    rotary = getattr(config, "rope_parameters", None) or {}
    scaled = SCALED & {kind.get("rope_type") for kind in (rotary, *rotary.values()) if isinstance(kind, dict)}
    why = None
    if getattr(config, "is_encoder_decoder", False):
        why = "is an encoder-decoder"
    elif config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and getattr(config, "is_decoder", True) is False:
        why = "is an encoder"
    elif getattr(model, "_is_stateful", False):
        why = "carries a recurrent state, which cannot be rolled back"
    elif other:
        why = f"has {', '.join(sorted(other))} layers"
    elif scaled:
        why = f"scales its positions ({', '.join(sorted(scaled))}) by the longest row of a batch"
    elif hasattr(config, "attention_layers"):  # GPT-Neo
        why = "cuts windows by itself, from the end of the longest row"
    elif "position_ids" not in takes or getattr(config, "alibi", False):
        why = "takes no position_ids, so that rows of unequal length cannot share a batch"
    elif cache_name(model) not in takes:
        why = "keeps no keys and values"
    elif config._attn_implementation not in ("sdpa", "eager"):
        why = f"runs {config._attn_implementation}, which takes no mask: load it with attn_implementation='sdpa'"
    if why:
        raise UserError(f"{config.model_type} {why}: erasable rollouts need a causal LM with full or sliding attention")
