"""Whether a finished segment is erased or accepted (method.md sections 3 to 5), as soon as its group allows it."""

from __future__ import annotations

import torch
from torch import Tensor

from replication.config import ErasureConfig
from replication.rollout.ledger import Ledger
from replication.rollout.protocol import Watcher
from replication.rollout.threshold import frequency_penalty, group_baseline, history_modulation, must_erase
from replication.rollout.uncertainty import segment_uncertainty


class Judge:
    """Theta_n(e) = beta_n Gamma(e) phi for the completions of a rollout.

    Args:
        ledger: the completions.
        erasure: the settings.
        running: [N] beta_n of earlier steps in nats, nan where unknown; for the baseline `running`.
        watcher: is told of every erasure and acceptance.
    """

    def __init__(self, ledger: Ledger, erasure: ErasureConfig, running: Tensor | None, watcher: Watcher | None):
        self.ledger, self.erasure, self.watcher = ledger, erasure, watcher
        self.scope = ledger.rows if erasure.baseline == "batch" else ledger.group_size  # whose mean beta_n is
        self.given = None  # [N] beta_n that waits for nobody
        if erasure.baseline == "fixed":
            self.given = torch.full((ledger.segments,), erasure.level, device=ledger.u.device)
        elif erasure.baseline == "running" and running is not None:
            self.given = running.to(ledger.u.device)
        known = self.given is not None and not self.given.isnan().any()
        self.waits = not known or erasure.history != 0  # whether a threshold needs statistics of other completions

    def close(self, rows: Tensor) -> Tensor:
        """Judge the segments of the rows [r] that just ended, and all that waited for them; returns the rows judged."""
        ledger = self.ledger
        plain, mine = rows[~ledger.erasable[rows]], rows[ledger.erasable[rows]]
        self._accept(plain, torch.full((len(plain),), torch.nan, device=plain.device))
        if len(mine) == 0:
            return plain
        n, u = ledger.segment[mine], self.uncertainty(mine)
        ledger.u[mine, n] = u
        first = ledger.first_u[mine, n]
        ledger.first_u[mine, n] = torch.where(first.isnan(), u, first)
        judged = [plain]
        if not self.waits:
            self._judge(mine)
            return torch.cat([plain, mine])
        ledger.waiting[mine] = True
        while len(ready := self._ready()):
            self._judge(ready)
            judged.append(ready)
        return torch.cat(judged)

    def uncertainty(self, rows: Tensor) -> Tensor:
        """U of the rows' current segments, [r] in nats."""
        ledger, n = self.ledger, self.ledger.segment[rows]
        h = ledger.uncertainty(self.erasure.uncertainty, rows)
        weights = self.erasure.w_base, self.erasure.w_max, self.erasure.w_rise
        return segment_uncertainty(h, ledger.start[rows, n], ledger.length[rows], self.erasure.window, *weights)

    def _ready(self) -> Tensor:
        """Waiting rows whose group has made its first attempts at their segment, or ended before it."""
        ledger = self.ledger
        n = ledger.segment.clamp(max=ledger.segments - 1)
        tried = ledger.segment + (~ledger.first_u.gather(1, n[:, None]).squeeze(1).isnan()).long()
        absent = ledger.done | ~ledger.erasable
        slowest = tried.masked_fill(absent, ledger.segments + 1).view(-1, self.scope).amin(1)
        waiting = ledger.waiting & (slowest.repeat_interleave(self.scope) > ledger.segment)
        return waiting.nonzero().squeeze(1)

    def _judge(self, rows: Tensor) -> None:
        """Erase or accept the rows' segments."""
        ledger = self.ledger
        n = ledger.segment[rows]
        spent = ledger.erasures[rows, n]
        theta = self._baseline(rows) * frequency_penalty(spent, self.erasure.growth)
        if self.erasure.history:
            theta = theta * self._modulation(rows)
        erase = must_erase(ledger.u[rows, n], theta, spent, self.erasure.cap, self.erasure.floor)
        self._erase(rows[erase], theta[erase])
        self._accept(rows[~erase], theta[~erase])

    def _baseline(self, rows: Tensor) -> Tensor:
        """beta_n of the rows' current segments, [r] in nats."""
        ledger = self.ledger
        n = ledger.segment[rows]
        if self.given is not None and not (unknown := self.given[n].isnan()).any():
            return self.given[n]
        first_u = ledger.first_u.view(-1, self.scope, ledger.segments)[rows // self.scope, :, n]  # [r, scope]
        beta = group_baseline(first_u, ~first_u.isnan(), self.erasure.kappa)
        return beta if self.given is None else torch.where(unknown, beta, self.given[n])

    def _modulation(self, rows: Tensor) -> Tensor:
        """phi of the rows' current segments, [r]."""
        ledger, g = self.ledger, self.ledger.group_size
        n = ledger.segment[rows]
        members = (rows // g)[:, None] * g + torch.arange(g, device=rows.device)  # [r, G]
        reached = ~ledger.first_u[members, n[:, None]].isnan()
        history = ledger.history[members, n[:, None]]
        phi = history_modulation(history, reached, self.erasure.history)
        return phi.gather(1, (rows % g)[:, None]).squeeze(1)

    def _erase(self, rows: Tensor, theta: Tensor) -> None:
        if len(rows) == 0:
            return
        if self.watcher:
            self.watcher.erased(rows)
        self.ledger.roll_back(rows, theta)

    def _accept(self, rows: Tensor, theta: Tensor) -> None:
        if len(rows) == 0:
            return
        self.ledger.accept(rows, theta)
        if self.watcher:
            self.watcher.accepted(rows)
