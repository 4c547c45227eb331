"""The processes of an evaluation, one a GPU: started here, or by torchrun or SLURM. They share a folder, no more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from replication.config import TrainerConfig
from replication.errors import UserError
from replication.launch import local_rank, world_size

PARENT = "REPLICATION_LAUNCH"  # names the start by which this process is another's helper
PATIENCE = 30.0  # seconds to end in


def helpers_wanted(trainer: TrainerConfig) -> int:
    """Processes to start beside this one: one for each further GPU; without GPUs, as many as are asked for.

    Raises:
        UserError: several nodes without a launcher, more GPUs than there are, or another number than the launcher's.
    """
    import torch

    asked, there = trainer.devices * trainer.nodes, world_size()
    if there > 1 or PARENT in os.environ:
        return 0
    if trainer.nodes > 1:
        raise UserError(
            f"trainer.nodes = {trainer.nodes}: start the command on every node by torchrun or srun (docs/running.md)"
        )
    if trainer.gpu_gib or torch.cuda.is_available():
        asked = min(asked, max(1, torch.cuda.device_count()))
    return asked - 1


def use_own_gpu() -> None:
    """Let this process see its own GPU only, before anything asks for one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else None
    rank = local_rank()
    if world_size() > 1 or PARENT in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[rank % len(visible)] if visible else str(rank)


@contextmanager
def helped(count: int, argv: Sequence[str], folder: Path) -> Iterator[None]:
    """Run the same command in `count` further processes on this machine, which end with this one.

    One that fails leaves its part to the others. What it says goes into the folder, and its last line is told.
    """
    launch, started = uuid.uuid4().hex, []
    try:
        for rank in range(1, count + 1):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count + 1), PARENT: launch}
            with log_of(folder, rank).open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "replication.evaluate", *argv],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=log,
                        env={**os.environ, **own},
                    )
                )
        yield
        for rank, process in enumerate(started, 1):
            if code := process.wait():
                said = log_of(folder, rank).read_text(errors="replace").split("\n")
                last = next((line for line in reversed(said) if line.strip()), "it said nothing")
                print(
                    f"process {rank} of {count + 1} ended with {code} ({last}): the others did its part",
                    file=sys.stderr,
                )
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def log_of(folder: Path, rank: int) -> Path:
    """What a helper says."""
    return folder / f"process-{rank}.log"


def end_with_parent() -> None:
    """Leave when the process that started this one is gone, however it went: its end of our input closes."""

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(1)

    if PARENT in os.environ:
        threading.Thread(target=wait, daemon=True).start()
