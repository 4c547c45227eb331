"""A static KV cache with one length per row, so that erasing is moving a pointer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PretrainedConfig
from transformers.cache_utils import CacheLayerMixin

from replication.rollout.masks import attention_mask, cut_mask

MASKS_AT_ONCE = 32  # passes whose attention masks, [rows, 1, 32, live], are made together


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, [rows, capacity, kv_heads, head_dim], allocated when the first ones arrive.

    A token's entries lie together and a row's tokens in order, so that writing a token and moving a row are plain
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
        """Store the new entries [r, kv_heads, q, head_dim] at the owner's positions of its first r rows.

        Returns:
            Views of those rows' keys and values up to the live length, [r, kv_heads, live, head_dim].
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        return self._store(self.keys, key_states), self._store(self.values, value_states)

    def _store(self, held: Tensor, new: Tensor) -> Tensor:
        owner, (rows, heads, _, width) = self.owner, new.shape
        held.view(-1, heads, width).index_copy_(0, owner.places, new.transpose(1, 2).flatten(0, 1))
        row, entry, head, _ = held.stride()
        return held.as_strided((rows, heads, owner.live, width), (row, head, entry, 1))

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
    A forward pass takes the first rows, whose entries it reads where they are; `move` brings rows there.

    Args:
        config: the model's configuration.
        rows: completions held at once.
        capacity: tokens a row can hold.
    """

    def __init__(self, config: PretrainedConfig, rows: int, capacity: int):
        self.config, self.rows, self.capacity = config, rows, capacity
        self.begin = torch.arange(rows)[:, None] * capacity  # [rows, 1] the first entry of each row, among all entries
        self.places = self.begin.flatten()  # [r * q] the entries that a forward pass writes
        self.live = 1  # entries of a row that can be attended to in this pass
        super().__init__(layers=[_Layer(self) for _ in range(config.num_hidden_layers)])

    def passes(self, positions: Tensor) -> Iterator[Tensor | dict[str, Tensor]]:
        """Attention masks of k passes, which feed a token at positions [r, k] of each of the first r rows in turn.

        Each says which entries the forward pass after it writes and reads. They are made for several passes at once:
        a pass then costs two views, and the device is asked for the live length only once a block.
        """
        self.begin = self.begin.to(positions.device)
        for block in positions.split(MASKS_AT_ONCE, dim=1):
            places = self.begin[: len(block)] + block
            live = int(block[:, 0].max()) + 1  # of the first pass; positions grow by one
            masks = attention_mask(self.config, block, live + block.shape[1] - 1)
            for i in range(block.shape[1]):
                self.places, self.live = places[:, i], live + i
                yield cut_mask(masks, i, self.live)

    def aim(self, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """Say which positions [r, q] of the first r rows the next forward pass writes, and get its attention mask."""
        self.begin = self.begin.to(positions.device)
        self.places = (self.begin[: len(positions)] + positions).flatten()
        self.live = int(positions.max()) + 1
        return attention_mask(self.config, positions, self.live)

    def move(self, to: Tensor, source: Tensor, width: int) -> None:
        """Overwrite the first `width` entries of rows `to` [m] by those of rows `source` [m]; to swap two, name both
        in both."""
        for held in self.tensors():
            part = held[:, :width]
            part.index_copy_(0, to, part.index_select(0, source))

    def fill(self, to: Tensor, prompts: RowCache, source: Tensor) -> None:
        """Copy rows `source` [m] of the prompts' cache to rows `to` [m]: a prompt is prefilled once per group."""
        width = prompts.capacity
        for mine, theirs in zip(self.layers, prompts.layers, strict=True):
            if theirs.is_initialized and not mine.is_initialized:  # some layers share the keys of others
                mine.lazy_initialization(theirs.keys.transpose(1, 2), theirs.values.transpose(1, 2))
        for held, given in zip(self.tensors(), prompts.tensors(), strict=True):
            held[:, :width].index_copy_(0, to, given.index_select(0, source))

    def release(self) -> None:
        """Give the memory back now; the layers and their cache refer to each other, so that nothing else would soon."""
        layers: list[Any] = self.layers
        for layer in layers:
            layer.keys = layer.values = None
            layer.is_initialized = False

    def tensors(self) -> list[Tensor]:
        """Keys and values of every layer, [rows, capacity, kv_heads, head_dim] each; none before the first pass."""
        layers: list[Any] = self.layers
        return [held for layer in layers if layer.is_initialized for held in (layer.keys, layer.values)]
