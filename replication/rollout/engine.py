"""The erasable rollout (method.md sections 1 to 5): groups of completions, sampled segment by segment.

Every pending token is fed at its row's own position of a `RowCache`. Erasing a segment sets the row's length back to
the segment's start, so that the next forward pass feeds the last kept token again and overwrites what was erased: n
regenerated tokens cost n decoding steps and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from replication.config import ErasureConfig, RolloutConfig
from replication.errors import UserError
from replication.rollout.cache import RowCache
from replication.rollout.judge import Judge, Watcher
from replication.rollout.masks import embedded, refuse_unsupported, text_config
from replication.rollout.sampling import draw, tempered_logp, truncate
from replication.rollout.slots import Slots
from replication.rollout.state import DONE, State
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import token_entropy, token_surprisal
from replication.seeds import uniforms


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
        model: a transformers causal LM with full or sliding-window attention, in eval mode.
        prompts: P prompts as token ids, none empty.
        keys: [P * G] int64, the random key of each completion (`seeds.seed_for`), group by group.
        rollout, erasure: the settings; the first fraction * G members of a group roll out with erasure.
        eos_ids: ids that end a completion.
        pad_id: id that fills the returned rows.
        running: [N] beta_n of earlier steps in nats, for the baseline `running`, which is the group's without it.
        watcher: is told of every token, erasure and acceptance as it happens.

    Returns:
        The completions, [P * G] rows, group by group.

    Raises:
        UserError: no prompt, an empty one, one too long for the model or with ids that it lacks, a model that cannot
            be rolled out, or one whose log-probabilities are nan.
    """
    refuse_unsupported(model)
    room, known = prompt_room(model, rollout), embedded(model)
    if not prompts:
        raise UserError("no prompt to sample from")
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise UserError(f"prompt {number} is empty: a rollout needs at least one token to start from")
        if max(prompt) >= known:
            raise UserError(
                f"prompt {number} has the id {max(prompt)}, and the model reads ids below {known}: its tokenizer is "
                "another model's; restore the tokenizer's files"
            )
        if len(prompt) > room:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens and may be followed by {rollout.segments} x "
                f"{rollout.segment_tokens}; beside it the model reads {room}: lower rollout.segments or segment_tokens"
            )
    together = len(prompts)
    if erasure.baseline == "batch":  # all whose mean it is wait for each other, so all must be in flight
        together = rollout.max_rows // rollout.group_size
    parts = []
    for first in range(0, len(prompts), together):
        rows = slice(first * rollout.group_size, (first + together) * rollout.group_size)
        fraction = erasure.fraction if erasure.cap > 0 else 0.0
        state = State(prompts[first : first + together], keys[rows], rollout, fraction, pad_id, model.device)
        judge = Judge(state, erasure, running, watcher)
        with torch.inference_mode():  # a seventh faster than `no_grad` for a small model
            parts.append(Decoder(model, state, rollout, eos_ids, watcher).run(judge))
    return Rollout.concatenate(parts)  # copies, which can be trained on


def prompt_room(model: Any, rollout: RolloutConfig) -> int:
    """Tokens that a prompt may have, so that the model can read it and the longest completion."""
    limit = getattr(text_config(model), "max_position_embeddings", None) or 2**31
    return limit - rollout.segments * rollout.segment_tokens


class Decoder:
    """Samples the completions of a state, token by token.

    The completions in the front slots stay the same until one of them comes to its segment's end; up to then they are
    tensors of [r] here, and only what was sampled is written to the state.
    """

    def __init__(
        self, model: Any, state: State, rollout: RolloutConfig, eos_ids: Sequence[int], watcher: Watcher | None
    ):
        self.model, self.state, self.rollout, self.watcher = model, state, rollout, watcher
        self.eos_ids = torch.tensor(list(eos_ids), device=state.tokens.device)
        widest = max(len(p) for p in state.prompts)
        cache = RowCache(text_config(model), min(rollout.max_rows, state.rows), widest + state.tokens_at_most)
        self.slots = Slots(state, cache, rollout.lanes or rollout.max_rows, self._prefill)
        self.steps = self.row_steps = 0

    def run(self, judge: Judge) -> Rollout:
        while len(rows := self.slots.front()):
            judge.close(self._decode(rows))
        self.slots.cache.release()
        self.slots.release_prompts()
        if left := int((self.state.phase != DONE).sum()):
            raise RuntimeError(f"{left} completions wait for others that are not in flight: a group exceeds the cache")
        return self.state.rollout(self.steps, self.row_steps)

    def _prefill(self, cache: RowCache, positions: Tensor, ids: Tensor) -> None:
        self._forward(cache, positions, ids, cache.aim(positions))

    def _forward(self, cache: RowCache, positions: Tensor, ids: Tensor, mask: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits [r, V] after the last of [r, q] ids of each of the cache's first r rows."""
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

    def _decode(self, rows: Tensor) -> Tensor:
        """Sample tokens for the rows in the front slots, until some come to their segment's end; returns those."""
        state, settings = self.state, self.rollout
        t, n = state.length[rows], state.segment[rows]
        left = state.start[rows, n] + settings.segment_tokens - t  # [r] tokens to the segment's end
        times = t[:, None] + torch.arange(int(left.min()), device=rows.device)  # [r, k]
        uniform = uniforms(*(x[:, None] for x in (state.keys[rows], n, state.erasures[rows, n])), times)  # [r, k]
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
            sampled.append((token, -token_surprisal(scored, token), token_entropy(scored)))
            if self.watcher:
                self.watcher.sampled(rows, token)
            ends = token[:, None] == self.eos_ids
            if ends.any():
                break
        count = len(sampled)
        self.steps += count
        self.row_steps += count * len(rows)
        tokens, logp, entropy = (torch.stack(part, 1) for part in zip(*sampled, strict=True))
        if not logp.isfinite().all():
            raise UserError("the model's log-probabilities are nan: its weights are lost, or its precision is too low")
        state.write(rows, times[:, :count], tokens, logp, entropy)
        state.ended[rows] = ended = ends.any(1)
        return rows[ended | (left == count)]
