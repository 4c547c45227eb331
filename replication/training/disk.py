"""The room on the disk that a run takes: its checkpoints, and its export."""

from __future__ import annotations

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
    under DeepSpeed a float32 master, 4, which under ZeRO-3 stands for the weight itself."""
    strategy, weights = config.trainer.strategy, parameters * (2 if config.objective.kl else 1)
    if strategy == "deepspeed_zero3":
        weights -= trained
    return weight_bytes(config) * weights + (12 if "deepspeed" in strategy else 8) * trained


def checkpoints_at_once(config: Config) -> int:
    """The newest that are kept, the best one, and the one that is being written; a run that is stopped and goes on
    may write one after every step."""
    return min(config.train.keep_checkpoints + 2, config.train.steps)


def export_bytes(config: Config, parameters: int, trained: int) -> int:
    """Of the export, and of the best checkpoint's beside it; adapters are merged in float32, and leave nothing beside
    the weights."""
    each = 4 * (parameters - trained) if config.policy.lora_rank else weight_bytes(config) * parameters
    return each * (2 if config.train.keep == "best" else 1)


def run_bytes(config: Config, parameters: int, trained: int) -> int:
    """Of a run's checkpoints and its export."""
    checkpoint = checkpoint_bytes(config, parameters, trained)
    return checkpoints_at_once(config) * checkpoint + export_bytes(config, parameters, trained)


def on_disk(folder: Path) -> Path:
    """The folder itself or the nearest one above it that is there."""
    return next(path for path in (real(folder), *real(folder).parents) if path.exists())


def free(folder: Path) -> int:
    """Bytes that can be written in a folder, which need not be there yet. A quota is not seen."""
    return shutil.disk_usage(on_disk(folder)).free


def check_disk(config: Config, folder: Path, out: Path, policy: Any) -> None:
    """Raise a `UserError` where a run's checkpoints do not fit beside those that its folder already holds, or its
    export does not fit where it goes; both together where that is one disk."""
    parameters = sum(weight.numel() for weight in policy.parameters())
    trained = sum(weight.numel() for weight in policy.parameters() if weight.requires_grad)
    each, count = checkpoint_bytes(config, parameters, trained), checkpoints_at_once(config)
    kept, export = folder / CHECKPOINTS, export_bytes(config, parameters, trained)
    wanted = {kept: max(0, count * each - size_of(kept)), out.parent: export}
    if on_disk(kept).stat().st_dev == on_disk(out.parent).stat().st_dev:
        wanted = {kept: wanted[kept] + export}
    for place, needed in wanted.items():
        if free(place) < needed:
            raise UserError(
                f"{place} has {size(free(place))} free, and the run needs {size(needed)} there: {count} checkpoints of "
                f"{size(each)} go to {kept}, an export of {size(export)} to {out}; make room, lower "
                "train.keep_checkpoints, or link .scratch to another disk"
            )


def lack(path: Path, wanted: int) -> UserError:
    """What to say where a checkpoint of some bytes would not fit."""
    return UserError(
        f"{path} needs {size(wanted)}, and {size(free(path.parent))} are free; the checkpoint before it is "
        f"whole: {GO_ON}"
    )
