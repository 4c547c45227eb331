"""Log-probabilities and measures of the tokens that vLLM samples, from the logits on their way to its sampler.

vLLM's own log-probabilities are of what top-k and top-p have left, and know no entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from replication.rollout.uncertainty import MEASURES


class Measuring(LogitsProcessor):
    """Sees the logits of each step after the temperature, and changes nothing.

    A request's `extra_args` have its `name`, and the `factor` by which its own temperature exceeds the one at which its
    log-probabilities are wanted.

    The token that a row samples from a step's logits is known in the next step, or when its request ends; until then
    the distribution is kept. Where vLLM has interrupted a request, it reads its text again, in parts perhaps: a step of
    that samples nothing, and its logits count for nothing.
    """

    made: ClassVar[Measuring]
    """The one of the engine that was made last; a process has one engine"""

    def __init__(self, config: Any, device: torch.device, is_pin_memory: bool):
        Measuring.made = self
        self.rows: dict[int, tuple[str, float, list[int]]] = {}  # row -> request, its factor, its tokens so far
        self.found: dict[str, list[list[float]]] = {}  # request -> of each token, log-probability and measures
        self.logp: Tensor | None = None  # [b, V] of the last step
        self.place: dict[str, int] = {}  # request -> its row there

    def is_argmax_invariant(self) -> bool:
        return True  # such processors come after the temperature

    def update_state(self, update: BatchUpdate | None) -> None:
        new = [(name, tokens) for name, _, tokens in self.rows.values() if name in self.place and tokens]
        self._settle([(name, tokens[-1]) for name, tokens in new if len(tokens) > len(self.found.get(name, ()))])
        if update is None:
            return
        for row in update.removed:
            self.rows.pop(row, None)
        for row, params, _, tokens in update.added:
            about = params.extra_args or {}
            self.rows[row] = str(about.get("name")), float(about.get("factor", 1.0)), tokens
        for source, to, way in update.moved:
            moved, there = self.rows.pop(source, None), self.rows.pop(to, None)
            if moved is not None:
                self.rows[to] = moved
            if there is not None and way == MoveDirectionality.SWAP:
                self.rows[source] = there

    def apply(self, logits: Tensor) -> Tensor:
        scored = logits.float()
        factors = [self.rows[row][1] if row in self.rows else 1.0 for row in range(len(logits))]
        if any(factor != 1.0 for factor in factors):
            scored = scored * torch.tensor(factors, device=logits.device)[:, None]
        self.logp = torch.log_softmax(scored, -1)
        self.place = {name: row for row, (name, _, tokens) in self.rows.items() if row < len(logits)}
        return logits

    def take(self, name: str, ids: Sequence[int]) -> tuple[list[float], dict[str, list[float]]]:
        """Log-probabilities of a request's tokens that the last step has finished, and its measures by name; they are
        forgotten here."""
        self._settle([(name, ids[-1])])
        found = self.found.pop(name)
        if len(found) != len(ids):
            raise RuntimeError(f"{len(found)} distributions were seen of {len(ids)} tokens")
        logp, *measured = (list(values) for values in zip(*found, strict=True))
        return logp, dict(zip(MEASURES, measured, strict=True))

    def forget(self, name: str) -> None:
        """A request was given up."""
        self.found.pop(name, None)
        self.place.pop(name, None)

    def _settle(self, sampled: Sequence[tuple[str, int]]) -> None:
        """Note what the last step's distributions say of the tokens that were sampled from them."""
        if not sampled or self.logp is None:
            return
        rows = torch.tensor([self.place.pop(name) for name, _ in sampled], device=self.logp.device)
        tokens = torch.tensor([token for _, token in sampled], device=self.logp.device)
        logp = self.logp[rows]
        values = [logp.gather(1, tokens[:, None]).squeeze(1), *(measure(logp, tokens) for measure in MEASURES.values())]
        for (name, _), found in zip(sampled, torch.stack(values, 1).tolist(), strict=True):
            self.found.setdefault(name, []).append(found)
