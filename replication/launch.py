"""Which process of how many this one is, by whichever launcher started it; imports nothing slow."""

from __future__ import annotations

import os

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # torchrun, Lightning (inside SLURM, too), SLURM
WORLDS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # SLURM_NTASKS is a job's, also where its script has no srun


def global_rank() -> int:
    """This process's rank."""
    return _first(RANKS, 0)


def local_rank() -> int:
    """Which of this machine's GPUs is this process's."""
    return _first(("LOCAL_RANK", "SLURM_LOCALID"), 0)


def world_size() -> int:
    """Processes that a launcher started for this command; 1 without one."""
    return _first(WORLDS, 1)


def launch_id() -> str:
    """A name of this start of all processes, as far as the launcher gives one."""
    names = ("REPLICATION_LAUNCH", "TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    return "-".join(os.environ[name] for name in names if name in os.environ)


def _first(names: tuple[str, ...], default: int) -> int:
    found = (os.environ.get(name) for name in names)
    return next((int(value) for value in found if value is not None), default)
