"""The one prompt template: training and evaluation, tiny and 8B, ask in the same words, unless an evaluation is told
other ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.data.sources import Problem
from replication.errors import UserError

PART = "'type': 'text'"  # how a part looks where a template prints it as it is
INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


def encode(tokenizer: Any, text: str, thinking: bool = False, within: str | None = None) -> list[int]:
    """Token ids of a text: as a chat message where the tokenizer has a template for one, else as it is.

    Args:
        tokenizer: a transformers tokenizer.
        text: what to ask; where it has no tokens, the beginning-of-text token stands for it if there is one.
        thinking: Qwen3's thinking mode, where the chat template knows it.
        within: the part of the text that the template must keep, all of it if not given.

    Returns:
        Token ids. An end of text that the tokenizer appends is left out: what follows would be another text.

    Raises:
        UserError: the chat template cannot be used, drops what is asked, or ends the text before the answer.
    """
    if tokenizer.chat_template is None:
        ids: list[int] = tokenizer(text).input_ids
        if ids and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        return ids or [i for i in [tokenizer.bos_token_id] if i is not None]
    rendered = render(tokenizer, text, thinking, (text if within is None else within).strip())
    ids = tokenizer(rendered, add_special_tokens=False).input_ids
    bos = tokenizer.bos_token_id
    if tokenizer.eos_token and rendered.rstrip().endswith(tokenizer.eos_token):
        raise UserError(
            f"{named(tokenizer)} ends the text where the answer is to begin: give it what `add_generation_prompt` adds"
        )
    if bos is not None and ids[:2] == [bos, bos]:
        raise UserError(f"{named(tokenizer)} begins the text twice ({tokenizer.bos_token}): take one of them out")
    return ids


def render(tokenizer: Any, text: str, thinking: bool, kept: str) -> str:
    """The chat template's text with a message in it, which is a string or, for some templates, a list of parts.

    Raises:
        UserError: the template raises, has several names and no default, or drops `kept`.
    """
    fault = ""
    for content in (text, [{"type": "text", "text": text}]):
        chat = [{"role": "user", "content": content}]
        try:
            rendered = str(
                tokenizer.apply_chat_template(
                    chat, add_generation_prompt=True, enable_thinking=thinking, tokenize=False
                )
            )
        except Exception as error:  # noqa: BLE001 - a template is a program, which fails in its own way
            fault = fault or f"fails ({' '.join(str(error).split())})"
            continue
        if kept in rendered and (isinstance(content, str) or PART not in rendered):
            return rendered
        fault = fault or f"drops what is asked: it makes {rendered[:80]!r} of {kept[:40]!r}"
    raise UserError(f"{named(tokenizer)} {fault}: correct it")


def named(tokenizer: Any) -> str:
    """The chat template in an error message."""
    return f"the chat template of {tokenizer.name_or_path or 'the tokenizer'}"


def prompt_ids(tokenizer: Any, question: str, thinking: bool = False, wording: str | None = None) -> list[int]:
    """The token ids that a completion is sampled after, by `encode`.

    Args:
        tokenizer, thinking: as there.
        question: the problem.
        wording: of an evaluation, with {question} where it stands; none: the question and `INSTRUCTION`.
    """
    text = f"{question}\n\n{INSTRUCTION}" if wording is None else wording.replace("{question}", question)
    return encode(tokenizer, text if tokenizer.chat_template is not None else f"{text}\n\n", thinking, question)


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
