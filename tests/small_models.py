"""Small real models with random weights."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

SIZE = {
    "vocab_size": 31,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # uneven distributions, so that samples and uncertainties differ
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
FAMILIES = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
}


def small_model(family: str = "qwen3", seed: int = 0, positions: int = 256):
    """A causal LM of the family with random weights."""
    model, config, extra = FAMILIES[family]
    torch.manual_seed(seed)
    return model(config(**{**SIZE, "max_position_embeddings": positions}, **extra)).eval()
