"""Whether a finished segment is erased or accepted (method.md sections 3 to 5), as soon as its group allows it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from replication.config import ErasureConfig
from replication.rollout.state import DONE, WAITING, State
from replication.rollout.threshold import frequency_penalty, group_baseline, history_modulation, must_erase
from replication.rollout.uncertainty import segment_uncertainty


class Watcher(Protocol):
    """Sees a rollout grow; rows are counted over all its prompts, under the baseline `batch` over those in flight.

    The tensors are inference tensors: to be read, or copied, but not trained on."""

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        """Each of [r] rows got one of [r] token ids."""

    def erased(self, rows: Tensor) -> None:
        """The current segment of [r] rows was erased."""

    def accepted(self, rows: Tensor) -> None:
        """The current segment of [r] rows was accepted."""


class Judge:
    """Theta_n(e) = beta_n Gamma(e) phi for the completions of a rollout.

    Args:
        state: the completions.
        erasure: the settings.
        running: [N] beta_n of earlier steps in nats, nan where unknown; for the baseline `running`.
        watcher: is told of every erasure and acceptance.
    """

    def __init__(self, state: State, erasure: ErasureConfig, running: Tensor | None, watcher: Watcher | None):
        self.state, self.erasure, self.watcher = state, erasure, watcher
        self.scope = state.rows if erasure.baseline == "batch" else state.group_size  # whose mean beta_n is
        self.given = None  # [N] beta_n that waits for nobody
        if erasure.baseline == "fixed":
            self.given = torch.full((state.segments,), erasure.level, device=state.u.device)
        elif erasure.baseline == "running" and running is not None:
            self.given = running.to(state.u.device)
        known = self.given is not None and not self.given.isnan().any()
        self.waits = not known or erasure.history != 0  # whether a threshold needs statistics of other completions

    def close(self, rows: Tensor) -> None:
        """Judge the segments [r] that just ended, and all that waited for them."""
        state = self.state
        plain, mine = rows[~state.erasable[rows]], rows[state.erasable[rows]]
        self._accept(plain, torch.full((len(plain),), torch.nan, device=plain.device))
        if len(mine) == 0:
            return
        n, u = state.segment[mine], self.uncertainty(mine)
        state.u[mine, n] = u
        first = state.first_u[mine, n]
        state.first_u[mine, n] = torch.where(first.isnan(), u, first)
        if not self.waits:
            return self._judge(mine)
        state.phase[mine] = WAITING
        while len(ready := self._ready()):
            self._judge(ready)

    def uncertainty(self, rows: Tensor) -> Tensor:
        """U of the rows' current segments, [r] in nats."""
        state, n = self.state, self.state.segment[rows]
        h = state.entropy[rows] if self.erasure.uncertainty == "entropy" else -state.logp[rows]
        weights = self.erasure.w_base, self.erasure.w_max, self.erasure.w_rise
        return segment_uncertainty(h, state.start[rows, n], state.length[rows], self.erasure.window, *weights)

    def _ready(self) -> Tensor:
        """Waiting rows whose group has made its first attempts at their segment, or ended before it."""
        state = self.state
        n = state.segment.clamp(max=state.segments - 1)
        tried = state.segment + (~state.first_u.gather(1, n[:, None]).squeeze(1).isnan()).long()
        absent = (state.phase == DONE) | ~state.erasable
        slowest = tried.masked_fill(absent, state.segments + 1).view(-1, self.scope).amin(1)
        waiting = (state.phase == WAITING) & (slowest.repeat_interleave(self.scope) > state.segment)
        return waiting.nonzero().squeeze(1)

    def _judge(self, rows: Tensor) -> None:
        """Erase or accept the rows' segments."""
        state = self.state
        n = state.segment[rows]
        spent = state.erasures[rows, n]
        theta = self._baseline(rows) * frequency_penalty(spent, self.erasure.growth)
        if self.erasure.history:
            theta = theta * self._modulation(rows)
        erase = must_erase(state.u[rows, n], theta, spent, self.erasure.cap, self.erasure.floor)
        self._erase(rows[erase], theta[erase])
        self._accept(rows[~erase], theta[~erase])

    def _baseline(self, rows: Tensor) -> Tensor:
        """beta_n of the rows' current segments, [r] in nats."""
        state = self.state
        n = state.segment[rows]
        if self.given is not None and not (unknown := self.given[n].isnan()).any():
            return self.given[n]
        first_u = state.first_u.view(-1, self.scope, state.segments)[rows // self.scope, :, n]  # [r, scope]
        beta = group_baseline(first_u, ~first_u.isnan(), self.erasure.kappa)
        return beta if self.given is None else torch.where(unknown, beta, self.given[n])

    def _modulation(self, rows: Tensor) -> Tensor:
        """phi of the rows' current segments, [r]."""
        state, g = self.state, self.state.group_size
        n = state.segment[rows]
        members = (rows // g)[:, None] * g + torch.arange(g, device=rows.device)  # [r, G]
        reached = ~state.first_u[members, n[:, None]].isnan()
        history = state.history[members, n[:, None]]
        phi = history_modulation(history, reached, self.erasure.history)
        return phi.gather(1, (rows % g)[:, None]).squeeze(1)

    def _erase(self, rows: Tensor, theta: Tensor) -> None:
        if len(rows) == 0:
            return
        if self.watcher:
            self.watcher.erased(rows)
        self.state.roll_back(rows, theta)

    def _accept(self, rows: Tensor, theta: Tensor) -> None:
        if len(rows) == 0:
            return
        self.state.accept(rows, theta)
        if self.watcher:
            self.watcher.accepted(rows)
