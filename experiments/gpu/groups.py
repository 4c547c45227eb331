"""What is measured, in the order of its worth: what comes first outlives a short lease.

Each group is a function of its own, run in a process of its own. What the groups settle: docs/gpus.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """What a group is told."""

    out: Path
    """Folder of the rows"""
    scratch: Path
    """A folder that is dropped when the group ends"""
    seconds: float
    """It is killed after so long"""
    tiny: bool = False
    """Tiny shapes, for a CPU"""
    smollm2: Path | None = None
    """Weights of the real run"""
    trl: str | None = None
    """Python of an environment with TRL"""


@dataclass(frozen=True)
class Group:
    """A function of (Rows, Setting), and the seconds that it is given."""

    work: str
    """`module:function`, which only the group's own process imports"""
    most: float
    """It is killed after so long"""
    least: float
    """It is not begun with less left: about what it should take on an H100, by estimate"""


def _group(work: str, most: float, least: float) -> Group:
    return Group(f"experiments.gpu.{work}", most, least)


GROUPS = {
    "machine": _group("machine:speed", 40, 5),
    "sdpa": _group("attention:kernels", 50, 15),
    "equality": _group("equality:same", 50, 10),
    "decode": _group("decoding:passes", 80, 30),
    "rollout": _group("decoding:rollouts", 80, 35),
    "microbatch": _group("training:micro_batch", 60, 25),
    "step": _group("training:lora_4b", 110, 60),
    "checkpoint": _group("checkpoint:resumed", 80, 40),
    "vllm": _group("vllm_engine:beside", 140, 80),
    "trl": _group("beside_trl:step", 80, 40),
    "real": _group("real:run", 240, 150),
    "graph": _group("graph:static_pass", 60, 20),
    "flex": _group("attention:flex", 70, 30),
    "peers": _group("decoding:beside_transformers", 60, 25),
    "step8b": _group("training:lora_8b", 100, 55),
    "offload": _group("training:offload_4b", 120, 70),
}
"""Name -> group"""
