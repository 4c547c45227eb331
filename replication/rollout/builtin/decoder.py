"""The embedded engine: any transformers causal LM as it stands, decoded token by token.

Every pending token is fed at its row's own position of a `RowCache`. Erasing a segment sets the row's length back to
the segment's start, so that the next forward pass feeds the last kept token again and overwrites what was erased: n
regenerated tokens cost n decoding steps and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from replication.config import RolloutConfig
from replication.errors import UserError
from replication.rollout.adapters import Merged
from replication.rollout.builtin.cache import RowCache
from replication.rollout.builtin.rows import DONE, Rows
from replication.rollout.builtin.slots import Slots
from replication.rollout.masks import cache_name, embedded, positions, refuse_unsupported, text_config
from replication.rollout.protocol import Counts, Piece, Watcher
from replication.rollout.sampling import draw, tempered_logp, truncate
from replication.rollout.uncertainty import MEASURES, token_surprisal
from replication.seeds import uniforms


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Attention without cuDNN, which would plan it anew for every length of the keys, and they grow with each pass."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


class TorchEngine:
    """An `Engine` that runs the model where it is, with the weights that it has at that moment. Between `sync` and
    `rest` LoRA's adapters are merged into copies of theirs.

    Args:
        model: a transformers causal LM with full or sliding-window attention, in eval mode.

    Raises:
        UserError: a model that cannot be rolled out.
    """

    measures = MEASURES

    def __init__(self, model: Any):
        refuse_unsupported(model)
        self.model = model
        self.ids = embedded(model)
        self.merged: Merged | None = None

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def sync(self) -> None:
        self.rest()
        self.merged = Merged(self.model)

    def rest(self) -> None:
        if self.merged:
            self.merged.undo()
            self.merged = None

    def close(self) -> None:
        self.rest()

    def room(self, rollout: RolloutConfig) -> int:
        return positions(self.model) - rollout.segments * rollout.segment_tokens

    def open(
        self,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        measures: Sequence[str],
        watcher: Watcher | None = None,
    ) -> TorchSession:
        return TorchSession(self.model, prompts, rollout, ends, measures, watcher)


class TorchSession:
    """A `Session`. The rows in the front slots stay the same until one of them comes to its segment's end; up to then
    they are tensors of [r] here, and only what was sampled is written down."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        measures: Sequence[str],
        watcher: Watcher | None,
    ):
        self.model, self.rollout, self.watcher = model, rollout, watcher
        self.rows = Rows(prompts, rollout, measures, model.device)
        self.ends = torch.tensor(list(ends), device=model.device)
        widest = max(len(p) for p in prompts)
        cache = RowCache(text_config(model), min(rollout.max_rows, self.rows.count), widest + self.rows.tokens_at_most)
        self.slots = Slots(self.rows, cache, rollout.lanes or rollout.max_rows, self._prefill)
        self.cache_name = cache_name(model)
        self.passes = self.sampled = 0

    def ask(self, rows: Tensor, kept: Tensor, seed: Tensor) -> None:
        self.rows.ask(rows, kept, seed)

    def drop(self, rows: Tensor) -> None:
        self.rows.phase[rows] = DONE

    @torch.inference_mode()  # a seventh faster than `no_grad` for a small model
    @without_cudnn()
    def next(self) -> Piece:
        rows = self.slots.front()
        if len(rows) == 0:
            left = int((self.rows.phase != DONE).sum())
            raise RuntimeError(f"{left} completions wait for others that are not in flight: a group exceeds the cache")
        return self.rows.take(self._decode(rows))

    def close(self) -> Counts:
        self.slots.cache.release()
        self.slots.release_prompts()
        return Counts(self.passes, self.sampled)

    def _prefill(self, cache: RowCache, positions: Tensor, ids: Tensor) -> None:
        self._forward(cache, positions, ids, cache.aim(positions))

    def _forward(self, cache: RowCache, positions: Tensor, ids: Tensor, mask: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits [r, V] after the last of [r, q] ids of each of the cache's first r rows."""
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            **{self.cache_name: cache},
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _decode(self, rows: Tensor) -> Tensor:
        """Sample tokens for the rows in the front slots, until some come to their segment's end; returns those."""
        state, settings = self.rows, self.rollout
        t = state.length[rows]
        left = state.kept[rows] + settings.segment_tokens - t  # [r] tokens to the segment's end
        times = t[:, None] + torch.arange(int(left.min()), device=rows.device)  # [r, k]
        uniform = uniforms(state.seed[rows, None], times)  # [r, k]
        positions = state.prompt_size[rows, None] - 1 + times
        token = state.pending_token(rows)
        temperature: float | Tensor = settings.temperature
        if settings.cool_fraction:
            temperature = torch.where(state.cool[rows], settings.cool_temperature, temperature)[:, None]
        sampled = []
        cache = self.slots.cache
        for step, mask in enumerate(cache.passes(positions)):
            logits = self._forward(cache, positions[:, step : step + 1], token[:, None], mask)
            scored = tempered_logp(logits, settings.temperature)  # [r, V]
            drawn = tempered_logp(logits, temperature) if settings.cool_fraction else scored
            token = draw(truncate(drawn, settings.top_k, settings.top_p), uniform[:, step])
            h = [MEASURES[name](scored, token) for name in state.measured]
            sampled.append((token, -token_surprisal(scored, token), *h))
            if self.watcher:
                self.watcher.sampled(rows, token)
            ends = token[:, None] == self.ends
            if ends.any():
                break
        count = len(sampled)
        self.passes += count
        self.sampled += count * len(rows)
        tokens, logp, *measured = (torch.stack(part, 1) for part in zip(*sampled, strict=True))
        if not logp.isfinite().all():
            raise UserError(f"the model's log-probabilities are nan: {fault_of(self.model)}")
        state.write(rows, times[:, :count], tokens, logp, dict(zip(state.measured, measured, strict=True)))
        state.ended[rows] = ended = ends.any(1)
        return rows[ended | (left == count)]


def fault_of(model: Any) -> str:
    """Why a model's log-probabilities are no numbers, and what to do about it."""
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        return f"its weights hold nan or infinity, such as {broken[0]}; restore its files, or take another checkpoint"
    return "its weights are finite, so its precision is too low; take float32 (policy.dtype, trainer.precision)"
