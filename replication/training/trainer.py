"""The Lightning Trainer of a run: checkpoints at rollout boundaries, one logger, a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from replication.config import Config
from replication.errors import UserError
from replication.training.strategy import build_strategy


class RolloutCheckpoint(Callback):
    """Saves after every so many rollouts, and keeps the newest checkpoint.

    Lightning's ModelCheckpoint counts optimizer steps, warns under manual optimization, and cannot tell a rollout's
    last update from the others.
    """

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        done = len(module.history)
        if done % self.every == 0:
            older = list(self.folder.glob("rollout=*.ckpt"))
            path = self.folder / f"rollout={done}.ckpt"
            trainer.save_checkpoint(path)  # a file, or under DeepSpeed a folder that is written in place
            if trainer.is_global_zero:
                path.with_suffix(".complete").touch()
                for old in older:
                    old.with_suffix(".complete").unlink(missing_ok=True)
                    trainer.strategy.remove_checkpoint(old)


def build_trainer(config: Config, folder: Path) -> L.Trainer:
    """A Trainer that keeps its checkpoints and logs in the folder."""
    trainer, train = config.trainer, config.train
    return L.Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        strategy=build_strategy(trainer, train),
        devices=trainer.devices,
        num_nodes=trainer.nodes,
        precision="bf16-mixed" if trainer.precision == "bf16" else "32-true",
        max_epochs=1,
        enable_checkpointing=False,  # RolloutCheckpoint does it
        logger=build_logger(trainer.logger, folder),
        callbacks=[RolloutCheckpoint(folder / "checkpoints", train.checkpoint_every), TQDMProgressBar(refresh_rate=1)],
        use_distributed_sampler=False,  # the problems are dealt out by data.module.share
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
    )


def build_logger(name: str, folder: Path) -> Logger | bool:
    """The logger that the settings name."""
    if name == "none":
        return False
    try:
        if name == "tensorboard":
            return TensorBoardLogger(folder, name="tensorboard")
        if name == "wandb":
            return WandbLogger(project="replication", save_dir=folder)
        from dvclive.lightning import DVCLiveLogger
    except ModuleNotFoundError:
        raise UserError(f"trainer.logger {name} needs a package that is missing: pip install {name}") from None
    settings: dict[str, Any] = {"dvcyaml": None, "save_dvc_exp": False, "report": None, "monitor_system": False}
    return DVCLiveLogger(dir=str(folder / "dvclive"), **settings)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of an earlier, interrupted run, or None."""
    found = [path.with_suffix(".ckpt") for path in (folder / "checkpoints").glob("rollout=*.complete")]
    return str(max(found, key=lambda path: int(path.stem.split("=")[1]))) if found else None
