"""The plan of a run, for people and for machines."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from replication.config import Config, PolicyConfig
from replication.planning import seconds, vllm
from replication.planning.memory import Memory, available, fits, host_memory, memory, peak
from replication.planning.plan import PROMPT, SMALL_PROMPT, Plan
from replication.planning.remedies import remedies, roomiest
from replication.planning.sizes import sizes_of
from replication.training.disk import checkpoint_bytes, checkpoints_at_once, run_bytes, size


def machine_memory() -> int:
    """Bytes of this machine's memory, or of the container's part of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # there is none, or it is "max"
        return whole


def plan_of(config: Config) -> Plan:
    """The plan of a run's settings, with the prompt's assumed length."""
    return Plan(config, sizes_of(config.policy), SMALL_PROMPT if config.policy.pretrained is None else PROMPT)


def adapters_of(policy: PolicyConfig, rank: int) -> int:
    """Weights of LoRA's adapters of a rank."""
    return sizes_of(replace(policy, lora_rank=rank)).adapters


def findings(p: Plan, model: str) -> dict[str, Any]:
    """What the plan says of memory and tokens, in bytes."""
    machine, config = machine_memory(), p.config
    ok = fits(p, machine)
    weights = p.sizes.parameters + p.sizes.adapters, p.trained
    return {
        "model": model,
        "parameters": p.sizes.parameters,
        "trained": p.trained,
        "processes": p.world,
        "strategy": p.config.trainer.strategy,
        "offload": p.config.trainer.offload,
        "memory": memory(p),
        "peak": peak(p),
        "available": available(p, machine),
        "machine": host_memory(p),
        "disk": {
            "checkpoint": checkpoint_bytes(config, *weights),
            "checkpoints": checkpoints_at_once(config),
            "run": run_bytes(config, *weights),
        },
        "fits": ok,
        "lack": vllm.lack(p),
        "roomiest_max_rows": roomiest(p, machine),
        "remedies": [] if ok else remedies(p, machine, lambda rank: adapters_of(p.config.policy, rank)),
        "tokens": {
            "kept": seconds.kept_tokens(p),
            "sampled": int(seconds.kept_tokens(p) * (1 + p.erasures)),
        },
    }


def times(p: Plan, fits: bool) -> dict[str, Any]:
    """What the plan says of time, in seconds, none where a CPU cannot be timed; and what all of it rests on."""
    found: dict[str, Any] = {"seconds": None, "untimed": seconds.untimed(p, fits)}
    if not found["untimed"]:
        step = seconds.step_seconds(p, seconds.sampled_tokens(p), seconds.decoding_passes(p))
        whole = sum(step.values())
        found["seconds"] = {**step, "step": whole, "run": whole * p.config.train.steps}
    return {**found, "assumptions": seconds.assumptions(p, timed=not found["untimed"])}


PARTS = (
    "weights",
    "gathered weights",
    "merged weights",
    "reference",
    "gradients",
    "optimizer",
    "KV cache",
    "vLLM",
    "activations",
    "logits",
    "buffers",
    "record",
)


def table(phases: Memory) -> list[str]:
    """Parts by phases, and the sum of each phase; parts that are nowhere are left out."""
    rows = {part: [held.get(part, 0) for held in phases.values()] for part in PARTS}
    rows = {part: row for part, row in rows.items() if any(row)}
    rows["sum"] = [sum(held.values()) for held in phases.values()]
    cells = [["", *phases], *([part, *(size(n) if n else "-" for n in row)] for part, row in rows.items())]
    return [f"{name:<18}" + "".join(f"{cell:>11}" for cell in line) for name, *line in cells]


def flags(values: dict[str, Any]) -> str:
    """Changed settings as they stand on the command line."""
    return " ".join(
        f"--{key} {str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()
    )


def page(found: dict[str, Any], p: Plan) -> str:
    """The findings as text."""
    c, tokens = p.config, found["tokens"]
    what = "GPU" if c.trainer.gpu_gib else "process"
    trained = "" if found["trained"] == found["parameters"] else f", {found['trained'] / 1e6:.1f} M of adapters trained"
    lines = [
        f"{found['model']}: {found['parameters']:,} parameters{trained}; {c.trainer.strategy}, {p.world} "
        f"{what}{'s' if p.world > 1 else ''}" + (f" of {c.trainer.gpu_gib} GiB" if c.trainer.gpu_gib else ""),
        "",
        f"memory of each {what} by phase of a step",
        *table(found["memory"]),
        "",
        ("fits" if found["fits"] else "DOES NOT FIT")
        + f": {size(found['peak'])} of {size(found['available'])} at the most"
        + (f"; {size(found['machine'])} of each machine's own memory" if found["machine"] else ""),
    ]
    disk = found["disk"]
    lines.append(
        f"disk: {size(disk['run'])}, for {disk['checkpoints']} checkpoints of {size(disk['checkpoint'])} and the export"
    )
    if found["lack"]:
        lines.append(found["lack"])
    if found["fits"]:
        if found["roomiest_max_rows"] > c.rollout.max_rows:
            lines.append(
                f"room for more rows in flight, which decode faster: --rollout.max_rows {found['roomiest_max_rows']}"
            )
    elif found["remedies"]:
        lines += ["fits with one of:", *(f"  {flags(values)}" for values in found["remedies"])]
    else:
        lines.append(
            "nothing that was tried fits: fewer or shorter segments, a smaller model, or GPUs with more memory"
        )
    lines += ["", f"a step: {tokens['kept']:,} tokens kept of {tokens['sampled']:,} sampled"]
    return "\n".join(lines)


def times_page(found: dict[str, Any], steps: int) -> str:
    """The times of a step and of so many as text, and the assumptions."""
    spent, text = found["seconds"], seconds.duration
    line = f"time: not estimated: {found['untimed']}"
    if spent:
        parts = f"rollout {text(spent['rollout'])}, training {text(spent['training'])}"
        line = f"time: {text(spent['step'])} a step, {parts}; {text(spent['run'])} for {steps} steps"
    return "\n".join([line, "", "assumed:", *(f"- {assumed}" for assumed in found["assumptions"])])
