"""Causal retrospective attention allocation: what the answer looked back at earns the reward (method.md section 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from replication.errors import UserError
from replication.rollout.masks import decoder_of, text_config

WATCHED = "replication_watched_sdpa"
UNIFORM = "set credit.allocation to uniform"
NOT_SEEN = f"has no sdpa attention to look into: {UNIFORM}"
OTHER_SCORES = ("s_aux", "softcap", "position_bias")  # what attention has beside queries, keys and a window


def allocation_weights(mass: Tensor, tokens: Tensor, present: Tensor, tau: float) -> Tensor:
    """c_n = N softmax_n(log(a_n) / tau) with a_n = mass_n / tokens_n, so that the c_n of a completion average to 1.
    [R]: look back, causally, by attention; the form [O]

    Args:
        mass: [R, N] attention mass on each segment, mean over heads and over the last segment's tokens.
        tokens: [R, N] length of each segment.
        present: [R, N] boolean, the completion has the segment.
        tau: temperature; large values share the reward evenly.

    Returns:
        [R, N] weights, 0 where absent.
    """
    density = mass / tokens.clamp(min=1)
    score = density.clamp(min=1e-12).log() / tau
    share = torch.softmax(score.masked_fill(~present, -torch.inf), dim=1)
    return (share * present.sum(1, keepdim=True)).masked_fill(~present, 0.0)


def allocation_spread(shares: Tensor, present: Tensor) -> Tensor:
    """How unevenly the c_n share a completion's reward: their root mean square distance from 1. [O], a diagnostic

    Args:
        shares: [R, N] c_n, 0 where absent.
        present: [R, N] boolean, the completion has the segment.

    Returns:
        [R], 0 for a uniform allocation.
    """
    deviation = (shares - 1).masked_fill(~present, 0.0)
    return (deviation.square().sum(1) / present.sum(1)).sqrt()


@torch.no_grad()
def answer_attention(model: Any, ids: Tensor, query_start: Tensor, query_end: Tensor) -> Tensor:
    """Attention of the last layer from the tokens of the last segment to every token before them.

    Only those queries are scored, one query head at a time: memory grows with tokens x segment length, never with
    tokens x tokens.

    Args:
        model: a transformers causal LM that takes transformers' attention interface.
        ids: [R, S] prompts and completions, padded on the right, where causal attention cannot see.
        query_start, query_end: [R] the last segment is the positions query_start <= s < query_end.

    Returns:
        [R, S] attention mass on each position, mean over heads and query tokens; a row sums to 1.

    Raises:
        UserError: the model has no sdpa attention to look into, such as Gemma 2, which caps its scores, or scores of
            which queries and keys are not all.
    """
    found: list[Tensor] = []

    def receive(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, window: int | None) -> None:
        width = int((query_end - query_start).max())
        at = query_start[:, None] + torch.arange(width, device=ids.device)  # [R, W]
        real = at < query_end[:, None]
        at = at.clamp(max=ids.shape[1] - 1)
        place = torch.arange(ids.shape[1], device=ids.device)
        seen = place <= at[..., None]  # [R, W, S]
        if window is not None:
            seen &= place > at[..., None] - window
        bias = None if mask is None else mask_bias(mask, at)  # [R, H or 1, W, S]
        share = query.shape[1] // key.shape[1]  # query heads a key head
        total = torch.zeros(ids.shape, device=ids.device)
        for head in range(query.shape[1]):
            q = query[:, head].gather(1, at[..., None].expand(-1, -1, query.shape[-1]))  # [R, W, D]
            score = (q @ key[:, head // share].transpose(1, 2)).float() * scaling
            if bias is not None:
                score = score + bias[:, head % bias.shape[1]]
            attention = torch.softmax(score.masked_fill(~seen, -torch.inf), dim=-1)
            total += (attention * real[..., None]).sum(1)
        found.append(total / (query.shape[1] * real.sum(1, keepdim=True)))

    with _watch(model, receive):
        decoder_of(model)(input_ids=ids, use_cache=False)
    if len(found) != 1:
        raise UserError(f"{model.config.model_type} {NOT_SEEN}")
    return found[0]


def mask_bias(mask: Tensor, at: Tensor) -> Tensor:
    """[R, H or 1, W, S] what a layer's mask adds to the scores of the queries at the positions [R, W].

    Args:
        mask: [R or 1, H or 1, S, S], boolean (to be seen) or numbers to be added.
        at: positions of the queries.
    """
    rows = at[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
    given = mask.expand(len(at), -1, -1, -1).gather(2, rows)
    if given.dtype != torch.bool:
        return given
    return torch.zeros(given.shape, device=given.device).masked_fill(~given, -torch.inf)


@contextmanager
def _watch(model: Any, receive: Callable[[Tensor, Tensor, Tensor | None, float, int | None], None]) -> Iterator[None]:
    """Hand the last layer's queries [R, H, S, D] and keys [R, H_kv, S, D], its mask, their scale and the layer's
    sliding window to `receive` as they pass by."""
    last = text_config(model).num_hidden_layers - 1

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
        if module.layer_idx == last:
            if other := [name for name in OTHER_SCORES if kwargs.get(name) is not None]:
                raise UserError(f"{model.config.model_type} has {other[0]} in its attention scores: {UNIFORM}")
            receive(query, key, attention_mask, kwargs["scaling"], kwargs.get("sliding_window"))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register(WATCHED, attend)
    AttentionMaskInterface.register(WATCHED, sdpa_mask)
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(WATCHED)
    except ValueError:
        raise UserError(f"{model.config.model_type} {NOT_SEEN}") from None
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def segment_mass(mass: Tensor, segment_of: Tensor, segments: int) -> Tensor:
    """Sum a [R, T] mass over the tokens of each segment, -1 being none: [R, N]."""
    out = torch.zeros(len(mass), segments + 1, dtype=mass.dtype, device=mass.device)
    return out.scatter_add(1, segment_of.where(segment_of >= 0, segments), mass)[:, :segments]
