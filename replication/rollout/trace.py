"""What a rollout leaves behind: completions, their segments, and every erased attempt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Attempt(NamedTuple):
    """One erased attempt at a segment."""

    row: int
    segment: int
    number: int  # e, erasures spent on the segment before this one
    start: int  # tokens of the completion before it
    tokens: list[int]
    logp: list[float]  # of each token when it was sampled, in nats
    measured: dict[str, list[float]]  # measure -> of each token, in nats
    u: float  # nats
    theta: float  # nats

    def uncertainty(self, measure: str) -> list[float]:
        """H_t of each token by the name of `uncertainty.MEASURES`, in nats."""
        return [-p for p in self.logp] if measure == "surprisal" else self.measured[measure]


@dataclass
class Rollout:
    """R = P * G completions of at most T tokens, in at most N segments; rows are filled with padding after `length`."""

    group_size: int
    prompts: list[list[int]]  # P
    tokens: Tensor  # [R, T] ids
    logp: Tensor  # [R, T] log-probability of each token when it was sampled, at the sampling temperature, in nats
    measured: dict[str, Tensor]  # measure -> [R, T], at the sampling temperature, in nats; `entropy` among them
    length: Tensor  # [R] tokens
    ended: Tensor  # [R] boolean: ended by itself, not cut off
    erasable: Tensor  # [R] boolean: rolled out with erasure
    start: Tensor  # [R, N + 1] first token of each segment, and the end of the last
    segments: Tensor  # [R] accepted segments
    erasures: Tensor  # [R, N] erasures spent
    first_u: Tensor  # [R, N] uncertainty of the first attempt at the segment, in nats; nan where it was not taken
    u: Tensor  # [R, N] uncertainty of the accepted segment
    theta: Tensor  # [R, N] the threshold it was accepted under, in nats
    attempts: list[Attempt]
    steps: int = 0  # forward passes
    row_steps: int = 0  # tokens sampled, erased ones included

    def uncertainty(self, measure: str) -> Tensor:
        """[R, T] H_t of each token by the name of `uncertainty.MEASURES`, in nats."""
        return -self.logp if measure == "surprisal" else self.measured[measure]

    @property
    def mask(self) -> Tensor:
        """[R, T] boolean: a token of the completion."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.length[:, None]

    @property
    def segment_of(self) -> Tensor:
        """[R, T] index of the segment that each token lies in; -1 after the completion."""
        t = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        begun = torch.arange(self.start.shape[1], device=t.device) < self.segments[:, None]  # [R, N + 1]
        index = ((t[:, None] >= self.start[:, None]) & begun[:, None]).sum(-1) - 1
        return index.masked_fill(~self.mask, -1)

    @property
    def erased_tokens(self) -> Tensor:
        """[R] tokens sampled and erased."""
        counts = torch.zeros_like(self.length)
        for attempt in self.attempts:
            counts[attempt.row] += len(attempt.tokens)
        return counts

    def pick(self, groups: Sequence[int]) -> Rollout:
        """The rollout of the named groups, in that order; steps and row_steps stay those of the whole."""
        g = self.group_size
        rows = [group * g + member for group in groups for member in range(g)]
        place = {row: i for i, row in enumerate(rows)}
        index = torch.tensor(rows, dtype=torch.long, device=self.tokens.device)
        tensors = {
            f.name: getattr(self, f.name)[index]
            for f in dataclasses.fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(
            self,
            prompts=[self.prompts[group] for group in groups],
            measured={name: h[index] for name, h in self.measured.items()},
            attempts=[a._replace(row=place[a.row]) for a in self.attempts if a.row in place],
            **tensors,
        )

    @classmethod
    def concatenate(cls, parts: list[Rollout]) -> Rollout:
        """One rollout of the parts' groups in order."""
        tensors = {
            f.name: torch.cat([getattr(part, f.name) for part in parts])
            for f in dataclasses.fields(cls)
            if isinstance(getattr(parts[0], f.name), Tensor)
        }
        offsets = [sum(len(p.tokens) for p in parts[:i]) for i in range(len(parts))]
        return cls(
            group_size=parts[0].group_size,
            prompts=[prompt for part in parts for prompt in part.prompts],
            measured={name: torch.cat([part.measured[name] for part in parts]) for name in parts[0].measured},
            attempts=[
                a._replace(row=a.row + at) for at, part in zip(offsets, parts, strict=True) for a in part.attempts
            ],
            steps=sum(part.steps for part in parts),
            row_steps=sum(part.row_steps for part in parts),
            **tensors,
        )
