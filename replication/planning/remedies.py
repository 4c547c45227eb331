"""What to change where a plan does not fit: settings that were tried in the model, the fewest and mildest that fit."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from replication.errors import UserError
from replication.planning import vllm
from replication.planning.memory import fits
from replication.planning.plan import Plan
from replication.training.machine import check_settings

Change = dict[str, Any]  # "section.key" -> value, as flags of the command
LORA_RANK = 32


def change(p: Plan, values: Change, adapters: int) -> Plan | None:
    """The plan under other settings, None where they contradict each other.

    `adapters` are the weights of LoRA's adapters of rank LORA_RANK.
    """
    sections: dict[str, Change] = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    try:
        config = replace(p.config, **{s: replace(getattr(p.config, s), **some) for s, some in sections.items()})
        check_settings(config)
    except UserError:
        return None
    sizes = replace(p.sizes, adapters=adapters) if "policy.lora_rank" in values else p.sizes
    return replace(p, config=config, sizes=sizes)


def halves(start: int, least: int) -> Iterator[int]:
    """start/2, start/4, ..., not below the least, which comes last."""
    while start > least:
        start = max(start // 2, least)
        yield start


def knobs(p: Plan) -> list[list[Change]]:
    """What can be changed, each a list from mild to strong; first what changes only time, then what changes the run."""
    c = p.config
    t, world = c.trainer, p.world
    on_gpu = t.gpu_gib > 0 or world > 1
    stages: list[Change] = []
    if p.stage < 2 and on_gpu:
        stages.append({"trainer.strategy": "deepspeed_zero2"})
    if p.stage < 3 and on_gpu:
        stages.append({"trainer.strategy": "deepspeed_zero3"})
    offloads: list[Change] = []
    if t.gpu_gib and t.offload == "none":
        offloads.append({"trainer.offload": "optimizer"})
    if t.gpu_gib and t.offload != "parameters":
        offloads.append({"trainer.offload": "parameters"})
    rows: list[Change] = [{"rollout.max_rows": n} for n in halves(p.slots, c.rollout.group_size)]
    if vllm.is_used(p):  # whose memory is its share, however many rows wait for it
        shares = sorted((n / 10 for n in range(1, 10)), key=lambda share: abs(share - c.rollout.gpu_share))
        rows = [{"rollout.gpu_share": share} for share in shares if share != c.rollout.gpu_share and t.gpu_gib]
    processes = [n for n in (2, 4, 8) if n > t.devices]
    return [
        [{"train.micro_rows": n} for n in halves(p.micro, 1)],
        [] if t.gradient_checkpointing else [{"trainer.gradient_checkpointing": True}],
        rows,
        stages,
        offloads,
        [] if c.policy.lora_rank else [{"policy.lora_rank": LORA_RANK}],
        [{"trainer.devices": n} for n in processes] if t.gpu_gib else [],
    ]


def remedies(p: Plan, machine: int, adapters: Callable[[int], int], most: int = 4) -> list[Change]:
    """The smallest sets of changed settings under which the plan fits, the mildest first; none if nothing tried does.

    Args:
        p: a plan that does not fit.
        machine: this machine's memory in bytes.
        adapters: weights of LoRA's adapters by their rank.
        most: how many to give.
    """
    options, weights = knobs(p), adapters(LORA_RANK)
    for size in range(1, len(options) + 1):
        found: list[Change] = []
        for chosen in itertools.combinations(options, size):
            for steps in itertools.product(*chosen):  # the first that fits is the mildest of these knobs
                values = {key: value for step in steps for key, value in step.items()}
                other = change(p, values, weights)
                if other is not None and fits(other, machine):
                    found.append(values)
                    break
        if found:
            return found[:most]
    return []


def roomiest(p: Plan, machine: int) -> int:
    """The most rows in flight, in whole groups, that fit and that a process has: more decode faster. On vLLM those that
    it can decode together."""
    best = 0
    for groups in range(1, p.groups + 1):
        rollout = dataclasses.replace(p.config.rollout, max_rows=groups * p.config.rollout.group_size)
        other = replace(p, config=replace(p.config, rollout=rollout))
        if fits(other, machine) and not (vllm.is_used(p) and vllm.rows_at_once(other) < other.in_flight):
            best = rollout.max_rows
    return best
