"""What a rollout knows of its completions while they grow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from replication.config import RolloutConfig
from replication.rollout.trace import Attempt, Rollout

PENDING, RUNNING, WAITING, DONE = range(4)
"""Not begun; decoding; at a segment's end until the group's statistics are known; finished"""


class State:
    """R = P * G completions of at most N segments of L tokens, T = N * L.

    Args:
        prompts: P prompts as token ids.
        keys: [R] int64, the random key of each completion.
        rollout: the settings.
        erased_fraction: share of each group, its first members, that rolls out with erasure.
        pad_id: id that fills the rows of `tokens`.
        device: where the tensors live.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Tensor,
        rollout: RolloutConfig,
        erased_fraction: float,
        pad_id: int,
        device: torch.device,
    ):
        self.prompts, self.keys, self.group_size = prompts, keys.to(device), rollout.group_size
        self.pad_id = pad_id
        self.rows = rows = len(prompts) * self.group_size
        self.segments = segments = rollout.segments
        self.segment_tokens = rollout.segment_tokens
        self.tokens_at_most = tokens = segments * rollout.segment_tokens
        sizes = torch.tensor([len(p) for p in prompts], device=device)
        last = torch.tensor([p[-1] for p in prompts], device=device)
        self.prompt_size = sizes.repeat_interleave(self.group_size)  # [R]
        self.last_prompt_token = last.repeat_interleave(self.group_size)  # [R]
        member = torch.arange(rows, device=device) % self.group_size
        self.erasable = member < int(erased_fraction * self.group_size + 0.5)  # [R]
        self.cool = member >= self.group_size - int(rollout.cool_fraction * self.group_size + 0.5)  # [R]

        def full(shape: tuple[int, ...], value: float, dtype: torch.dtype) -> Tensor:
            return torch.full(shape, value, dtype=dtype, device=device)

        self.tokens = full((rows, tokens), pad_id, torch.long)
        self.logp = full((rows, tokens), 0.0, torch.float32)
        self.entropy = full((rows, tokens), 0.0, torch.float32)
        self.length = full((rows,), 0, torch.long)  # tokens of the completion so far
        self.phase = full((rows,), PENDING, torch.long)
        self.segment = full((rows,), 0, torch.long)  # index n of the current segment
        self.start = full((rows, segments + 1), 0, torch.long)  # checkpoints: where each segment starts
        self.erasures = full((rows, segments), 0, torch.long)
        self.first_u = full((rows, segments), torch.nan, torch.float32)  # U of the first attempt
        self.u = full((rows, segments), torch.nan, torch.float32)  # U and Theta of the accepted segment
        self.theta = full((rows, segments), torch.nan, torch.float32)
        self.history = full((rows, segments + 1), 0.0, torch.float32)  # mean U of the segments before this one
        self.ended = full((rows,), False, torch.bool)
        self.erased: list[tuple[Tensor, ...]] = []  # the fields of attempts, tokens filled up to a segment's length

    def pending_token(self, rows: Tensor) -> Tensor:
        """[r] the last token of each row, which the cache has not seen yet."""
        t = self.length[rows]
        return torch.where(t > 0, self.tokens[rows, (t - 1).clamp(min=0)], self.last_prompt_token[rows])

    def write(self, rows: Tensor, times: Tensor, tokens: Tensor, logp: Tensor, entropy: Tensor) -> None:
        """Add tokens [r, k] to the rows [r], whose places [r, k] are the next ones."""
        each = rows[:, None]
        self.tokens[each, times], self.logp[each, times], self.entropy[each, times] = tokens, logp, entropy
        self.length[rows] = times[:, -1] + 1

    def roll_back(self, rows: Tensor, theta: Tensor) -> None:
        """Take the current segments of the rows [r] back, and keep a record of each."""
        n = self.segment[rows]
        start, spent = self.start[rows, n], self.erasures[rows, n]
        size = self.length[rows] - start
        places = start[:, None] + torch.arange(self.segment_tokens, device=rows.device)  # [r, L]
        at = rows[:, None], places.clamp(max=self.tokens_at_most - 1)
        content = self.tokens[at], self.logp[at], self.entropy[at]
        self.erased.append((rows, n, spent, start, size, *content, self.u[rows, n], theta))
        self.erasures[rows, n] += 1
        self.length[rows] = start
        self.phase[rows] = RUNNING

    def accept(self, rows: Tensor, theta: Tensor) -> None:
        """Go on from the current segments of the rows [r]."""
        n = self.segment[rows]
        self.theta[rows, n] = theta
        self.history[rows, n + 1] = (self.history[rows, n] * n + self.u[rows, n].nan_to_num()) / (n + 1)
        self.segment[rows] = n + 1
        self.start[rows, n + 1] = self.length[rows]
        done = self.ended[rows] | (n + 1 == self.segments)
        self.phase[rows] = torch.where(done, DONE, RUNNING)

    def attempts(self) -> list[Attempt]:
        """The erased attempts, by row, segment and number."""
        fields = [torch.cat(parts).tolist() for parts in zip(*self.erased, strict=True)]
        found = [
            Attempt(row, n, spent, start, tokens[:size], logp[:size], entropy[:size], u, theta)
            for row, n, spent, start, size, tokens, logp, entropy, u, theta in zip(*fields, strict=True)
        ]
        return sorted(found, key=lambda a: a[:3])

    def rollout(self, steps: int, row_steps: int) -> Rollout:
        """The finished completions; what an erased attempt left behind the end of a shorter one is padding again."""
        after = torch.arange(self.tokens_at_most, device=self.length.device) >= self.length[:, None]
        return Rollout(
            group_size=self.group_size,
            prompts=[list(p) for p in self.prompts],
            tokens=self.tokens.masked_fill(after, self.pad_id),
            logp=self.logp.masked_fill(after, 0.0),
            entropy=self.entropy.masked_fill(after, 0.0),
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
            steps=steps,
            row_steps=row_steps,
        )
