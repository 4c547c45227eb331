"""Random numbers as functions of where they are used, never of a running stream.

A rollout's result then depends neither on the batch it shared nor on the number of processes, and a resumed
run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor  # seconds to import, and commands that only read files need none

_MASK = (1 << 64) - 1


def seed_for(*position: int | str) -> int:
    """A 63-bit seed from a position such as (seed, "rollout", step, prompt, member): SHA-256 of its text."""
    digest = hashlib.sha256("/".join(map(str, position)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit constant."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def mix(state: Tensor) -> Tensor:
    """SplitMix64's finalizer on int64 tensors of any shape (Steele et al. 2014): a bijection that scatters bits."""
    state = state + _signed(0x9E3779B97F4A7C15)
    state = (state ^ ((state >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ ((state >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return state ^ ((state >> 31) & ((1 << 33) - 1))


def fold(key: Tensor, *position: Tensor) -> Tensor:
    """A seed from a key and a position.

    Args:
        key: int64, one of `seed_for` a row.
        position: int64 tensors that broadcast with the key, mixed in one after the other (segment, attempt).

    Returns:
        int64 of the shape that all broadcast to.
    """
    state = mix(key)
    for part in position:
        state = mix(state ^ part)
    return state


def uniforms(seed: Tensor, place: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) as a function of a seed and a place.

    Args:
        seed: int64, of `fold`.
        place: int64, broadcasts with the seed.

    Returns:
        float64 with 53 random bits, of the shape that both broadcast to.
    """
    return ((mix(seed ^ place) >> 11) & ((1 << 53) - 1)).double() / (1 << 53)
