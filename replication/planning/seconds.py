"""How many tokens a step takes, and about how long: on a GPU a formula with its assumptions, on a CPU timed."""

from __future__ import annotations

from dataclasses import dataclass

from replication.planning import clock
from replication.planning.memory import ERASED, Plan, kv_token

ROUNDS = 2.4  # attempts at a segment until all of a group are through, under erasure: 16 members of the tiny model
BANDWIDTH_SHARE = 0.5  # of a GPU's memory bandwidth while decoding; vLLM reaches 0.53 to 0.70 with Qwen3-8B
FLOPS_SHARE = 0.35  # of its peak while training
LAUNCH = 6e-4  # seconds a block takes in a decoding pass at the least, however little it computes


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


def step_seconds(p: Plan, sampled: float, passes: float) -> dict[str, float]:
    """Of a step's rollout, so many tokens sampled in so many passes, and of its training."""
    if p.config.trainer.gpu_gib:
        decoding, prompt, training = decoding_pass(p, sampled / passes), prefill(p), training_seconds(p)
    else:
        decoding, prompt, training = clock.timed(p)
    return {"rollout": p.groups * prompt + passes * decoding, "training": training}


def sampled_tokens(p: Plan) -> float:
    """That a process samples in a step: rows x T x the erased tokens' factor."""
    return p.rows * p.longest * erased_factor(p)


def decoding_passes(p: Plan) -> float:
    """Of a step's rollout: one for a token in every lane, or, where there are not enough rows to fill the lanes of
    those that wait for the last of their group, T x ROUNDS of each slot's rows, one after another."""
    rounds = ROUNDS if erased_factor(p) > 1 else 1.0
    return max(sampled_tokens(p) / p.lanes, max(1.0, p.rows / p.slots) * p.longest * rounds)


def erased_factor(p: Plan) -> float:
    """Tokens sampled for each that is kept: ERASED for the share of each group that erases, 1 for the rest."""
    return 1 + (ERASED - 1) * (p.config.erasure.fraction if p.config.erasure.cap else 0.0)


def kept_tokens(p: Plan) -> int:
    """Tokens of a step's completions over all processes, each of the longest length: prompts x group x T."""
    return p.config.train.prompts * p.config.rollout.group_size * p.longest


def decoding_pass(p: Plan, rows: float) -> float:
    """Seconds on a GPU: the weights and the live cache, rows x (prompt + T / 2) entries, read at BANDWIDTH_SHARE of
    the bandwidth; not less than the launches of its blocks."""
    cache = rows * (p.prompt + p.longest / 2) * kv_token(p)
    reading = (p.sizes.read * p.element + cache) / (gpu(p).bandwidth * BANDWIDTH_SHARE)
    return max(reading, p.sizes.layers * LAUNCH)


def prefill(p: Plan) -> float:
    """Seconds of a prompt on a GPU: 2 x the blocks' weights, a token, at FLOPS_SHARE of the peak."""
    return 2 * p.sizes.linear * p.prompt / (gpu(p).flops * FLOPS_SHARE)


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


def training_seconds(p: Plan) -> float:
    """On a GPU: FLOPs of a process's rows, and half of that for each erased attempt that is a row, at FLOPS_SHARE of
    the peak."""
    tokens = p.rows * (p.prompt + p.longest) * (1 + p.attempts / 2)
    return tokens * token_flops(p) * forward_passes(p) / (gpu(p).flops * FLOPS_SHARE)


def assumptions(p: Plan) -> list[str]:
    """One line for each thing that the numbers rest on and that no setting says."""
    small = p.config.policy.pretrained is None
    lines = [
        f"a prompt has {p.prompt} tokens" + (" (a synthetic problem of 8 steps)" if small else ""),
        f"every completion has the longest length, {p.longest} tokens, so that time and memory are upper bounds",
        f"{erased_factor(p):.2f} tokens are sampled for each that is kept, in {decoding_passes(p):,.0f} passes, which "
        f"fill {sampled_tokens(p) / decoding_passes(p):.0f} of {p.lanes} lanes",
    ]
    if p.config.trainer.gpu_gib:
        on = gpu(p)
        lines += [
            f"{on.name}: {on.bandwidth / 1e12:.3g} TB/s, {on.flops / 1e12:.3g} TFLOP/s",
            f"decoding at {BANDWIDTH_SHARE:.0%} of the bandwidth, a block in {LAUNCH * 1e3:.1f} ms at the least "
            f"(launches); training at {FLOPS_SHARE:.0%} of the FLOP/s",
        ]
    else:
        lines.append(
            "passes of the rollout and of the training take what they took on this CPU just now, with random weights"
        )
    lines.append("not in the time: grading, communication, checkpoints, validation, offloaded transfers")
    if p.sizes.adapters:
        lines.append("adapters on every linear layer of the blocks; the frozen weights keep the policy's type")
    return lines


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
