"""A tiny model of any causal LM family of transformers, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

from replication.policy import ALPHABET

LARGEST = 20_000_000  # weights
WIDTH, BLOCKS, HEADS, KV_HEADS, FFN, POSITIONS, EXPERTS = 32, 2, 4, 2, 48, 256, 4
SIZE: dict[str, Any] = {  # every name that some family has for a size
    "vocab_size": len(ALPHABET), "vocab_size_per_layer_input": len(ALPHABET), "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": 2, "decoder_start_token_id": 2, "sep_token_id": 2,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "word_embed_proj_dim", "emb_dim",
                     "projection_dim", "out_hidden_size", "vision_output_dim"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "encoder_layers",
                     "num_decoder_layers", "num_encoder_layers", "num_block_layers"), BLOCKS),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads",
                     "encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "kv_n_heads"), KV_HEADS),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim",
                     "ffn_hidden_size", "dim_ff", "feed_forward_size"), FFN),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), POSITIONS),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), EXPERTS),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size",
                     "shared_intermediate_size",
                     "q_lora_rank", "kv_lora_rank", "hidden_size_per_layer_input"), 16),
    **dict.fromkeys(("head_dim", "rotary_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "depth"), 1),
    "initializer_range": 0.3,  # uneven distributions, so that samples and uncertainties differ
    "sliding_window": 6, "qk_head_dim": 16, "image_size": 16, "patch_size": 8, "num_channels": 3,
}  # fmt: skip
_SAME_HEADS = {"num_key_value_heads": HEADS}
_KINDS = ["sliding_attention", "full_attention"] * 2
_SHARED_KEYS = {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8}
EXTRA: dict[str, dict[str, Any]] = {  # what a family asks for beside sizes
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note_text", "glm4_moe_lite",
                     "glm_moe_dsa", "longcat_flash", "youtu"), _SAME_HEADS),
    "bamba": _MAMBA, "granitemoehybrid": _MAMBA,
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": {**_SAME_HEADS, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": EXPERTS, "num_experts_per_tok": 2},
    "dots3_note": {"text_config": _SAME_HEADS},
    **dict.fromkeys(("gemma3n_text", "gemma4_text"), _SHARED_KEYS),
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8}, "ministral": {"head_dim": 8},
    **{family: {"layer_types": ["conv", "full_attention"]} for family in ("lfm2", "lfm2_moe")},
    **{key: {"sliding_window": 6} for key in ("phi3", "phimoe", "starcoder2", "ministral3", "phi4_multimodal")},
    "mamba2": {"num_heads": 8},
    "minicpm3": {**_SAME_HEADS, "dim_model_base": WIDTH},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "zamba": {"layers_block_type": ["mamba", "hybrid"]}, "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


class NoTinyModel(Exception):
    """The family cannot be built here, and why."""


def tiny_config(config_class: Any, extra: dict[str, Any]) -> PretrainedConfig:
    """The family's configuration, with every size small and the rest as its makers have it."""
    default = config_class()
    there = default.to_dict()
    sizes = {
        key: value
        for key, value in SIZE.items()
        if key in there and (there[key] is not None or key.endswith(("token_id", "key_value_heads")))
    }
    for name in config_class.sub_configs:
        part = getattr(default, name, None)
        if isinstance(part, PretrainedConfig) and not isinstance(part, AutoConfig):
            sizes[name] = tiny_config(type(part), extra.get(name, {}))
    return config_class(**{**sizes, **{key: value for key, value in extra.items() if value is not None}})


def tiny_model(family: str) -> Any:
    """A causal LM of the family, by transformers' model_type.

    Raises:
        NoTinyModel: it needs a package that is missing, or sizes that are not known here.
    """
    torch.manual_seed(0)
    try:
        config = tiny_config(CONFIG_MAPPING[family], EXTRA.get(family, {}))
        with torch.device("meta"):
            weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
        if weights > LARGEST:
            raise NoTinyModel(f"{weights:,} weights when every known size is small")
        return AutoModelForCausalLM.from_config(config).eval()
    except NoTinyModel:
        raise
    except Exception as error:
        raise NoTinyModel(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
