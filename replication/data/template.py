"""The one prompt template: training and evaluation, tiny and 8B, ask in the same words."""

from __future__ import annotations

from typing import Any

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


def prompt_ids(tokenizer: Any, question: str, thinking: bool = False) -> list[int]:
    """The token ids that a completion is sampled after.

    Args:
        tokenizer: a transformers tokenizer; its chat template is used where it has one.
        question: the problem's text.
        thinking: Qwen3's thinking mode, where the chat template knows it.

    Returns:
        Token ids, none added or dropped afterwards.
    """
    text = f"{question}\n\n{INSTRUCTION}"
    if tokenizer.chat_template is None:
        ids: list[int] = tokenizer(f"{text}\n\n").input_ids
        return ids
    chat = [{"role": "user", "content": text}]
    return list(
        tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, enable_thinking=thinking, tokenize=True, return_dict=False
        )
    )
