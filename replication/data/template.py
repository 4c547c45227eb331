"""The one prompt template: training and evaluation, tiny and 8B, ask in the same words."""

from __future__ import annotations

from typing import Any

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


def encode(tokenizer: Any, text: str, thinking: bool = False) -> list[int]:
    """Token ids of a text: as a chat message where the tokenizer has a template for one, else as it is.

    Args:
        tokenizer: a transformers tokenizer.
        text: what to ask; where it has no tokens, the beginning-of-text token stands for it if there is one.
        thinking: Qwen3's thinking mode, where the chat template knows it.

    Returns:
        Token ids, none added or dropped afterwards.
    """
    if tokenizer.chat_template is None:
        ids: list[int] = tokenizer(text).input_ids
        return ids or [i for i in [tokenizer.bos_token_id] if i is not None]
    chat = [{"role": "user", "content": text}]
    return list(
        tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, enable_thinking=thinking, tokenize=True, return_dict=False
        )
    )


def prompt_ids(tokenizer: Any, question: str, thinking: bool = False) -> list[int]:
    """The token ids that a completion is sampled after: question and instruction, by `encode`."""
    text = f"{question}\n\n{INSTRUCTION}"
    return encode(tokenizer, text if tokenizer.chat_template is not None else f"{text}\n\n", thinking)
