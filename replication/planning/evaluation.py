"""The plan of an evaluation: completions, tokens, memory, and hours by the number of devices.

A chunk of problems is a training's rollout without the training, so that passes, paces and memory are the plan's of a
run. The chunks go to whichever device is free, as the evaluation itself hands them out.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from replication.config import Config
from replication.data.sources import Problem
from replication.evaluation.run import chunks
from replication.planning import seconds, vllm
from replication.planning.memory import available, kv_cache, record, rollout_logits, weights
from replication.planning.page import machine_memory, plan_of
from replication.planning.plan import Plan
from replication.training.disk import size

PUBLISHED = {
    **{"amc23": 40, "aime24": 30, "aime25": 30, "aime26": 30},
    **{"math500": 500, "minerva": 272, "olympiadbench": 675},
}
"""Problems of the paper's benchmarks, for a plan before they are prepared"""
DEVICES = (1, 8, 16)


def chunk_plan(config: Config, mode: str, problems: int) -> Plan:
    """The rollout of so many problems on one device."""
    erases, _ = config.evaluate.sampling(mode)
    k = config.evaluate.samples
    settings = replace(
        config,
        rollout=replace(config.rollout, group_size=k, max_rows=max(k, config.rollout.max_rows), cool_fraction=0.0),
        erasure=replace(config.erasure, fraction=1.0) if erases else replace(config.erasure, cap=0),
        train=replace(config.train, prompts=problems, minibatches=1, validate_every=0),
        trainer=replace(config.trainer, devices=1, nodes=1, offload="none"),
    )
    if config.policy.dtype == "float32":
        settings = replace(settings, trainer=replace(settings.trainer, strategy="single", precision="32"))
    return plan_of(settings)


def memory(p: Plan) -> dict[str, int]:
    """Bytes of a device, part by part; beside vLLM's copy the policy's own weights stay in the machine's memory."""
    if vllm.is_used(p):
        return {"vLLM": vllm.held(p)}
    return {"weights": weights(p), "KV cache": kv_cache(p), "logits": rollout_logits(p), "record": record(p)}


def makespan(times: Sequence[float], devices: int) -> float:
    """Seconds until the last of some chunks is done, each taken in turn by the first device that is free."""
    free = [0.0] * devices
    for time in times:
        heapq.heapreplace(free, free[0] + time)
    return max(free)


def findings(config: Config, sizes: Mapping[str, int], model: str) -> dict[str, Any]:
    """What an evaluation of benchmarks of so many problems takes."""
    problems = {name: [Problem(name, "", "")] * count for name, count in sizes.items()}
    parts = chunks(problems, config.rollout, config.evaluate)
    plans = {key: chunk_plan(config, *key) for key in {(part.mode, len(part.problems)) for part in parts}}
    pace = {
        key: seconds.step_seconds(p, seconds.sampled_tokens(p), seconds.decoding_passes(p))["rollout"]
        for key, p in plans.items()
    }
    times = [pace[part.mode, len(part.problems)] for part in parts]
    kept, sampled = dict.fromkeys(config.evaluate.modes, 0), dict.fromkeys(config.evaluate.modes, 0.0)
    for part in parts:
        p = plans[part.mode, len(part.problems)]
        kept[part.mode] += p.rows * p.longest
        sampled[part.mode] += seconds.sampled_tokens(p)
    longest = plans[max(pace, key=lambda key: pace[key])]
    asked = config.trainer.devices * config.trainer.nodes
    held, room, lack = memory(longest), available(longest, machine_memory()), vllm.lack(longest)
    return {
        "model": model,
        "benchmarks": dict(sizes),
        "samples": config.evaluate.samples,
        "completions": sum(sizes.values()) * config.evaluate.samples * len(config.evaluate.modes),
        "kept": kept,
        "sampled": {mode: int(count) for mode, count in sampled.items()},
        "memory": held,
        "available": room,
        "fits": sum(held.values()) <= room and not lack,
        "lack": lack,
        "seconds": {str(n): makespan(times, n) for n in sorted({*DEVICES, asked})},
        "assumptions": assumptions(longest, len(parts)),
    }


def assumptions(p: Plan, parts: int) -> list[str]:
    """What the numbers rest on, of the chunk that takes longest."""
    lines = [line for line in seconds.assumptions(p, timed=True) if not line.startswith(("vLLM keeps", "not in the"))]
    return [
        *(line.replace("a rollout takes", "its rollout takes").split("; training at")[0] for line in lines),
        f"{parts} chunks, the longest of {p.rows:,} completions; each goes to a device that is free",
        "not in the time: loading the model, grading",
    ]


def page(found: Mapping[str, Any], unit: str) -> str:
    """The findings as text."""
    modes, held = found["kept"], sum(found["memory"].values())
    word = "fits" if found["fits"] else "DOES NOT FIT"
    lines = [
        f"{found['model']}: {len(found['benchmarks'])} benchmarks, {sum(found['benchmarks'].values()):,} problems x "
        f"{found['samples']} samples x {len(modes)} modes: {found['completions']:,} completions",
        *(f"  {mode}: {modes[mode]:,} tokens kept of {found['sampled'][mode]:,} sampled" for mode in modes),
        f"{word}: {size(held)} of {size(found['available'])} of each {unit} ("
        + ", ".join(f"{part} {size(count)}" for part, count in found["memory"].items())
        + ")",
        *([found["lack"]] if found["lack"] else []),
        *(f"time on {n} {unit}{'s' if n != '1' else ''}: {seconds.duration(s)}" for n, s in found["seconds"].items()),
        "",
        "assumed:",
        *(f"- {line}" for line in found["assumptions"]),
    ]
    return "\n".join(lines)
