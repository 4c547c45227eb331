"""Before a run: the sampler and a plain forward pass must say the same of the same tokens, or all that follows is of
another distribution than its label says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError, told_as
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.engine import roll_out
from replication.rollout.masks import text_config, window_of
from replication.rollout.protocol import Engine
from replication.rollout.sampling import tempered_logp
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import token_surprisal

LIMIT = 1e-3
"""nats, of any token: some ten times float32's rounding, and a hundredth of what a forgotten scaling does"""
ROUGH = 0.1  # nats a token, of other kernels in bfloat16 [O]: not measured on a GPU
LONGEST = 64  # tokens of the prompt that are used
WINDOW = 512  # the widest sliding window that the prompt is repeated to reach beyond
ROLLOUT = RolloutConfig(group_size=2, segments=2, segment_tokens=3, max_rows=4)
TOKENS = ROLLOUT.segments * ROLLOUT.segment_tokens  # of a completion
ERASURE = ErasureConfig(baseline="fixed", level=1e-6, cap=1)  # erases the first attempt at every segment


def check_policy(engine: Engine, model: Any, prompt: Sequence[int], ends: Sequence[int], pad_id: int) -> None:
    """What a command looks at before it samples: sampler, engine and model must agree. A server has been looked at when
    it was found, and its weights are not here.

    Args:
        engine: what samples.
        model, prompt, ends, pad_id: as of `check_sampler`.

    Raises:
        UserError: as of `check_sampler` and `check_engine`.
    """
    if model.device.type == "meta":
        check_end(prompt, ends)
        return
    check_sampler(model, prompt, ends, pad_id)
    if not isinstance(engine, TorchEngine):
        check_engine(engine, model, prompt, ends, pad_id)


def check_end(prompt: Sequence[int], ends: Sequence[int]) -> None:
    """Raise a `UserError` for a prompt after which nothing is to be said."""
    if len(prompt) > 1 and prompt[-1] in ends:
        raise UserError(
            f"the prompt ends with the end of text (id {prompt[-1]}), so that what follows is another text: correct "
            "the chat template, or what the tokenizer appends"
        )


def check_sampler(model: Any, prompt: Sequence[int], ends: Sequence[int], pad_id: int) -> Rollout:
    """Erase and resample a few tokens after a prompt and after half of it, and score them by plain forward passes.

    In float32, whatever the weights are, so that what differs is no rounding.

    Args:
        model: a transformers causal LM in eval mode.
        prompt: token ids.
        ends: ids that end a completion.
        pad_id: id that fills rows.

    Returns:
        The rollout, whose log-probabilities are those of the model.

    Raises:
        UserError: they are not, or the rollout is refused.
    """
    check_end(prompt, ends)
    with naming(model, "rolled out"), in_float32(model):
        prompts = probes(model, prompt)
        done = roll_out(TorchEngine(model), prompts, torch.arange(4), ROLLOUT, ERASURE, ends, pad_id)
        plain = torch.cat([plain_logp(model, done, row) for row in range(len(done.tokens))])
    difference = float((done.logp[done.mask] - plain).abs().max())
    if not difference <= LIMIT:
        raise UserError(
            f"{model.config.model_type}: the sampler's log-probabilities differ from those of a plain forward pass by "
            f"up to {difference:.2g} nats, in float32: it is not causal, or keeps more than keys and values; use "
            "another model"
        )
    return done


def check_engine(engine: Engine, model: Any, prompt: Sequence[int], ends: Sequence[int], pad_id: int) -> float:
    """The same for an engine with weights and kernels of its own, in the model's precision.

    Returns:
        Mean difference of a token's log-probability from that of a plain forward pass, in nats.

    Raises:
        UserError: it is more than rounding.
    """
    prompts = [probe[: max(1, engine.room(ROLLOUT))] for probe in probes(model, prompt)]
    done = roll_out(engine, prompts, torch.arange(4), ROLLOUT, ERASURE, ends, pad_id)
    plain = torch.cat([plain_logp(model, done, row) for row in range(len(done.tokens))])
    difference = float((done.logp[done.mask] - plain).abs().mean())
    if not difference <= (LIMIT if model.dtype == torch.float32 else ROUGH):
        raise UserError(
            f"{model.config.model_type}: the engine's log-probabilities differ from those of a plain forward pass by "
            f"{difference:.2g} nats a token: use --rollout.engine torch"
        )
    return difference


def probes(model: Any, prompt: Sequence[int]) -> list[list[int]]:
    """The prompt and half of it: cut to be short, or repeated to reach beyond the model's sliding window."""
    room = TorchEngine(model).room(ROLLOUT)
    window = window_of(text_config(model)) or 0
    size = window + 8 if 0 < window <= WINDOW else min(LONGEST, len(prompt))
    whole = (list(prompt) * -(-size // len(prompt)))[: max(1, min(size, room))]
    return [whole, whole[: (len(whole) + 1) // 2]]


def naming(model: Any, done: str) -> AbstractContextManager[None]:
    """Turn what a model that is written otherwise raises into one line that names it."""
    return told_as(f"{model.config.model_type} cannot be {done}", "use another model")


@torch.no_grad()
def plain_logp(model: Any, done: Rollout, row: int) -> Tensor:
    """[n] log-probabilities of a completion's tokens by one forward pass over its whole text, at temperature 1."""
    size = int(done.length[row])
    prompt, tokens = done.prompts[row // done.group_size], done.tokens[row, :size]
    ids = torch.cat([torch.tensor(prompt, device=tokens.device), tokens])[None]
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return -token_surprisal(tempered_logp(logits, 1.0), tokens)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Compute in float32: each module's own weights are widened while it runs, so that memory grows by one module."""
    held: dict[nn.Parameter, Tensor] = {}

    def widen(module: nn.Module, _: Any) -> None:
        for weight in module.parameters(recurse=False):
            if weight.is_floating_point() and weight.dtype != torch.float32:
                held[weight] = weight.data
                weight.data = weight.data.float()

    def restore(module: nn.Module, *_: Any) -> None:
        for weight in module.parameters(recurse=False):
            if weight in held:
                weight.data = held.pop(weight)

    hooks = [module.register_forward_pre_hook(widen) for module in model.modules()]
    hooks += [module.register_forward_hook(restore, always_call=True) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
