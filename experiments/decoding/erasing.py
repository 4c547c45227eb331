"""What erasing costs: time for each regenerated token, bytes, growth, and sampling whole completions again instead."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from experiments.decoding.peers import PLAIN, timed
from experiments.training.clock import Clock
from replication.config import ErasureConfig, RolloutConfig
from replication.rollout.builtin.decoder import TorchEngine, TorchSession
from replication.rollout.builtin.slots import Slots
from replication.rollout.engine import finish, roll_out, write
from replication.rollout.judge import Judge
from replication.rollout.ledger import Ledger
from replication.rollout.trace import Rollout
from replication.rollout.uncertainty import MEASURES, segment_uncertainties

Prompts = Sequence[Sequence[int]]
ERASED = ErasureConfig(kappa=0.0, growth=0.3, cap=5)
ALWAYS = ErasureConfig(baseline="fixed", level=1e-6, growth=0.0, history=0.0, cap=1)  # each segment twice
JUDGED = ErasureConfig(baseline="fixed", level=1e9, history=0.0, cap=3)  # waits for nobody; for a level of its own
NEVER = [-1]  # no token ends a completion, so that all runs have one length


class Acceptor(Judge):
    """The engine without the code that judges: a finished segment is the start of the next."""

    def close(self, rows: Tensor) -> Tensor:
        self.ledger.accept(rows, torch.full((len(rows),), torch.nan))
        return rows


def sample(model: Any, prompts: Prompts, settings: RolloutConfig, erasure: ErasureConfig) -> Rollout:
    keys = torch.arange(len(prompts) * settings.group_size)
    return roll_out(TorchEngine(model), prompts, keys, settings, erasure, NEVER, 0)


def judged(
    model: Any, prompts: Prompts, settings: RolloutConfig, erasure: ErasureConfig, judge: type[Judge]
) -> Rollout:
    """A rollout whose segments another class judges."""
    ledger = Ledger(prompts, torch.arange(len(prompts) * settings.group_size), settings, erasure.fraction, 0)
    return finish(write(TorchEngine(model), ledger, judge(ledger, erasure, None, None), settings, NEVER))


def overhead_when_off(model: Any, prompts: Prompts, settings: RolloutConfig, rounds: int) -> tuple[float, float]:
    """Seconds with erasure off, and without its code path: the least of rounds that take turns.

    The latter neither judges nor takes the entropy of the tokens; their log-probabilities training needs anyway.
    """
    off, without = [], []
    for _ in range(rounds):
        off.append(timed(judged, model, prompts, settings, PLAIN, Judge)[0])
        with mock.patch.dict(MEASURES, {"entropy": lambda logp, token: logp[:, 0]}):
            without.append(timed(judged, model, prompts, settings, PLAIN, Acceptor)[0])
    return min(off), min(without)


def per_regenerated_token(
    model: Any, prompts: Prompts, settings: RolloutConfig, erasure: ErasureConfig, rounds: int
) -> tuple[float, float, float]:
    """Microseconds for each regenerated token, and for each token with erasure off, in the same number of lanes; and
    the share of the lanes that were busy with erasure on.

    The first is what erasing adds to the time of the run, over the tokens that it adds; from the second the time of
    the first token is taken away, which is the prompts' mostly.
    """
    kinds = [(replace(settings, segments=1, segment_tokens=1), PLAIN), (settings, PLAIN), (settings, erasure)]
    times: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        runs = [timed(sample, model, prompts, *kind) for kind in kinds]
        for into, (spent, _) in zip(times, runs, strict=True):
            into.append(spent)
    (begun, off, on), (first, once, twice) = map(min, times), (done.row_steps for _, done in runs)
    busy = twice / (runs[-1][1].steps * (settings.lanes or settings.max_rows))
    return 1e6 * (on - off) / (twice - once), 1e6 * (off - begun) / (once - first), busy


def microseconds_by_part(
    model: Any, prompts: Prompts, settings: RolloutConfig, erasure: ErasureConfig
) -> dict[str, float]:
    """Of each token sampled: forward passes, judging, which completion takes which lane, and the rest."""
    clock = Clock()
    places = [(TorchSession, "_forward", "forward"), (Judge, "close", "judging"), (Slots, "front", "lanes")]
    with ExitStack() as patches:
        for owner, name, part in places:
            patches.enter_context(mock.patch.object(owner, name, clock.wrap(part, getattr(owner, name))))
        clock.last = time.perf_counter()
        tokens = sample(model, prompts, settings, erasure).row_steps
        clock.tick()
    return {part: 1e6 * seconds / tokens for part, seconds in clock.steps[0].items() if part != "step"}


def kv_bytes(model: Any, prompts: Prompts, settings: RolloutConfig, erasure: ErasureConfig) -> int:
    """Bytes of keys and values that a rollout has held at once, its prompts' included.

    Beside these, moving rows holds a copy of one layer's keys or values of the rows that it moves, for that moment.
    """
    held = []
    decode = TorchSession._decode

    def watched(session: TorchSession, rows: Tensor) -> Tensor:
        whole = decode(session, rows)
        caches = [session.slots.cache, *([session.slots.prompts] if session.slots.prompts else [])]
        held.append(sum(x.numel() * x.element_size() for cache in caches for x in cache.tensors()))
        return whole

    with mock.patch.object(TorchSession, "_decode", watched):
        sample(model, prompts, settings, erasure)
    return max(held)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of log y over log x, by least squares."""
    u, v = [math.log(a) for a in x], [math.log(b) for b in y]
    mean = statistics.mean(u)
    return sum((a - mean) * b for a, b in zip(u, v, strict=True)) / sum((a - mean) ** 2 for a in u)


