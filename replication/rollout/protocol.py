"""What a rollout asks of an engine: to go on with a row after its first tokens, for a segment more.

The method stands above this seam: groups, uncertainties, thresholds, attempts. Lanes, caches and prefill stand below.
An erasure is no verb of its own: it asks to go on after fewer tokens than were written.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from replication.config import RolloutConfig


class Piece(NamedTuple):
    """Segments that are whole, of m rows; what stands behind a segment's end is meaningless but finite."""

    rows: Tensor  # [m]
    tokens: Tensor  # [m, L] ids
    logp: Tensor  # [m, L] log-probability of each under the whole distribution at the temperature, in nats
    measured: Mapping[str, Tensor]  # measure -> [m, L], in nats
    size: Tensor  # [m] tokens
    ended: Tensor  # [m] boolean: the last one ends the text


class Counts(NamedTuple):
    """What a session took."""

    passes: int  # forward passes; 0 where the engine does not see them
    sampled: int  # tokens, erased ones included


class Watcher(Protocol):
    """Sees a rollout grow; rows are counted over all its prompts, under the baseline `batch` over those in flight.

    The tensors may be inference tensors: to be read, or copied, but not trained on."""

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        """Each of [r] rows got one of [r] token ids."""

    def erased(self, rows: Tensor) -> None:
        """The current segment of [r] rows was erased."""

    def accepted(self, rows: Tensor) -> None:
        """The current segment of [r] rows was accepted."""


class Session(Protocol):
    """One rollout of R rows, a group of rows a prompt."""

    def ask(self, rows: Tensor, kept: Tensor, seed: Tensor) -> None:
        """Go on with [m] rows after their first `kept` tokens, until a segment more or an end. The first call asks for
        all rows.

        Args:
            rows: [m], none of which is asked already.
            kept: [m] tokens of the completion that stand; fewer than were written erases the rest.
            seed: [m] int64; a row's random numbers are a function of it and of the token's place.
        """

    def next(self) -> Piece | None:
        """Those of the segments that were asked that are whole; None where there are none yet, after some work or
        waiting for them. An engine that has several sessions may work for another meanwhile."""

    def drop(self, rows: Tensor) -> None:
        """The rows [m] are finished: free what they hold."""

    def close(self) -> Counts:
        """Free everything; what was asked is forgotten."""


class Engine(Protocol):
    """Makes tokens of one model; kept over the steps of a training."""

    ids: int
    """The model reads ids below this"""

    @property
    def measures(self) -> Container[str]:
        """Names of `uncertainty.MEASURES` that it can give."""

    @property
    def device(self) -> torch.device:
        """Where the tensors of a rollout are wanted."""

    def sync(self) -> None:
        """The model's weights have changed: sample from the new ones."""

    def rest(self) -> None:
        """Nothing is sampled until the next `sync`: give memory back."""

    def close(self) -> None:
        """It is not needed any more: give back all that it holds."""

    def room(self, rollout: RolloutConfig) -> int:
        """Tokens that a prompt may have, so that the model can read it and the longest completion.

        Raises:
            UserError: the engine cannot sample by these settings.
        """

    def open(
        self,
        prompts: Sequence[Sequence[int]],
        rollout: RolloutConfig,
        ends: Sequence[int],
        measures: Sequence[str],
        watcher: Watcher | None = None,
    ) -> Session:
        """Begin a rollout.

        Args:
            prompts: P prompts as token ids.
            rollout: the settings.
            ends: ids that end a completion.
            measures: names of `uncertainty.MEASURES` that a piece shall bring.
            watcher: is told of every token.
        """
