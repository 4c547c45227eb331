"""Lightning strategies by name, DeepSpeed on CPU included."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy, Strategy

from replication.config import TrainConfig, TrainerConfig
from replication.errors import UserError


def build_strategy(trainer: TrainerConfig, train: TrainConfig) -> Strategy:
    """The Lightning strategy that the settings name."""
    cuda = torch.cuda.is_available()
    backend, wait = None if cuda else "gloo", timedelta(minutes=trainer.max_wait)
    if trainer.strategy == "single":
        return SingleDeviceStrategy(torch.device("cuda:0" if cuda else "cpu"))
    if trainer.strategy == "ddp":
        return DDPStrategy(process_group_backend=backend, find_unused_parameters=False, timeout=wait)
    settings: dict[str, Any] = {
        "stage": 3 if trainer.strategy == "deepspeed_zero3" else 2,
        "offload_optimizer": trainer.offload != "none",
        "offload_parameters": trainer.offload == "parameters",
        "config": None,
        "logging_batch_size_per_gpu": 1,
        "process_group_backend": backend,
        "timeout": wait,
    }
    strategy = DeepSpeedStrategy(**settings) if cuda else CPUDeepSpeedStrategy(**settings)
    # Lightning hands DeepSpeed no clipping of its own under manual optimization
    assert isinstance(strategy.config, dict)
    strategy.config["gradient_clipping"] = float(train.grad_clip)
    strategy.config["data_types"] = {"grad_accum_dtype": "fp32"}  # micro-batches are summed in float32
    strategy.config["zero_force_ds_cpu_optimizer"] = False  # torch's fused AdamW steps on the CPU, too
    return strategy


@contextmanager
def whole_weights(strategy: Strategy) -> Iterator[None]:
    """Hold all weights on every process, for passes that the processes do not make in step: rollouts, the export.

    ZeRO-3 would gather each layer's weights in each pass, on all processes at once, and wait for ever for one that
    makes no such pass. Elsewhere the weights are whole as they are.
    """
    if not (isinstance(strategy, DeepSpeedStrategy) and strategy.zero_stage_3):
        yield
        return
    from deepspeed.runtime.zero import unwrap_model_for_generation

    with unwrap_model_for_generation(strategy.deepspeed_engine):
        yield


class CPUDeepSpeedStrategy(DeepSpeedStrategy):
    """DeepSpeed's real engine and ZeRO partitioning on CPU processes with gloo, which Lightning's strategy refuses.

    For tests and for learning: the code path of 4B and 8B runs on a laptop.
    """

    def setup_environment(self) -> None:
        prepare_cpu_build()
        DDPStrategy.setup_environment(self)  # past the refusal; it calls `setup_distributed` below

    def setup_distributed(self) -> None:
        self.set_world_ranks()  # without the check of device indices, which CPUs lack
        self._init_deepspeed_distributed()

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", self.local_rank)  # DeepSpeed asks for an index


def prepare_cpu_build() -> None:
    """Let DeepSpeed compile its communication extension where the next run finds it: once, about two minutes.

    Raises:
        UserError: another process holds the build, or a killed one left its lock.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    folder = Path(os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(".scratch/torch_extensions").resolve())))
    tools = str(Path(sys.executable).parent)  # ninja lies beside the interpreter
    if tools not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([tools, os.environ["PATH"]])
    if "LOCAL_RANK" in os.environ:
        return  # a child of the process that looked
    for lock in folder.glob("*/lock"):
        raise UserError(f"{lock} is left of a killed DeepSpeed build: remove it, or wait if another run is compiling")
