"""A static KV cache with one length per row, so that erasing is moving a pointer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PretrainedConfig
from transformers.cache_utils import CacheLayerMixin

from replication.errors import UserError


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, [rows, capacity, kv_heads, head_dim], allocated when the first ones arrive.

    A token's entries lie together and a row's tokens in order, so that writing a token and picking rows are plain
    copies of contiguous memory.
    """

    def __init__(self, owner: RowCache):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        def zeros(like: Tensor) -> Tensor:
            return like.new_zeros(self.owner.rows, self.owner.capacity, like.shape[1], like.shape[3])

        self.keys, self.values = zeros(key_states), zeros(value_states)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store the new entries [r, kv_heads, q, head_dim] at the owner's rows and positions.

        Returns:
            Keys and values of those rows up to the live length, [r, kv_heads, live, head_dim].
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        return self._store(self.keys, key_states), self._store(self.values, value_states)

    def _store(self, held: Tensor, new: Tensor) -> Tensor:
        owner = self.owner
        held[owner.active[:, None], owner.positions] = new.transpose(1, 2)
        live = held[:, : owner.live]
        if not owner.all_active:
            live = live.index_select(0, owner.active)
        return live.transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.live, 0

    def get_seq_length(self) -> int:
        return self.owner.live

    def get_max_length(self) -> int:
        return self.owner.capacity


class RowCache(Cache):
    """KV cache whose rows have lengths of their own [O].

    A checkpoint is a length; a rollback is writing from that position on again. Nothing is copied, and what lies
    after a row's position is never attended to, so it need not be cleared: erasing takes no memory (method.md 1).

    Args:
        config: the model's configuration; sliding-window and other non-full attention is refused.
        rows: completions held at once.
        capacity: tokens a row can hold.
    """

    def __init__(self, config: PretrainedConfig, rows: int, capacity: int):
        refuse_unsupported(config)
        self.rows, self.capacity = rows, capacity
        self.active = torch.arange(rows)  # [r] the rows of this forward pass
        self.positions = torch.zeros(rows, 1, dtype=torch.long)  # [r, q] where its tokens go
        self.live = 1  # entries of a row that can be attended to in this pass
        self.all_active = True
        super().__init__(layers=[_Layer(self) for _ in range(config.num_hidden_layers)])

    def aim(self, active: Tensor, positions: Tensor) -> Tensor:
        """Say which rows and positions the next forward pass writes, and get its attention mask.

        Args:
            active: [r] row indices, ascending.
            positions: [r, q] positions of the tokens that are fed.

        Returns:
            [r, 1, q, live] boolean mask: a token sees itself and what lies before it.
        """
        self.active, self.positions = active, positions
        self.all_active = len(active) == self.rows
        self.live = int(positions.max()) + 1
        return torch.arange(self.live, device=positions.device) <= positions[:, None, :, None]

    def release(self) -> None:
        """Give the memory back now; the layers and their cache refer to each other, so that nothing else would soon."""
        layers: list[Any] = self.layers
        for layer in layers:
            layer.keys = layer.values = None

    def fill_from(self, prompt_cache: RowCache, copies: int) -> None:
        """Copy each row of a prompt's cache to `copies` neighbouring rows: the prompt is prefilled once per group."""
        width = prompt_cache.capacity
        layers: list[tuple[Any, Any]] = list(zip(self.layers, prompt_cache.layers, strict=True))
        for mine, theirs in layers:
            mine.lazy_initialization(theirs.keys.transpose(1, 2), theirs.values.transpose(1, 2))
            mine.keys[:, :width] = theirs.keys.repeat_interleave(copies, 0)
            mine.values[:, :width] = theirs.values.repeat_interleave(copies, 0)


def refuse_unsupported(config: PretrainedConfig) -> None:
    """Raise a `UserError` for models whose attention is not full attention over a key-value cache."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        other = ", ".join(sorted(kinds - {"full_attention"}))
        raise UserError(f"{config.model_type} has {other} layers: erasable rollouts need full attention in every layer")
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{config.model_type} is an encoder-decoder: erasable rollouts need a causal LM")
