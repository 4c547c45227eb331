"""The embedded engine at the size of Qwen3-4B: what a pass takes, a rollout by part, and transformers beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from experiments.decoding import peers
from experiments.decoding.erasing import NEVER, PLAIN, sample
from experiments.gpu.device import GIB, bandwidth, cudnn, free, kv_token, least_milliseconds, made, on_cuda, peak_gib
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows
from experiments.training.clock import Clock, settle
from replication.config import ErasureConfig, RolloutConfig
from replication.planning.pace import BANDWIDTH_SHARE, LAUNCH
from replication.rollout.builtin.decoder import TorchEngine, TorchSession
from replication.rollout.builtin.slots import Slots
from replication.rollout.engine import roll_out
from replication.rollout.judge import Judge

TIMED = 12  # passes


class Passes:
    """Watches a rollout: when each of its passes was done."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def sampled(self, rows: Tensor, tokens: Tensor) -> None:
        settle()
        self.ends.append(time.perf_counter())

    def erased(self, rows: Tensor) -> None: ...

    def accepted(self, rows: Tensor) -> None: ...

    def milliseconds(self) -> float:
        """The median of a pass; the first ones are left out."""
        ends = self.ends[2:]
        return 1e3 * statistics.median(b - a for a, b in pairwise(ends))


def decoded(model: Any, count: int, live: int, tokens: int, watcher: Passes | None = None) -> None:
    """So many tokens after prompts of `live` tokens, in `count` rows at once."""
    group = min(16, count)
    settings = RolloutConfig(group_size=group, segments=1, segment_tokens=tokens, max_rows=count)
    prompts = [[5 + i] * live for i in range(count // group)]
    roll_out(TorchEngine(model), prompts, torch.arange(count), settings, PLAIN, NEVER, 0, watcher=watcher)


def passes(rows: Rows, setting: Setting) -> None:
    """A decoding pass with the draw, by rows at once and by the tokens that each has."""
    model, speed = made("4B", setting), bandwidth(rows)
    cases = [(1, 512), (16, 4352), (32, 4352), (32, 8192), (96, 2048)]
    for count, live in [(2, 24)] if setting.tiny else cases:
        free()
        name, watch = f"{count} rows, {live:,} live", Passes()
        decoded(model, count, live, 4)
        decoded(model, count, live, TIMED, watch)
        spent, least = watch.milliseconds(), least_milliseconds(model, count, live, speed)
        plan = max(least / BANDWIDTH_SHARE, 1e3 * LAUNCH * model.config.num_hidden_layers)
        note = f"at the copy's bandwidth {least:.2f}; by the plan's assumptions {plan:.1f}"
        rows.add(f"{name}: a pass", spent, "ms", note=f"{note}; {1e3 * count / spent:,.0f} tokens/s")
        rows.add(f"{name}: share of the bandwidth", least / spent)
        if on_cuda():
            cache = count * (live + TIMED) * kv_token(model.config) / GIB
            note = f"keys and values {cache:.1f}, and what the prompts took"
            rows.add(f"{name}: peak memory", peak_gib(), "GiB", note=note)
    if on_cuda():
        launches(rows, model)


def launches(rows: Rows, model: Any) -> None:
    """Kernels of a pass: those of twelve passes beside those of four."""
    from torch.profiler import ProfilerActivity, profile

    found = []
    for tokens in (4, 12):
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            decoded(model, 32, 4352, tokens)
        events = [event for event in record.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        found.append((len(events), sum(event.self_device_time_total for event in events)))
    (few, short), (many, long) = found
    busy = f"the GPU is busy for {(long - short) / 8e3:.2f} ms of it"
    rows.add("32 rows, 4,352 live: kernels of a pass", (many - few) / 8, note=busy)


def by_part(model: Any, prompts: Sequence[Sequence[int]], settings: RolloutConfig, erasure: ErasureConfig) -> Any:
    """A rollout, and its seconds by part."""
    clock = Clock(settle)
    places = [(TorchSession, "_forward", "forward"), (TorchSession, "_decode", "drawing"), (Judge, "close", "judging")]
    with ExitStack() as patches:
        for owner, name, part in [*places, (Slots, "front", "lanes")]:
            patches.enter_context(mock.patch.object(owner, name, clock.wrap(part, getattr(owner, name))))
        clock.last = clock.now()
        done = sample(model, prompts, settings, erasure)
        clock.tick()
    return done, clock.steps[0]


def rollouts(rows: Rows, setting: Setting) -> None:
    """Whole rollouts of four groups, plain and erasing: milliseconds of a pass, and which part takes them."""
    model = made("4B", setting)
    few, length = (2, 4) if setting.tiny else (4, 256)
    settings = RolloutConfig(
        group_size=4 if setting.tiny else 16,
        segments=3,
        segment_tokens=4 if setting.tiny else 32,
        max_rows=8 if setting.tiny else 32,
    )
    prompts = [[5 + i] * length for i in range(few)]
    sample(model, prompts[:1], RolloutConfig(**{**vars(settings), "segments": 1}), PLAIN)
    for name, rule in (("plain", PLAIN), ("erasing", ErasureConfig(window=32))):
        done, spent = by_part(model, prompts, settings, rule)
        whole = spent.pop("step")
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in spent.items())
        rows.add(f"{name}: a pass", 1e3 * whole / done.steps, "ms", note=f"seconds: {parts}")
        rows.add(f"{name}: sampled", done.row_steps / whole, "tokens/s", note=f"{int(done.erasures.sum())} erasures")
        busy = done.row_steps / done.steps / settings.max_rows
        rows.add(f"{name}: busy lanes", busy, "share", note=f"{done.steps} passes")


def beside_transformers(rows: Rows, setting: Setting) -> None:
    """The same completions by the embedded engine, by `generate`, and by transformers' continuous batching."""
    model = made("4B", setting)
    count, cap, length = (4, 8, 4) if setting.tiny else (32, 128, 256)
    prompts = [[5 + i] * length for i in range(count)]
    name = f"{count} rows of {cap} tokens"
    peers.engine(model, prompts, count, 8, -1)
    spent, done = peers.engine(model, prompts, count, cap, -1)
    ours = int(done.length.sum()) / spent
    rows.add(f"{name}: the embedded engine", ours, "tokens/s")
    for peer, work in (("generate", peers.generate), ("continuous batching", peers.continuous)):
        with cudnn(False):  # which the engine leaves out by itself
            work(model, prompts, count, [8] * count)
            theirs = count * cap / work(model, prompts, count, [cap] * count)
        rows.add(f"{name}: {peer}", theirs, "tokens/s", note="without cuDNN's attention, as the engine")
        rows.add(f"{name}: the embedded engine over {peer}", ours / theirs, "", ">= 1")