def growth_with_erasures(
    model: Any, prompts: Prompts, settings: RolloutConfig, caps: Sequence[int], rounds: int
) -> float:
    """Exponent of time over tokens sampled, where each segment is sampled 1, 2, 4, ... times."""
    turns = [[timed(sample, model, prompts, settings, replace(ALWAYS, cap=cap)) for cap in caps] for _ in range(rounds)]
    times = [min(spent for spent, _ in runs) for runs in zip(*turns, strict=True)]
    return exponent([done.row_steps for _, done in turns[0]], times)


def growth_with_length(
    model: Any, prompts: Prompts, settings: RolloutConfig, segments: Sequence[int]
) -> tuple[float, float]:
    """Exponents of the time a completion and of KV bytes over its length, erasure on."""
    lengths, times, sizes = [], [], []
    for n in segments:
        longer = replace(settings, segments=n)
        lengths.append(n * settings.segment_tokens)
        spent, done = timed(sample, model, prompts, longer, ERASED)
        times.append(spent / done.row_steps * lengths[-1])  # for the same share of erasures at each length
        sizes.append(kv_bytes(model, prompts, longer, ERASED))
    return exponent(lengths, times), exponent(lengths, sizes)


class StartOver(Judge):
    """Erases whole completions: their U is the largest of their pieces of `piece` tokens."""

    piece = 8

    def uncertainty(self, rows: Tensor) -> Tensor:
        ledger, rule = self.ledger, self.erasure
        starts = torch.arange(0, ledger.tokens_at_most + 1, self.piece).expand(len(rows), -1)
        weights = rule.w_base, rule.w_max, rule.w_rise
        pieces = torch.full((len(rows),), starts.shape[1] - 1)
        return segment_uncertainties(-ledger.logp[rows], starts, pieces, rule.window, *weights).amax(1)


def against_starting_over(
    model: Any, prompts: Prompts, settings: RolloutConfig, share: float, tries: int, rounds: int
) -> dict[str, float]:
    """Least seconds, and tokens, until no segment of a completion is above a threshold, erasing segments or all of it.

    The threshold is the quantile `share` of the segments' U. After `tries` samplings of a segment, or of a completion,
    either gives up; the shares that had not succeeded by then are returned too. Both keep their lanes filled.
    """
    level = float(sample(model, prompts, settings, ErasureConfig(cap=1, baseline="fixed", level=1e9)).u.quantile(share))
    rule = ErasureConfig(baseline="fixed", level=level, growth=0.0, history=0.0, cap=tries - 1)
    whole = replace(settings, segments=1, segment_tokens=settings.segments * settings.segment_tokens)
    spent, again = [], []
    for _ in range(rounds):
        seconds, done = timed(sample, model, prompts, settings, rule)
        spent.append(seconds)
        seconds, whole_done = timed(judged, model, prompts, whole, rule, StartOver)
        again.append(seconds)
    return {
        "seconds": min(spent),
        "seconds again": min(again),
        "tokens": done.row_steps,
        "tokens again": whole_done.row_steps,
        "left": float((done.u > level).any(1).float().mean()),
        "left again": float((whole_done.u > level).any(1).float().mean()),
    }


def rounding(model: Any, prompts: Prompts, settings: RolloutConfig) -> tuple[float, float, float]:
    """What the shape of the batch still changes: the largest difference of a log-probability, in nats, between
    completions sampled singly and all at once, over those whose ids are equal; the share whose ids are not; and with
    erasure, a group at a time against all, the share whose ids or erasures are not."""
    alone = sample(model, prompts, replace(settings, group_size=1, max_rows=1), PLAIN)
    together = sample(model, prompts, replace(settings, group_size=1), PLAIN)
    same = (alone.tokens == together.tokens).all(1)
    difference = float((alone.logp - together.logp)[same].abs().max()) if same.any() else math.nan
    one, all_ = (
        sample(model, prompts, replace(settings, max_rows=n), ERASED) for n in (settings.group_size, settings.max_rows)
    )
    equal = (one.tokens == all_.tokens).all(1) & (one.erasures == all_.erasures).all(1)
    return difference, float((~same).float().mean()), float((~equal).float().mean())
