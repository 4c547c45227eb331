"""How fast a process is at the parts of a step, and on a GPU what is assumed of that."""

from __future__ import annotations

from dataclasses import dataclass

from replication.planning import vllm
from replication.planning.memory import kv_token
from replication.planning.plan import Plan

BANDWIDTH_SHARE = 0.5  # of a GPU's memory bandwidth while decoding; vLLM reaches 0.53 to 0.70 with Qwen3-8B
FLOPS_SHARE = 0.35  # of its peak while training
LAUNCH = 6e-4  # seconds a block takes in a decoding pass at the least, however little it computes


@dataclass(frozen=True)
class Pace:
    """Seconds of a decoding pass, of the prefill of a prompt, and of the training of a step."""

    decoding: float
    prompt: float
    training: float


@dataclass(frozen=True)
class Gpu:
    """What one process computes on."""

    name: str
    bandwidth: float  # bytes a second
    flops: float  # a second, of the training's precision


def gpu(p: Plan) -> Gpu:
    """By `trainer.gpu_gib`: an H100 SXM up to 80 GiB, an H200 above."""
    flops = 989e12 if p.config.trainer.precision == "bf16" else 67e12
    if p.config.trainer.gpu_gib <= 80:
        return Gpu("H100 80GB SXM", 3.35e12, flops)
    return Gpu("H200", 4.8e12, flops)


def gpu_pace(p: Plan, rows: float) -> Pace:
    """On a GPU, by formula, with so many rows in a decoding pass."""
    flops = gpu(p).flops * FLOPS_SHARE
    return Pace(decoding_pass(p, rows), prompt_flops(p) / flops, training_flops(p) / flops)


def decoding_pass(p: Plan, rows: float) -> float:
    """Seconds: the weights and the live cache, rows x (prompt + T / 2) entries, read at BANDWIDTH_SHARE of the
    bandwidth; not less than the launches of its blocks."""
    if vllm.is_used(p):
        return vllm.decoding_pass(p, rows, gpu(p).bandwidth)
    cache = rows * (p.prompt + p.longest / 2) * kv_token(p)
    reading = (p.sizes.read * p.element + cache) / (gpu(p).bandwidth * BANDWIDTH_SHARE)
    return max(reading, p.sizes.layers * LAUNCH)


def prompt_flops(p: Plan) -> float:
    """2 x the blocks' weights for each token of a prompt."""
    return 2 * p.sizes.linear * p.prompt


def token_flops(p: Plan) -> float:
    """Of a token's forward pass: 2 x weights read, and attention to half of the others, 2 x layers x H x d x S with
    S = prompt + T."""
    s = p.sizes
    return 2 * s.read + 2 * s.layers * s.heads * s.head_dim * (p.prompt + p.longest)


def training_flops(p: Plan) -> float:
    """Of a process's rows: a forward pass and 2 for its backward, and 1 to recompute with gradient checkpointing, in
    every epoch, 1 for the reference policy, and 1 where a correction scores the samples first; half of that for each
    erased attempt that is a row; and 1 forward pass of the rows for the attention of their answers."""
    c = p.config
    passes = (3 + c.trainer.gradient_checkpointing) * c.train.epochs + bool(c.objective.kl) + c.scores_first
    return p.rows * (p.prompt + p.longest) * token_flops(p) * (passes * (1 + p.attempts / 2) + p.looks_back)
