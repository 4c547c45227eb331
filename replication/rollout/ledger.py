"""What is written of the completions while they grow: tokens, segments, and what was erased."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from replication.config import RolloutConfig
from replication.rollout.protocol import Piece
from replication.rollout.trace import Attempt, Rollout
from replication.seeds import fold


class Ledger:
    """R = P * G completions of at most N segments of L tokens, T = N * L.

    Args:
        prompts: P prompts as token ids.
        keys: [R] int64, the random key of each completion.
        rollout: the settings.
        erased_fraction: share of each group, its first members, that rolls out with erasure.
        pad_id: id that fills the rows of `tokens`.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Tensor,
        rollout: RolloutConfig,
        erased_fraction: float,
        pad_id: int,
    ):
        device = keys.device
        self.prompts, self.keys, self.group_size = prompts, keys, rollout.group_size
        self.pad_id = pad_id
        self.rows = rows = len(prompts) * self.group_size
        self.segments = segments = rollout.segments
        self.segment_tokens = rollout.segment_tokens
        self.tokens_at_most = tokens = segments * rollout.segment_tokens
        member = torch.arange(rows, device=device) % self.group_size
        self.erasable = member < int(erased_fraction * self.group_size + 0.5)  # [R]

        def full(shape: tuple[int, ...], value: float, dtype: torch.dtype) -> Tensor:
            return torch.full(shape, value, dtype=dtype, device=device)

        self.tokens = full((rows, tokens), pad_id, torch.long)
        self.logp = full((rows, tokens), 0.0, torch.float32)
        self.measured: dict[str, Tensor] = {}  # measure -> [R, T]
        self.length = full((rows,), 0, torch.long)  # tokens of the completion so far
        self.done = full((rows,), False, torch.bool)
        self.waiting = full((rows,), False, torch.bool)  # at a segment's end until the group's statistics are known
        self.segment = full((rows,), 0, torch.long)  # index n of the current segment
        self.start = full((rows, segments + 1), 0, torch.long)  # checkpoints: where each segment starts
        self.erasures = full((rows, segments), 0, torch.long)
        self.first_u = full((rows, segments), torch.nan, torch.float32)  # U of the first attempt
        self.u = full((rows, segments), torch.nan, torch.float32)  # U and Theta of the accepted segment
        self.theta = full((rows, segments), torch.nan, torch.float32)
        self.history = full((rows, segments + 1), 0.0, torch.float32)  # mean U of the segments before this one
        self.ended = full((rows,), False, torch.bool)
        self.erased: list[tuple[Tensor, ...]] = []  # the fields of attempts, tokens filled up to a segment's length

    def asking(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [r] of the rows that stand, and the seeds [r] of the segments that come after them."""
        n = self.segment[rows]
        return self.length[rows], fold(self.keys[rows], n, self.erasures[rows, n])

    def write(self, piece: Piece) -> Tensor:
        """Add the segments of a piece; returns their rows [m]."""
        rows = piece.rows.to(self.keys.device)
        at = rows[:, None], self.length[rows, None] + torch.arange(self.segment_tokens, device=rows.device)
        self.tokens[at], self.logp[at] = piece.tokens.to(rows.device), piece.logp.to(rows.device)
        for name, h in piece.measured.items():
            self.measured.setdefault(name, torch.zeros_like(self.logp))[at] = h.to(rows.device)
        self.length[rows] += piece.size.to(rows.device)
        self.ended[rows] = piece.ended.to(rows.device)
        return rows

    def uncertainty(self, measure: str, rows: Tensor) -> Tensor:
        """[r, T] H_t of the rows' tokens by the name of `uncertainty.MEASURES`, in nats."""
        return -self.logp[rows] if measure == "surprisal" else self.measured[measure][rows]

    def roll_back(self, rows: Tensor, theta: Tensor) -> None:
        """Take the current segments of the rows [r] back, and keep a record of each."""
        n = self.segment[rows]
        start, spent = self.start[rows, n], self.erasures[rows, n]
        size = self.length[rows] - start
        at = rows[:, None], start[:, None] + torch.arange(self.segment_tokens, device=rows.device)  # [r, L]
        measured = [h[at] for h in self.measured.values()]
        self.erased.append(
            (rows, n, spent, start, size, self.tokens[at], self.logp[at], self.u[rows, n], theta, *measured)
        )
        self.erasures[rows, n] += 1
        self.length[rows] = start
        self.waiting[rows] = False

    def accept(self, rows: Tensor, theta: Tensor) -> None:
        """Go on from the current segments of the rows [r]."""
        n = self.segment[rows]
        self.theta[rows, n] = theta
        self.history[rows, n + 1] = (self.history[rows, n] * n + self.u[rows, n].nan_to_num()) / (n + 1)
        self.segment[rows] = n + 1
        self.start[rows, n + 1] = self.length[rows]
        self.done[rows] = self.ended[rows] | (n + 1 == self.segments)
        self.waiting[rows] = False

    def attempts(self) -> list[Attempt]:
        """The erased attempts, by row, segment and number."""
        fields = [torch.cat(parts).tolist() for parts in zip(*self.erased, strict=True)]
        found = []
        for row, n, spent, start, size, tokens, logp, u, theta, *measured in zip(*fields, strict=True):
            h = {name: values[:size] for name, values in zip(self.measured, measured, strict=True)}
            found.append(Attempt(row, n, spent, start, tokens[:size], logp[:size], h, u, theta))
        return sorted(found, key=lambda a: a[:3])

    def rollout(self, passes: int, sampled: int) -> Rollout:
        """The finished completions; what an erased attempt left behind the end of a shorter one is padding again."""
        after = torch.arange(self.tokens_at_most, device=self.length.device) >= self.length[:, None]
        return Rollout(
            group_size=self.group_size,
            prompts=[list(p) for p in self.prompts],
            tokens=self.tokens.masked_fill(after, self.pad_id),
            logp=self.logp.masked_fill(after, 0.0),
            measured={name: h.masked_fill(after, 0.0) for name, h in self.measured.items()},
            length=self.length,
            ended=self.ended,
            erasable=self.erasable,
            start=self.start,
            segments=self.segment,
            erasures=self.erasures,
            first_u=self.first_u,
            u=self.u,
            theta=self.theta,
            attempts=self.attempts(),
            steps=passes,
            row_steps=sampled,
        )
