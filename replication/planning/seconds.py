"""How many tokens a step takes, in how many passes, and about how long."""

from __future__ import annotations

import math

import torch

from replication.planning import cpu, vllm
from replication.planning.pace import BANDWIDTH_SHARE, FLOPS_SHARE, LAUNCH, gpu, gpu_pace
from replication.planning.plan import AGAIN, Plan


def step_seconds(p: Plan, sampled: float, passes: float) -> dict[str, float]:
    """Of a step's rollout, so many tokens sampled in so many passes, and of its training; on a CPU timed now."""
    pace = gpu_pace(p, sampled / passes) if p.config.trainer.gpu_gib else cpu.pace(p)
    rollout = p.groups * pace.prompt + passes * pace.decoding
    if vllm.is_used(p):
        rollout += vllm.recomputed(p) / p.prompt * pace.prompt + vllm.push(p)
    return {"rollout": rollout, "training": pace.training}


def kept_tokens(p: Plan) -> int:
    """Tokens of a step's completions over all processes, each of the longest length: prompts x group x T."""
    return p.config.train.prompts * p.config.rollout.group_size * p.longest


def sampled_tokens(p: Plan) -> float:
    """That a process samples in a step: rows x T x (1 + erasures)."""
    return p.rows * p.longest * (1 + p.erasures)


def rounds(p: Plan) -> float:
    """Attempts at a segment until those who wait for each other go on, on average: another one where any of the m that
    erase is erased once more, 1 - (1 - q)^m for each share q of AGAIN. Where the threshold needs nobody's statistics,
    m is 1, and the last row, which takes longer than an average one, is left out of account."""
    rule, m = p.config.erasure, p.erasing
    if rule.baseline == "batch":
        m *= in_turn(p)
    elif rule.baseline != "group" and not rule.history:
        m = min(m, 1)
    return 1 + sum(1 - (1 - q) ** m for q in AGAIN[: rule.cap])


def in_turn(p: Plan) -> int:
    """Groups that begin together under the baseline `batch`, whose members all wait for each other."""
    return min(p.groups, p.config.rollout.max_rows // p.config.rollout.group_size)


def decoding_passes(p: Plan) -> float:
    """Of a step's rollout: one for a token in every lane, but not less than the rows in flight, one set of them after
    another, take for their segments, T x rounds."""
    if vllm.is_used(p):  # whose rows that wait make room for others
        return max(sampled_tokens(p) / vllm.rows_at_once(p), p.longest * rounds(p))
    sets = p.groups / in_turn(p) if p.config.erasure.baseline == "batch" else p.rows / p.in_flight
    return max(sampled_tokens(p) / p.busy_lanes, math.ceil(sets) * p.longest * rounds(p))


def untimed(p: Plan, fits: bool) -> str:
    """Why there is no time for a step, if there is none."""
    if p.config.trainer.gpu_gib:
        return ""
    if not fits:
        return "it does not fit"
    return "the run would use this machine's GPU: set --trainer.gpu_gib" if torch.cuda.is_available() else ""


def assumptions(p: Plan, timed: bool) -> list[str]:
    """One line for each thing that the numbers rest on and that no setting says."""
    c, passes = p.config, decoding_passes(p)
    small = " (a synthetic problem of 8 steps)" if c.policy.pretrained is None else ""
    lines = [
        f"a prompt has {p.prompt} tokens{small}",
        f"every completion has the longest length, {p.longest} tokens: fewer take less memory and time",
        f"{1 + p.erasures:.2f} tokens are sampled for each that is kept, and those who wait for each other go on "
        f"after {rounds(p):.2f} attempts at a segment",
        f"a rollout takes {passes:,.0f} passes, "
        + (
            f"of {sampled_tokens(p) / passes:.0f} rows each; vLLM has room for "
            f"{vllm.cache(p) / vllm.token(p):,.0f} tokens"
            if vllm.is_used(p)
            else f"which fill {sampled_tokens(p) / passes:.0f} of {p.busy_lanes} lanes"
        ),
    ]
    if vllm.is_used(p):
        if tokens := vllm.resent(p):
            cached = 1 - vllm.recomputed(p) / tokens
            lines.append(
                f"with each segment all before it is sent again, {tokens:,.0f} tokens: {cached:.0%} come from vLLM's "
                f"cache, which has room for {vllm.room(p):.0%} of what the rows in flight have written on average; "
                "the others are computed again"
            )
        lines.append(
            f"vLLM keeps {vllm.asleep(p) / 2**30:.1f} GiB while the policy is trained; new weights take "
            f"{vllm.push(p):.1f} s"
        )
    if c.trainer.gpu_gib:
        on = gpu(p)
        share = vllm.BANDWIDTH_SHARE if vllm.is_used(p) else BANDWIDTH_SHARE
        least = "" if vllm.is_used(p) else f", a block in {LAUNCH * 1e3:.1f} ms at the least (launches)"
        lines += [
            f"{on.name}: {on.bandwidth / 1e12:.3g} TB/s, {on.flops / 1e12:.3g} TFLOP/s",
            f"decoding at {share:.0%} of the bandwidth{least}; training at {FLOPS_SHARE:.0%} of the FLOP/s",
        ]
    elif timed:
        lines.append("passes of rollout and training take what they took on this CPU just now, with random weights")
        if c.trainer.devices > 1:
            lines.append(f"each of the {c.trainer.devices} processes has as many threads to itself as were timed with")
    if timed:
        more = f", up to {c.train.refills} times the rollout again for refills" if c.train.refills else ""
        lines.append(f"not in the time: grading, communication, checkpoints, validation, offloaded transfers{more}")
    if p.sizes.adapters:
        lines.append("adapters on every linear layer of the blocks; the frozen weights keep the policy's type")
    return lines


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
