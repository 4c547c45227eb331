"""Ends all processes of a training when one dies, stops or hangs, with one line that says which, and where it was.

Without it the others would wait in a collective until its time is up, which must be long: rollouts differ in length.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from multiprocessing.connection import wait
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from replication.errors import Stopped, UserError
from replication.training.peers import Peer, connect, kill_here

BEAT = 1.0  # seconds between two signs of life
LATE = 5.0  # beats: one that comes as late was stopped itself, as a suspended job is
AGAIN = "run the same command to go on from the last checkpoint"


class Watchdog(Callback):
    """A thread of each process gives signs of life: the first process and the others watch each other.

    Args:
        silence: seconds that a process may give no sign; 0 watches nothing.
        max_wait: minutes that no process may come to another phase or step.
    """

    def __init__(self, silence: float, max_wait: float):
        self.silence, self.max_wait = silence, max_wait
        self.rank, self.world, self.speaks = 0, 1, True
        self.module: Any = None
        self.peers: list[Peer] = []
        self.left = threading.Event()
        self.thread: threading.Thread | None = None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.world_size > 1 and self.silence:
            # where the first process is lost, one process of each node says so
            speaks = trainer.global_rank == 0 or trainer.local_rank == (1 if trainer.node_rank == 0 else 0)
            self.watch(trainer.global_rank, trainer.world_size, connect(trainer.strategy), module, speaks)

    def watch(self, rank: int, world: int, peers: list[Peer], module: Any, speaks: bool = True) -> None:
        """Start to watch; `module.doing` is this process's phase and step."""
        self.rank, self.world, self.peers, self.module, self.speaks = rank, world, peers, module, speaks
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        if self.thread and not isinstance(exception, (UserError, Stopped, KeyboardInterrupt)):
            self.thread.join(LATE * BEAT)  # a peer's death is an error of the collective first, which says less
        self.leave(" ".join(f"{type(exception).__name__}: {exception}".split()).rstrip(":")[:200])

    def teardown(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        self.leave()

    def leave(self, failed: str = "") -> None:
        """No longer watch: the training is over for this process, or it has failed and will end."""
        if self.thread is None:
            return
        self.left.set()
        self.thread.join()
        self.thread = None
        for peer in self.peers:
            peer.tell(self.module.doing, failed, over=not failed)  # the connection closes as the process ends

    def _watch(self) -> None:
        last = beat = moved = time.monotonic()
        seen = ""
        while not self.left.is_set():
            wait([peer.connection for peer in self.peers if not peer.gone], max(0.0, beat + BEAT - time.monotonic()))
            now = time.monotonic()
            if now - last > LATE * BEAT:
                moved = now
                for peer in self.peers:
                    peer.heard = now
            last = now
            for peer in self.peers:
                peer.take(now)
            if now - beat >= BEAT:
                beat = now
                for peer in self.peers:
                    peer.tell(self.module.doing)
            if verdict := next((peer.verdict for peer in self.peers if peer.verdict), None):
                self._end(verdict, says=False)  # the first process does
            if found := next((what for peer in self.peers if (what := self._lost(peer, now))), None):
                self._end(self._verdict(found, now), says=self.speaks)
            if self.rank or any(peer.over for peer in self.peers):
                continue
            where = ", ".join(f"process {peer.rank} in the {peer.doing}" for peer in self.peers)
            if (state := f"{self.module.doing} {where}") != seen:
                seen, moved = state, now
            elif now - moved > 60 * self.max_wait:
                limit = f"{self.max_wait:.0f} min (trainer.max_wait, to be raised where a phase may take longer)"
                self._end(self._verdict(f"nothing has gone on for {limit}: {where}", now), says=True)

    def _lost(self, peer: Peer, now: float) -> str:
        """What has happened to a process; nothing if it is well."""
        name, where = f"process {peer.rank} of {self.world}", f"last seen in the {peer.doing}"
        if peer.over:
            return ""
        if peer.gone and not peer.failed:
            return f"{name} has ended, {where}"
        if now - peer.heard <= self.silence:
            return ""
        if peer.failed:
            return f"{name} has failed with {peer.failed}, {where}"
        return f"{name} has given no sign of life for {self.silence:.0f} s (trainer.silence), {where}"

    def _verdict(self, what: str, now: float) -> dict[str, Any]:
        """What all processes are told: what was found, and who would not hear it."""
        deaf = [(peer.host, peer.pid) for peer in self.peers if not peer.gone and now - peer.heard > LATE * BEAT]
        return {"what": what, "deaf": deaf}

    def _end(self, verdict: dict[str, Any], says: bool) -> None:
        """End all processes, this one too, whatever it waits for."""
        try:
            for peer in self.peers:
                peer.tell(self.module.doing, verdict=verdict)
            if says:
                print(f"\nerror: {verdict['what']}: all processes end; {AGAIN}", file=sys.stderr, flush=True)
            else:
                time.sleep(BEAT)  # for whoever says it to have seen the same, not what follows from it
            kill_here([(host, pid) for host, pid in verdict["deaf"]])
        finally:
            os._exit(2)
