"""Ends all processes of a training when one dies, stops or hangs, with one line that says which, and where it was.

Without it the others would wait in a collective until its time is up, which must be long: rollouts differ in length.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from replication.errors import Stopped, UserError
from replication.outputs import GO_ON, write_whole, writing
from replication.presence import is_present, present

BEAT = 1.0  # seconds between two signs of life
LATE = 5.0  # beats: one that comes as late was stopped itself, as a suspended job is
AGAIN = "run the same command to go on from the last checkpoint"


class Sign(NamedTuple):
    """A sign of life of a process."""

    beat: int  # grows
    doing: str  # phase and step
    over: bool  # the training has ended for it
    host: str
    pid: int


class Watchdog(Callback):
    """Signs of life in files that all processes see, written and read once a second by a thread of each.

    Args:
        folder: of the run, on a disk of all processes.
        silence: seconds that a process may give no sign; 0 watches nothing.
        max_wait: minutes that no process may come to another phase or step.
    """

    def __init__(self, folder: Path, silence: float, max_wait: float):
        self.folder, self.silence, self.max_wait = folder / "alive", silence, max_wait
        self.rank, self.world = 0, 1
        self.module: Any = None
        self.beats = 0
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        self.here = ExitStack()

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.world_size == 1 or not self.silence:
            return
        self.rank, self.world, self.module = trainer.global_rank, trainer.world_size, module
        with writing(self.folder, GO_ON):
            self.folder.mkdir(parents=True, exist_ok=True)
            if trainer.is_global_zero:
                self._verdict.unlink(missing_ok=True)
        self.here.enter_context(present(self.folder, str(self.rank)))
        self._sign()
        trainer.strategy.barrier()  # all have given a sign
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        if self.thread and not isinstance(exception, (UserError, Stopped, KeyboardInterrupt)):
            self.thread.join(LATE * BEAT)  # a peer's death is an error of the collective first, which says less
        self._leave()

    def teardown(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        self._leave()

    def _leave(self) -> None:
        """The training is over for this process: the others need not look for it."""
        if self.thread is None:
            return
        self.ended.set()
        self.thread.join()
        self.thread = None
        with suppress(UserError):
            self._sign(over=True)
        self.here.close()

    @property
    def _verdict(self) -> Path:
        return self.folder / "verdict"

    def _file(self, rank: int) -> Path:
        return self.folder / f"sign-{rank}.json"

    def _sign(self, over: bool = False) -> None:
        self.beats += 1
        sign = Sign(self.beats, self.module.doing, over, socket.gethostname(), os.getpid())
        write_whole(self._file(self.rank), json.dumps(sign._asdict()))

    def _read(self, rank: int) -> Sign:
        return Sign(**json.loads(self._file(rank).read_text(encoding="utf-8")))

    def _watch(self) -> None:
        others = [rank for rank in range(self.world) if rank != self.rank]
        signs: dict[int, Sign] = {}
        last = moved = time.monotonic()
        heard, seen = dict.fromkeys(others, last), ""
        while not self.ended.wait(BEAT):
            now = time.monotonic()
            if now - last > LATE * BEAT:
                heard, moved = dict.fromkeys(others, now), now
            last = now
            with suppress(OSError, UserError):  # of a disk that is away for a moment: the others will hear no more
                self._sign()
            if self._verdict.exists():
                time.sleep(BEAT)  # whoever found it says it
                os._exit(2)
            gone = [rank for rank in others if is_present(self.folder, str(rank)) is False]  # before their last signs
            for rank in others:
                with suppress(OSError, ValueError, TypeError):
                    sign = self._read(rank)
                    if sign != signs.get(rank):
                        signs[rank], heard[rank] = sign, now
            if len(signs) < len(others) or any(sign.over for sign in signs.values()):
                continue  # the training ends, and whoever started its processes ends them
            for rank in others:
                name, where = f"process {rank} of {self.world}", signs[rank].doing
                if rank in gone:
                    self._end(f"{name} has ended, last seen in the {where}", signs[rank])
                if now - heard[rank] > self.silence:
                    quiet = f"given no sign of life for {self.silence:.0f} s (trainer.silence)"
                    self._end(f"{name} has {quiet}, last seen in the {where}", signs[rank])
            where = ", ".join(f"process {rank} in the {signs[rank].doing}" for rank in others)
            if (state := f"{self.module.doing} {where}") != seen:
                seen, moved = state, now
            elif now - moved > 60 * self.max_wait:
                self._end(f"nothing has gone on for {self.max_wait:.0f} min (trainer.max_wait): {where}")

    def _end(self, what: str, culprit: Sign | None = None) -> None:
        """Say what was found, unless another process does, and end this one, whatever it waits for."""
        with suppress(FileExistsError):
            self._verdict.open("x").close()
            if culprit and culprit.host == socket.gethostname():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(culprit.pid, signal.SIGKILL)  # a stopped one heeds nothing else
            with suppress(OSError):
                print(f"\nerror: {what}: all processes end; {AGAIN}", file=sys.stderr, flush=True)
        os._exit(2)
