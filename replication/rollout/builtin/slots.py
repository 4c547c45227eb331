"""Which completion holds which row of the KV cache: continuous batching.

Completions are admitted singly, in order, whenever a slot is free; those that decode hold the first slots, so that a
forward pass reads their keys and values where they are. A completion that waits for its group is moved out of the way
of one that can go on, and only then.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from replication.rollout.builtin.cache import RowCache
from replication.rollout.builtin.rows import DONE, RUNNING, Rows

Prefill = Callable[[RowCache, Tensor, Tensor], object]  # cache, [p, q] positions, [p, q] ids


class Slots:
    """The KV cache of a session and the completions in it.

    Args:
        state: the completions.
        cache: at least as many rows as a group whose members wait for each other, else a rollout would never end.
        lanes: completions decoded in one pass, at most.
        prefill: runs the model over prompts, into a cache.
    """

    def __init__(self, state: Rows, cache: RowCache, lanes: int, prefill: Prefill):
        self.state, self.cache, self.lanes, self.prefill = state, cache, lanes, prefill
        self.holder = torch.full((cache.rows,), -1, device=state.phase.device)  # [S] completion, -1 for none
        self.admitted = 0  # completions begun so far
        self.prefilled = 0  # groups
        self.prompts: RowCache | None = None  # keys and values of the prompts prefilled last, all but their last tokens
        self.first = 0  # the group of its first row

    def front(self) -> Tensor:
        """Fill the front slots with completions that can go on; returns those [r], by slot."""
        running = self._running()
        count = int(running.sum())
        if self.admitted < self.state.count and count < self.lanes:
            self._admit(self.lanes - count)
            running = self._running()
            count = int(running.sum())
        count = min(count, self.lanes)
        holes = (~running[:count]).nonzero().squeeze(1)
        if len(holes):
            behind = running[count:].nonzero().squeeze(1) + count
            oldest = self.holder[behind].argsort()[: len(holes)]  # groups that finish early make room for others
            self._bring(behind[oldest], holes)
        return self.holder[:count]

    def _running(self) -> Tensor:
        return (self.holder >= 0) & (self.state.phase[self.holder.clamp(min=0)] == RUNNING)

    def _free(self) -> Tensor:
        return (self.holder < 0) | (self.state.phase[self.holder.clamp(min=0)] == DONE)

    def _bring(self, behind: Tensor, holes: Tensor) -> None:
        """Move what is in the slots `behind` [m] to the `holes` [m], and what waits in a hole to where that was."""
        waits = ~self._free()[holes]
        to, source = torch.cat([holes, behind[waits]]), torch.cat([behind, holes[waits]])
        held = self.holder[source]
        width = int((self.state.prompt_size + self.state.length)[held].max())
        self.cache.move(to, source, width)
        self.holder[behind] = -1
        self.holder[to] = held

    def _admit(self, wanted: int) -> None:
        """Begin the next completions, as far as slots are free."""
        state = self.state
        free = self._free().nonzero().squeeze(1)[:wanted]
        first = self.admitted
        last = min(first + len(free), state.count)
        self.admitted = last
        while first < last:  # the members of a group prefilled before, then the groups that are new
            if first >= self.prefilled * state.group_size:
                ahead = self.prefilled + self.cache.rows // (4 * state.group_size)  # several at once cost less
                self._prefill_until(min(max(-(-last // state.group_size), ahead), len(state.prompts)))
            end = min(last, self.prefilled * state.group_size)
            rows = torch.arange(first, end, device=free.device)
            slots, free = free[: len(rows)], free[len(rows) :]
            if self.prompts is not None:
                self.cache.fill(slots, self.prompts, rows // state.group_size - self.first)
            self.holder[slots] = rows
            state.phase[rows] = RUNNING
            first = end

    def release_prompts(self) -> None:
        """Give the memory of the prompts' cache back."""
        if self.prompts is not None:
            self.prompts.release()
            self.prompts = None

    def _prefill_until(self, groups: int) -> None:
        """Run the prompts of the groups up to that number, all but their last tokens."""
        state, device = self.state, self.holder.device
        prompts = state.prompts[self.prefilled : groups]
        widest = max(len(p) for p in prompts)
        self.release_prompts()
        self.first, self.prefilled = self.prefilled, groups
        if widest == 1:
            return
        ids = torch.zeros(len(prompts), widest - 1, dtype=torch.long, device=device)
        for row, prompt in enumerate(prompts):  # padded on the right: never attended to
            ids[row, : len(prompt) - 1] = torch.tensor(list(prompt[:-1]), device=device)
        self.prompts = RowCache(self.cache.config, len(prompts), widest - 1)
        self.prefill(self.prompts, torch.arange(widest - 1, device=device).expand(len(prompts), -1), ids)
