"""How many tokens a step takes, and about how long: a formula with its assumptions, not a measurement."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from replication.training.plan import ERASED, Plan, kv_token

BANDWIDTH_SHARE = 0.5  # of the memory's bandwidth while decoding; vLLM reaches 0.53 to 0.70 with Qwen3-8B
FLOPS_SHARE = 0.35  # of the GPU's peak while training; of the CPU's measured matrix products, CPU_SHARE
CPU_SHARE = 0.7


@dataclass(frozen=True)
class Hardware:
    """What one process computes on."""

    name: str
    bandwidth: float  # bytes a second
    flops: float  # a second, of the training's precision
    launch: float  # seconds a block takes in a decoding step at the least, however little it computes


def hardware(p: Plan) -> Hardware:
    """By `trainer.gpu_gib`: an H100 SXM up to 80 GiB, an H200 above; 0 is this machine's CPU."""
    if not p.config.trainer.gpu_gib:
        return Hardware("this CPU", bandwidth=10e9, flops=matmul_rate(), launch=4e-4)
    flops = 989e12 if p.config.trainer.precision == "bf16" else 67e12
    if p.config.trainer.gpu_gib <= 80:
        return Hardware("H100 80GB SXM", 3.35e12, flops, launch=6e-4)
    return Hardware("H200", 4.8e12, flops, launch=6e-4)


def matmul_rate(size: int = 384, times: int = 20) -> float:
    """Floating-point operations a second of float32 matrix products on this CPU, with the threads set: the fastest of
    some, since other work may share the cores."""
    a = torch.ones(size, size)
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def erased_factor(p: Plan) -> float:
    """Tokens sampled for each that is kept: ERASED for the share of each group that erases, 1 for the rest."""
    return 1 + (ERASED - 1) * (p.config.erasure.fraction if p.config.erasure.cap else 0.0)


def kept_tokens(p: Plan) -> int:
    """Tokens of a step's completions over all processes, each of the longest length: prompts x group x T."""
    return p.config.train.prompts * p.config.rollout.group_size * p.longest


def decode_step(p: Plan, hw: Hardware) -> float:
    """Seconds of a decoding step: the weights and the live cache, lanes x (prompt + T / 2) entries, read at
    BANDWIDTH_SHARE of the bandwidth; not less than the launches of its blocks. A CPU computes in the same time as well:
    2 x weights x lanes."""
    cache = p.lanes * (p.prompt + p.longest / 2) * kv_token(p)
    reading = (p.sizes.read * p.element + cache) / (hw.bandwidth * BANDWIDTH_SHARE)
    launching = p.sizes.layers * hw.launch
    if p.config.trainer.gpu_gib:
        return max(reading, launching)
    return max(reading, 2 * p.sizes.read * p.lanes / (hw.flops * CPU_SHARE)) + launching


def rollout_seconds(p: Plan, hw: Hardware) -> float:
    """Every lane samples its part of the rows, one after another: rows / lanes x T x the erased tokens' factor."""
    return p.rows / p.lanes * p.longest * erased_factor(p) * decode_step(p, hw)


def token_flops(p: Plan) -> float:
    """Of a token's forward pass: 2 x weights read, and attention to half of the others, 2 x layers x H x d x S with
    S = prompt + T."""
    s = p.sizes
    return 2 * s.read + 2 * s.layers * s.heads * s.head_dim * (p.prompt + p.longest)


def forward_passes(p: Plan) -> float:
    """Forward passes that a step's tokens cost: 1, and 2 for its backward, and 1 to recompute with gradient
    checkpointing, in every epoch; 1 for the attention of the answer, 1 for the reference policy."""
    c = p.config
    look_back = c.credit.advantage == "segment" and c.credit.allocation == "attention"
    return (3 + c.trainer.gradient_checkpointing) * c.train.epochs + look_back + bool(c.objective.kl)


def training_seconds(p: Plan, hw: Hardware) -> float:
    """FLOPs of a process's rows, and half of that for each erased attempt that is a row, at a share of the peak."""
    tokens = p.rows * (p.prompt + p.longest) * (1 + p.attempts / 2)
    share = FLOPS_SHARE if p.config.trainer.gpu_gib else CPU_SHARE
    return tokens * token_flops(p) * forward_passes(p) / (hw.flops * share)


def assumptions(p: Plan, hw: Hardware) -> list[str]:
    """One line for each thing that the numbers rest on and that no setting says."""
    small = p.config.policy.pretrained is None
    gpu = p.config.trainer.gpu_gib
    share = FLOPS_SHARE if gpu else CPU_SHARE
    lines = [
        f"a prompt has {p.prompt} tokens" + (" (a synthetic problem of 8 steps)" if small else ""),
        f"every completion has the longest length, {p.longest} tokens, so that time and memory are upper bounds",
        f"{erased_factor(p):.2f} tokens are sampled for each that is kept",
        f"{hw.name}: {hw.bandwidth / 1e12:.3g} TB/s, {hw.flops / 1e12:.3g} TFLOP/s"
        + ("" if gpu else " (products measured now, bandwidth assumed; otherwise idle)"),
        f"decoding at {BANDWIDTH_SHARE:.0%} of the bandwidth, a block in {hw.launch * 1e3:.1f} ms at the least "
        "(launches); training at "
        f"{share:.0%} of the FLOP/s",
        "not in the time: grading, communication, checkpoints, validation, offloaded transfers",
    ]
    if p.sizes.adapters:
        lines.append("adapters on every linear layer of the blocks; the frozen weights keep the policy's type")
    return lines


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
