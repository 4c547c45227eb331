"""The Lightning Trainer of a run: checkpoints at rollout boundaries, one logger, a progress bar."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from replication.config import Config, TrainerConfig
from replication.errors import UserError
from replication.training.checkpoint import CheckpointFile, Interruption, RolloutCheckpoint
from replication.training.resume import CHECKPOINTS
from replication.training.strategy import build_strategy, whole_weights
from replication.training.watchdog import Watchdog


class AtTheEnd(Callback):
    """Calls a function after the last step, on the first process, while the weights are whole."""

    def __init__(self, work: Callable[[], None]):
        self.work = work

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        if len(module.history) == module.config.train.steps:
            with whole_weights(trainer.strategy):
                if trainer.is_global_zero:
                    self.work()


def build_trainer(config: Config, folder: Path, at_the_end: Callable[[], None]) -> L.Trainer:
    """A Trainer that keeps its checkpoints and logs in the folder."""
    trainer, train = config.trainer, config.train
    warnings.filterwarnings("ignore", "Found .* in eval mode")  # where the policy stays (training.module)
    interruption = Interruption()
    watchdog = Watchdog(trainer.silence, trainer.max_wait)
    checkpoints = RolloutCheckpoint(folder / CHECKPOINTS, train.checkpoint_every, train.keep_checkpoints, interruption)
    return L.Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        strategy=build_strategy(trainer, train),
        devices=trainer.devices,
        num_nodes=trainer.nodes,
        precision="bf16-mixed" if trainer.precision == "bf16" else "32-true",
        max_epochs=1,
        enable_checkpointing=False,  # RolloutCheckpoint does it
        logger=build_logger(trainer.logger, folder),
        callbacks=[watchdog, interruption, checkpoints, AtTheEnd(at_the_end), TQDMProgressBar(refresh_rate=1)],
        plugins=[CheckpointFile(), *environment_of(trainer)],
        use_distributed_sampler=False,  # the problems are dealt out by data.module.share
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
    )


def environment_of(trainer: TrainerConfig) -> list[ClusterEnvironment]:
    """Who starts the processes, inside a job of SLURM's: srun, torchrun, or Lightning; elsewhere Lightning finds out.

    Lightning takes every job of several tasks for srun's, also where the script runs torchrun, or nothing of the kind,
    and would wait for processes that nobody starts. It asks for --ntasks-per-node, whose sense is checked here.

    Raises:
        UserError: srun started other processes than the settings ask for.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return []
    if TorchElasticEnvironment.detect():
        return [TorchElasticEnvironment()]
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return [LightningEnvironment()]
    wanted = f"{trainer.devices}(x{trainer.nodes})" if trainer.nodes > 1 else f"{trainer.devices}"
    found = os.environ.get("SLURM_STEP_TASKS_PER_NODE", wanted)
    if found != wanted:
        raise UserError(
            f"srun started {found} processes a node, and trainer.devices = {trainer.devices}, trainer.nodes = "
            f"{trainer.nodes}: give srun --nodes {trainer.nodes} --ntasks-per-node {trainer.devices}, or set these"
        )
    os.environ["SLURM_NTASKS_PER_NODE"] = str(trainer.devices)
    return [SLURMEnvironment(auto_requeue=False)]  # resume.py resumes


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
