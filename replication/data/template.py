"""The one prompt template: training and evaluation, tiny and 8B, ask in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.data.sources import Problem
from replication.errors import UserError

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


def check_lengths(tokenizer: Any, problems: Sequence[Problem], thinking: bool, room: int) -> None:
    """Raise a `UserError` that names a problem whose prompt has more than `room` tokens.

    A token takes a byte or more, so that only prompts of more bytes than that are encoded.
    """
    template = len(prompt_ids(tokenizer, "", thinking))
    for problem in problems:
        if len(problem.question.encode()) + template <= room:
            continue
        size = len(prompt_ids(tokenizer, problem.question, thinking))
        if size > room:
            raise UserError(
                f"problem {problem.id} has a prompt of {size} tokens; beside a completion the model reads {room}: drop "
                "it, or lower rollout.segments or rollout.segment_tokens"
            )
