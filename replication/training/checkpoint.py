"""When a run's checkpoints are saved, how they are written, and what a signal that asks it to stop does."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from replication.errors import Stopped
from replication.outputs import GO_ON, writing
from replication.training.disk import free, lack
from replication.training.resume import best_of, complete, mark, size_of

GRACE = 20  # seconds; schedulers kill a process some 30 s after they have asked it to stop


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and renames it. Lightning's own stages it in TMPDIR, which may be small."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        place = Path(path)
        part = place.with_suffix(".part")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


class Interruption(Callback):
    """SIGTERM, as of a scheduler that wants its machine back: the rollout's last update is waited for, if it is near,
    so that a checkpoint can be saved (`RolloutCheckpoint`). SIGUSR1 comes as long before as its sender chose (SLURM's
    --signal): it is waited for in any case.

    Lightning's own handler ends a run as if it were done, and leaves the processes that it started behind.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal, once it came

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        signal.signal(signal.SIGTERM, self.note)  # Lightning puts the ones before back
        signal.signal(signal.SIGUSR1, self.note)
        signal.signal(signal.SIGALRM, self.note)

    def note(self, number: int, _: FrameType | None) -> None:
        """Go on for a while after the first SIGTERM, and end when the time is up. SLURM sends it twice."""
        if number == signal.SIGALRM:
            raise Stopped(self.number)
        if number == signal.SIGTERM != self.number:
            signal.alarm(GRACE)
        self.number = max(self.number, number)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        signal.alarm(0)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        signal.alarm(0)
        children = getattr(trainer.strategy.launcher, "procs", [])
        for child in children:
            child.kill()
        for child in children:
            child.wait()
        children.clear()  # Lightning watches the list, and would kill this process, too


class RolloutCheckpoint(Callback):
    """Saves after every so many rollouts, after the last one, and before a stop; keeps the newest, and the best one.

    The best one has the highest accuracy on held-out problems, or without a validation the highest reward, mean over
    the rollouts since the checkpoint before. A checkpoint counts once its mark stands beside it.

    Lightning's ModelCheckpoint counts optimizer steps, warns under manual optimization, and cannot tell a rollout's
    last update from the others.
    """

    def __init__(self, folder: Path, every: int, keep: int, interruption: Interruption):
        self.folder, self.every, self.keep, self.interruption = folder, every, keep, interruption

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        done, asked_to_stop = len(module.history), module.most(self.interruption.number)  # of any process
        if done % self.every and done < module.config.train.steps and not asked_to_stop:
            return
        signal.alarm(0)
        module.doing = f"checkpoint after step {done}"
        self.save(trainer, module, self.folder / f"rollout={done}.ckpt")
        if asked_to_stop:
            raise Stopped(asked_to_stop)

    def save(self, trainer: L.Trainer, module: Any, path: Path) -> None:
        """Save a checkpoint, and remove those that are no longer kept.

        Raises:
            UserError: it would not fit on the disk, on all processes.
        """
        size = module.most(self.largest() if trainer.is_global_zero else 0)
        if module.most(trainer.is_global_zero and free(path.parent) < size):
            raise lack(path, size)
        with writing(path, GO_ON):
            trainer.save_checkpoint(path)  # a file, or under DeepSpeed a folder that is written in place
        if trainer.is_global_zero:
            mark(path, self.score(module.history))
            scores = complete(self.folder)
            best = best_of(scores)
            for old in sorted(scores)[: -self.keep]:
                if old != best:
                    path = self.folder / f"rollout={old}.ckpt"
                    path.with_suffix(".complete").unlink()
                    trainer.strategy.remove_checkpoint(path)

    def largest(self) -> int:
        """Bytes of the largest checkpoint that is kept; 0 before the first, for which `check_disk` has looked."""
        return max((size_of(self.folder / f"rollout={done}.ckpt") for done in complete(self.folder)), default=0)

    def score(self, history: list[dict[str, float]]) -> float:
        """Of the rollouts since the checkpoint before; -inf where others were validated and these were not."""
        recent = history[-self.every :]
        if any("heldout" in row for row in history):
            return max((row["heldout"] for row in recent if "heldout" in row), default=-math.inf)
        return sum(row["reward"] for row in recent) / len(recent)
