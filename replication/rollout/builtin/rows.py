"""What a session knows of its rows: what was asked of each, and what of it is sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from replication.config import RolloutConfig
from replication.rollout.protocol import Piece

PENDING, RUNNING, HELD, DONE = range(4)
"""Not begun; decoding; whole, so that it waits to be asked again; dropped"""


class Rows:
    """R = P * G rows of at most T tokens, and the segment of at most L that each is at.

    Args:
        prompts: P prompts as token ids.
        rollout: the settings.
        measures: names of what is kept of each token beside its log-probability.
        device: where the tensors live.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], rollout: RolloutConfig, measures: Sequence[str], device: torch.device
    ):
        self.prompts, self.group_size, self.piece = prompts, rollout.group_size, rollout.segment_tokens
        self.count = rows = len(prompts) * self.group_size
        self.tokens_at_most = rollout.segments * self.piece
        sizes = torch.tensor([len(p) for p in prompts], device=device)
        last = torch.tensor([p[-1] for p in prompts], device=device)
        self.prompt_size = sizes.repeat_interleave(self.group_size)  # [R]
        self.last_prompt_token = last.repeat_interleave(self.group_size)  # [R]
        member = torch.arange(rows, device=device) % self.group_size
        self.cool = member >= self.group_size - int(rollout.cool_fraction * self.group_size + 0.5)  # [R]
        self.phase, self.kept, self.length, self.seed = (
            torch.zeros(rows, dtype=torch.long, device=device) for _ in range(4)
        )
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(rows, self.tokens_at_most, dtype=torch.long, device=device)
        self.logp = torch.zeros(rows, self.piece, device=device)  # of the segment
        self.measured = {name: torch.zeros(rows, self.piece, device=device) for name in measures}

    def ask(self, rows: Tensor, kept: Tensor, seed: Tensor) -> None:
        """Go on with [m] rows after `kept` tokens; those that have not begun are begun in their turn."""
        self.kept[rows], self.length[rows], self.seed[rows] = kept, kept, seed
        self.phase[rows] = torch.where(self.phase[rows] == PENDING, PENDING, RUNNING)

    def pending_token(self, rows: Tensor) -> Tensor:
        """[r] the last token of each row, which the cache has not seen yet."""
        t = self.length[rows]
        return torch.where(t > 0, self.tokens[rows, (t - 1).clamp(min=0)], self.last_prompt_token[rows])

    def write(self, rows: Tensor, times: Tensor, tokens: Tensor, logp: Tensor, measured: dict[str, Tensor]) -> None:
        """Add tokens [r, k] to the rows [r], whose places [r, k] are the next ones."""
        each, within = rows[:, None], times - self.kept[rows, None]
        self.tokens[each, times], self.logp[each, within] = tokens, logp
        for name, h in measured.items():
            self.measured[name][each, within] = h
        self.length[rows] = times[:, -1] + 1

    def take(self, rows: Tensor) -> Piece:
        """The whole segments of the rows [m], which are held from now on."""
        self.phase[rows] = HELD
        places = self.kept[rows, None] + torch.arange(self.piece, device=rows.device)  # [m, L]
        measured = {name: h[rows] for name, h in self.measured.items()}
        size = self.length[rows] - self.kept[rows]
        return Piece(rows, self.tokens[rows[:, None], places], self.logp[rows], measured, size, self.ended[rows])
