"""Whole segments, as an engine outside torch brings them, put into a piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from replication.config import RolloutConfig
from replication.errors import UserError
from replication.rollout.protocol import Piece, Watcher

COLDEST, HOTTEST = 0.01, 2.0  # temperatures: below, vLLM draws at 0.01 all the same; above, it refuses


class Segment(NamedTuple):
    """A segment of one row."""

    row: int
    tokens: Sequence[int]
    logp: Sequence[float]  # of each, in nats
    measured: Mapping[str, Sequence[float]]  # measure -> of each, in nats
    ended: bool  # its last token ends the text


def piece_of(segments: Sequence[Segment], length: int) -> Piece:
    """The segments, filled up to their full length."""

    def filled(values: Sequence[Sequence[float]], kind: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[0] * (length - len(row))] for row in values], dtype=kind)

    return Piece(
        torch.tensor([s.row for s in segments]),
        filled([s.tokens for s in segments], torch.long),
        filled([s.logp for s in segments], torch.float32),
        {name: filled([s.measured[name] for s in segments], torch.float32) for name in segments[0].measured},
        torch.tensor([len(s.tokens) for s in segments]),
        torch.tensor([s.ended for s in segments]),
    )


def tell(watcher: Watcher | None, segments: Sequence[Segment]) -> None:
    """Tell a watcher of whole segments, a token of each row at a time."""
    for place in range(max(len(s.tokens) for s in segments) if watcher else 0):
        here = [(s.row, s.tokens[place]) for s in segments if place < len(s.tokens)]
        watcher.sampled(*(torch.tensor(values) for values in zip(*here, strict=True)))  # type: ignore[union-attr]


def check_temperatures(rollout: RolloutConfig) -> None:
    """Raise a `UserError` for a temperature at which vLLM does not draw, here or on a server."""
    used = {"temperature": rollout.temperature}
    if rollout.cool_fraction:
        used["cool_temperature"] = rollout.cool_temperature
    for name, value in used.items():
        if not COLDEST <= value <= HOTTEST:
            raise UserError(
                f"{name} = {value:g}, and vLLM draws at {COLDEST} to {HOTTEST:g}: choose another, rollout.top_k = 1 "
                "for the likeliest token always, or --rollout.engine torch"
            )
