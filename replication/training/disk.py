"""The room on the disk that a run takes: its checkpoints, and its export."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from replication.config import Config
from replication.errors import UserError
from replication.outputs import GO_ON, real
from replication.training.machine import training_dtype
from replication.training.resume import CHECKPOINTS, size_of


def size(count: float) -> str:
    """Bytes as GiB, or as MiB where that is less than a tenth."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def weight_bytes(config: Config) -> int:
    """Bytes of a weight as it is saved."""
    return 2 if training_dtype(config.trainer) == "bfloat16" else 4


def checkpoint_bytes(config: Config, parameters: int, trained: int) -> int:
    """Of all processes: the weights, a KL term's reference among them; of each trained one AdamW's two moments, 8; and
    under DeepSpeed a float32 master, 4."""
    copies = 2 if config.objective.kl else 1
    return copies * weight_bytes(config) * parameters + (12 if "deepspeed" in config.trainer.strategy else 8) * trained


def checkpoints_at_once(config: Config) -> int:
    """The newest that are kept, the best one, and the one that is being written."""
    train = config.train
    return min(train.keep_checkpoints + 2, math.ceil(train.steps / train.checkpoint_every))


def run_bytes(config: Config, parameters: int, trained: int) -> int:
    """Of a run's checkpoints and its export."""
    return (
        checkpoints_at_once(config) * checkpoint_bytes(config, parameters, trained) + weight_bytes(config) * parameters
    )


def free(folder: Path) -> int:
    """Bytes that can be written in a folder, which need not be there yet."""
    there = next(path for path in (real(folder), *real(folder).parents) if path.exists())
    return shutil.disk_usage(there).free


def check_disk(config: Config, folder: Path, policy: Any) -> None:
    """Raise a `UserError` where a run's checkpoints and export do not fit beside what its folder already holds."""
    parameters = sum(weight.numel() for weight in policy.parameters())
    trained = sum(weight.numel() for weight in policy.parameters() if weight.requires_grad)
    wanted = run_bytes(config, parameters, trained) - size_of(folder / CHECKPOINTS)
    if free(folder) < wanted:
        each = size(checkpoint_bytes(config, parameters, trained))
        raise UserError(
            f"{folder} has {size(free(folder))} free, and the run needs {size(wanted)}: {checkpoints_at_once(config)} "
            f"checkpoints of {each} and its export; make room, lower train.keep_checkpoints, or link .scratch to "
            "another disk"
        )


def lack(path: Path, wanted: int) -> UserError:
    """What to say where a checkpoint of some bytes would not fit."""
    return UserError(
        f"{path} needs {size(wanted)}, and {size(free(path.parent))} are free; the checkpoint before it is "
        f"whole: {GO_ON}"
    )
