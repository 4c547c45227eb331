"""The erasable rollout (method.md sections 1 to 5): groups of completions, sampled segment by segment.

Every pending token is fed at its row's own position of a `RowCache`. Erasing a segment sets the row's length back to
the segment's start, so that the next forward pass feeds the last kept token again and overwrites what was erased: n
regenerated tokens cost n decoding steps and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError
from replication.rollout.cache import RowCache
from replication.rollout.sampling import draw, tempered_logp
from replication.rollout.threshold import frequency_penalty, group_baseline, history_modulation, must_erase
from replication.rollout.trace import Attempt, Rollout
from replication.rollout.uncertainty import segment_uncertainty, token_entropy, token_surprisal
from replication.seeds import uniforms


class Watcher(Protocol):
    """Sees a rollout grow; rows are counted within the groups in flight."""

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        """Each of [r] rows got one of [r] token ids."""

    def erased(self, rows: Tensor) -> None:
        """The current segment of [r] rows was erased."""

    def accepted(self, rows: Tensor) -> None:
        """The current segment of [r] rows was accepted."""


RUNNING, WAITING, DONE = 0, 1, 2  # decoding; at a segment's end until the group's statistics are known; finished


@torch.no_grad()
def roll_out(
    model: Any,
    prompts: Sequence[Sequence[int]],
    keys: Tensor,
    rollout: RolloutConfig,
    erasure: ErasureConfig,
    eos_ids: Sequence[int],
    pad_id: int,
    running: Tensor | None = None,
    watcher: Watcher | None = None,
) -> Rollout:
    """Sample a group of completions for every prompt.

    Args:
        model: a transformers causal LM with full attention, in eval mode.
        prompts: P prompts as token ids, none empty.
        keys: [P * G] int64, the random key of each completion (`seeds.seed_for`), group by group.
        rollout, erasure: the settings; the first fraction * G members of a group roll out with erasure.
        eos_ids: ids that end a completion.
        pad_id: id that fills the returned rows.
        running: [N] beta_n of earlier steps in nats, for the baseline `running`, which is the group's without it.
        watcher: is told of every token, erasure and acceptance as it happens; needs all prompts in flight at once.

    Returns:
        The completions, [P * G] rows, group by group.

    Raises:
        UserError: an empty prompt, one too long for the model, or a model that cannot be rolled out.
    """
    limit = getattr(model.config, "max_position_embeddings", None) or 2**31
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise UserError(f"prompt {number} is empty: a rollout needs at least one token to start from")
        if len(prompt) + rollout.segments * rollout.segment_tokens > limit:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens and may be followed by {rollout.segments} x "
                f"{rollout.segment_tokens}, but the model reads {limit}: lower rollout.segments or segment_tokens"
            )
    groups = max(1, rollout.max_rows // rollout.group_size)  # in flight at once
    parts = []
    for first in range(0, len(prompts), groups):
        rows = slice(first * rollout.group_size, (first + groups) * rollout.group_size)
        batch = _Batch(model, prompts[first : first + groups], keys[rows], rollout, erasure, eos_ids, pad_id, running)
        batch.watcher = watcher
        parts.append(batch.run())
    return Rollout.concatenate(parts)


class _Batch:
    """The groups in flight: R = P * G rows, N segments of L tokens, T = N * L."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        keys: Tensor,
        rollout: RolloutConfig,
        erasure: ErasureConfig,
        eos_ids: Sequence[int],
        pad_id: int,
        running: Tensor | None,
    ):
        device = model.device
        self.model, self.rollout, self.erasure = model, rollout, erasure
        self.prompts, self.keys = prompts, keys.to(device)
        self.eos_ids = torch.tensor(list(eos_ids), device=device)
        self.group_size = g = rollout.group_size
        rows, segments, tokens = len(prompts) * g, rollout.segments, rollout.segments * rollout.segment_tokens
        member = torch.arange(rows, device=device) % g
        self.erasable = (member < int(erasure.fraction * g + 0.5)) & (erasure.cap > 0)  # [R]
        cool = member >= g - int(rollout.cool_fraction * g + 0.5)
        self.draw_temperature = torch.where(cool, rollout.cool_temperature, rollout.temperature)[:, None]  # [R, 1]
        self.scope = rows if erasure.baseline == "batch" else g  # completions that beta_n is the mean of
        self.given = None  # [N] beta_n that waits for nobody
        if erasure.baseline == "fixed":
            self.given = torch.full((segments,), erasure.level, device=device)
        elif erasure.baseline == "running" and running is not None:
            self.given = running.to(device)
        known = self.given is not None and not self.given.isnan().any()
        self.waits = not known or erasure.history != 0  # whether a threshold needs statistics of other completions

        def full(shape: tuple[int, ...], value: float, dtype: torch.dtype) -> Tensor:
            return torch.full(shape, value, dtype=dtype, device=device)

        self.tokens = full((rows, tokens), pad_id, torch.long)
        self.logp = full((rows, tokens), 0.0, torch.float32)
        self.entropy = full((rows, tokens), 0.0, torch.float32)
        self.length = full((rows,), 0, torch.long)  # tokens of the completion so far
        self.state = full((rows,), RUNNING, torch.long)
        self.segment = full((rows,), 0, torch.long)  # index n of the current segment
        self.start = full((rows, segments + 1), 0, torch.long)  # checkpoints: where each segment starts
        self.erasures = full((rows, segments), 0, torch.long)
        self.first_u = full((rows, segments), torch.nan, torch.float32)  # U of the first attempt
        self.u = full((rows, segments), torch.nan, torch.float32)  # U and Theta of the accepted segment
        self.theta = full((rows, segments), torch.nan, torch.float32)
        self.history = full((rows, segments + 1), 0.0, torch.float32)  # mean U of the segments before this one
        self.ended = full((rows,), False, torch.bool)
        self.attempts: list[Attempt] = []
        self.watcher: Watcher | None = None
        self.steps = self.row_steps = 0
        self._prefill()

    def _prefill(self) -> None:
        """Run the prompts, all but their last tokens, once per group, and copy their keys and values to the members."""
        device, g = self.tokens.device, self.group_size
        sizes = torch.tensor([len(p) for p in self.prompts], device=device)
        widest = int(sizes.max())
        ids = torch.zeros(len(sizes), widest, dtype=torch.long, device=device)  # padded on the right: never attended to
        for row, prompt in enumerate(self.prompts):
            ids[row, : len(prompt)] = torch.tensor(list(prompt), device=device)
        self.prompt_size = sizes.repeat_interleave(g)  # [R]
        self.last_prompt_token = ids.gather(1, sizes[:, None] - 1).squeeze(1).repeat_interleave(g)  # [R]
        self.cache = RowCache(self.model.config, len(sizes) * g, widest + self.tokens.shape[1])
        if widest > 1:
            prompt_cache = RowCache(self.model.config, len(sizes), widest - 1)
            positions = torch.arange(widest - 1, device=device).expand(len(sizes), -1)
            self._forward(prompt_cache, torch.arange(len(sizes), device=device), positions, ids[:, :-1])
            self.cache.fill_from(prompt_cache, g)
            prompt_cache.release()

    def _forward(self, cache: RowCache, rows: Tensor, positions: Tensor, ids: Tensor) -> Tensor:
        """Logits [r, V] after the last token of each row."""
        mask = cache.aim(rows, positions)
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def run(self) -> Rollout:
        while True:
            rows = (self.state == RUNNING).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            finished = self._decode(rows)
            self._close(finished)
        self.cache.release()
        return Rollout(
            group_size=self.group_size,
            prompts=[list(p) for p in self.prompts],
            tokens=self.tokens,
            logp=self.logp,
            entropy=self.entropy,
            length=self.length,
            ended=self.ended,
            erasable=self.erasable,
            start=self.start,
            segments=self.segment,
            erasures=self.erasures,
            first_u=self.first_u,
            u=self.u,
            theta=self.theta,
            attempts=self.attempts,
            steps=self.steps,
            row_steps=self.row_steps,
        )

    def _decode(self, rows: Tensor) -> Tensor:
        """Sample one token for each of the rows; return those that came to a segment's end."""
        t = self.length[rows]
        n = self.segment[rows]
        previous = self.tokens[rows, (t - 1).clamp(min=0)]
        pending = torch.where(t > 0, previous, self.last_prompt_token[rows])
        positions = self.prompt_size[rows] + t - 1
        logits = self._forward(self.cache, rows, positions[:, None], pending[:, None])
        logp = tempered_logp(logits, self.rollout.temperature)  # [r, V]
        drawn = tempered_logp(logits, self.draw_temperature[rows]) if self.rollout.cool_fraction else logp
        token = draw(drawn, uniforms(self.keys[rows], n, self.erasures[rows, n], t))
        self.tokens[rows, t] = token
        self.logp[rows, t] = -token_surprisal(logp, token)
        self.entropy[rows, t] = token_entropy(logp)
        self.length[rows] = t + 1
        self.steps += 1
        self.row_steps += len(rows)
        if self.watcher:
            self.watcher.sampled(rows, token)
        ended = torch.isin(token, self.eos_ids)
        self.ended[rows] = ended
        full = t + 1 - self.start[rows, n] == self.rollout.segment_tokens
        return rows[ended | full]

    def _close(self, rows: Tensor) -> None:
        """Judge the segments that just ended, and all that waited for them."""
        plain = rows[~self.erasable[rows]]
        self._accept(plain, torch.full((len(plain),), torch.nan, device=plain.device))
        mine = rows[self.erasable[rows]]
        if len(mine) == 0:
            return
        n = self.segment[mine]
        h = self.entropy[mine] if self.erasure.uncertainty == "entropy" else -self.logp[mine]
        weights = self.erasure.w_base, self.erasure.w_max, self.erasure.w_rise
        u = segment_uncertainty(h, self.start[mine, n], self.length[mine], self.erasure.window, *weights)
        self.u[mine, n] = u
        first = self.first_u[mine, n]
        self.first_u[mine, n] = torch.where(first.isnan(), u, first)
        self.state[mine] = WAITING
        while len(ready := self._ready()):
            self._judge(ready)

    def _ready(self) -> Tensor:
        """Waiting rows whose group has made its first attempts at their segment, or ended before it."""
        if not self.waits:
            return (self.state == WAITING).nonzero().squeeze(1)
        n = self.segment.clamp(max=self.rollout.segments - 1)
        tried = self.segment + (~self.first_u.gather(1, n[:, None]).squeeze(1).isnan()).long()
        absent = (self.state == DONE) | ~self.erasable
        slowest = tried.masked_fill(absent, self.rollout.segments + 1).view(-1, self.scope).amin(1)
        return ((self.state == WAITING) & (slowest.repeat_interleave(self.scope) > self.segment)).nonzero().squeeze(1)

    def _judge(self, rows: Tensor) -> None:
        """Erase or accept the rows' segments by Theta_n(e) = beta_n Gamma(e) phi."""
        g = self.group_size
        n = self.segment[rows]
        members = (rows // g)[:, None] * g + torch.arange(g, device=rows.device)  # [r, G]
        reached = ~self.first_u[members, n[:, None]].isnan()
        history = self.history[members, n[:, None]]
        phi = history_modulation(history, reached, self.erasure.history).gather(1, (rows % g)[:, None]).squeeze(1)
        spent = self.erasures[rows, n]
        penalty = frequency_penalty(spent, self.erasure.growth)
        theta = self._baseline(rows) * penalty * phi
        erase = must_erase(self.u[rows, n], theta, spent, self.erasure.cap, self.erasure.floor)
        self._erase(rows[erase], theta[erase])
        self._accept(rows[~erase], theta[~erase])

    def _baseline(self, rows: Tensor) -> Tensor:
        """beta_n of the rows' current segments, [r] in nats."""
        n = self.segment[rows]
        if self.given is not None and not (unknown := self.given[n].isnan()).any():
            return self.given[n]
        first_u = self.first_u.view(-1, self.scope, self.first_u.shape[1]).transpose(1, 2)  # [S, N, scope]
        beta = group_baseline(first_u, ~first_u.isnan(), self.erasure.kappa)[rows // self.scope, n]
        return beta if self.given is None else torch.where(unknown, beta, self.given[n])

    def _erase(self, rows: Tensor, theta: Tensor) -> None:
        n = self.segment[rows]
        start, end = self.start[rows, n].tolist(), self.length[rows].tolist()
        for i, row in enumerate(rows.tolist()):
            ids = self.tokens[row, start[i] : end[i]].tolist()
            logp = self.logp[row, start[i] : end[i]].tolist()
            entropy = self.entropy[row, start[i] : end[i]].tolist()
            spent, u = int(self.erasures[row, n[i]]), float(self.u[row, n[i]])
            self.attempts.append(Attempt(row, int(n[i]), spent, start[i], ids, logp, entropy, u, float(theta[i])))
        if self.watcher and len(rows):
            self.watcher.erased(rows)
        self.erasures[rows, n] += 1
        self.length[rows] = self.start[rows, n]  # the rollback
        self.state[rows] = RUNNING

    def _accept(self, rows: Tensor, theta: Tensor) -> None:
        n = self.segment[rows]
        self.theta[rows, n] = theta
        self.history[rows, n + 1] = (self.history[rows, n] * n + self.u[rows, n].nan_to_num()) / (n + 1)
        self.segment[rows] = n + 1
        self.start[rows, n + 1] = self.length[rows]
        if self.watcher and len(rows):
            self.watcher.accepted(rows)
        done = self.ended[rows] | (n + 1 == self.rollout.segments)
        self.state[rows] = torch.where(done, DONE, RUNNING)
