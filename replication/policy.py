"""The policy: a transformers causal LM and its tokenizer, made, named and saved; `loading` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from replication.config import PolicyConfig
from replication.errors import UserError

ALPHABET = ["<pad>", "<eos>", "\\boxed{", "}", ">", *"0123456789", *"+-=;:", *"abcdefghij"]
# the small tokenizer knows digits and signs only: of a chat message it takes the first line, the question
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'].split('\\n')[0] }}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """A character-level tokenizer of the synthetic tasks' alphabet, in which `\\boxed{` is one token."""
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(ALPHABET)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def small_model(config: PolicyConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 of the configured size with weights drawn from the seed."""
    torch.manual_seed(seed)
    architecture = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.hidden_size // config.heads,
        intermediate_size=config.ffn_size,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=config.hidden_size**-0.5,  # 0.02, made for wide models, needs twice the steps here
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(architecture)


def base_policy(config: PolicyConfig, model: str) -> tuple[str, str | None]:
    """Path and revision of the untrained policy: the pretrained one, or the warm-started one of that name."""
    if config.pretrained is not None:
        return config.pretrained, config.revision
    folder = Path("runs/warmstart") / model
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: run `python -m replication.warmstart --model {model}` first")
    return str(folder), None


def use_machine(config: PolicyConfig) -> torch.device:
    """The accelerator if there is one, else the CPU with the configured number of threads."""
    if config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def recompute_activations(model: Any) -> None:
    """Let the blocks make their activations again in the backward pass (gradient checkpointing)."""
    old_name = "gradient_checkpointing_enable"  # of an older transformers
    enable = getattr(model, "activation_checkpointing_enable", None) or getattr(model, old_name)
    enable({"use_reentrant": False})


def save_policy(model: Any, tokenizer: Any, folder: Path) -> None:
    """A plain Hugging Face checkpoint: safetensors, configuration, tokenizer with its chat template."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
