"""Small real models with random weights."""

import torch
import transformers

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
WINDOW = {"sliding_window": 6}
UNTIED = {"head_dim": 8, "tie_word_embeddings": False}  # random Gemmas with tied embeddings repeat their last token
FAMILIES = {  # the prefix of transformers' class, and what differs from SIZE
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "mistral": ("Mistral", WINDOW),  # every layer slides
    "qwen2 sliding": ("Qwen2", {**WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
    "gemma2": ("Gemma2", {**WINDOW, **UNTIED}),  # layers of both kinds; capped scores, hence eager attention
    "gemma3": ("Gemma3", {**WINDOW, **UNTIED, "layer_types": ["sliding_attention", "full_attention"]}),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt2": ("GPT2", {}),  # learned positions
    "granite": ("Granite", {"logits_scaling": 4.0}),  # scales what its head gives
}


def small_model(family: str = "qwen3", seed: int = 0, positions: int = 256):
    """A causal LM of the family with random weights."""
    name, extra = FAMILIES[family]
    config = getattr(transformers, f"{name}TextConfig", None) or getattr(transformers, f"{name}Config")
    torch.manual_seed(seed)
    made = config(**{**SIZE, "max_position_embeddings": positions}, **extra)
    return transformers.AutoModelForCausalLM.from_config(made).eval()
