"""Stages as processes: so many at a time, each in a session of its own, so that all of it can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from replication.errors import SIGNALS, Stopped
from replication.pipeline.stages import Stage

PATIENCE = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))  # seconds after each
PAUSE = 0.1  # seconds between two looks
Watch = Callable[[set[str], list[str]], None]


class StageFailed(Exception):
    """A stage ended badly, and the ones beside it were stopped."""

    def __init__(self, stage: str, stopped: list[str]):
        super().__init__(stage)
        self.stage, self.stopped = stage, stopped


def run_stages(stages: Sequence[Stage], jobs: int, logs: Path, lock: TextIO, watch: Watch) -> None:
    """Run the stages by DVC, each as soon as those are done that it waits for.

    Args:
        stages: what to run; a stage that it needs and that is not among them is done already.
        jobs: how many run at a time.
        logs: folder of what each stage says, <stage>.log.
        lock: the lock of this run. The stages hold it too, and are noted in it: what is left of them will be seen.
        watch: called again and again with the stages done and those running.

    Raises:
        StageFailed: one ended badly. None of the others is left.
        Stopped: a signal came. No stage is left.
    """
    waiting = {stage.name: stage for stage in stages}
    done: set[str] = set()
    running: dict[str, subprocess.Popen[bytes]] = {}
    received: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        while waiting or running:
            blocked = waiting.keys() | running.keys()
            for stage in [s for s in waiting.values() if not s.needs & blocked][: jobs - len(running)]:
                del waiting[stage.name]
                running[stage.name] = start(stage, logs, lock)
            time.sleep(PAUSE)
            if received:
                raise Stopped(received[0])
            for name, process in list(running.items()):
                if process.poll():
                    raise StageFailed(name, [other for other in running if other != name])
                if process.poll() == 0:
                    done.add(name)
                    del running[name]
            watch(done, list(running))
    finally:
        end(running.values())
        for number, handler in before.items():
            signal.signal(number, handler)


def start(stage: Stage, logs: Path, lock: TextIO) -> subprocess.Popen[bytes]:
    """Begin one stage."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with (logs / f"{stage.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage.target],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    lock.write(f"{process.pid}\n")
    lock.flush()
    return process


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End the processes with all they have started: as by Ctrl-C, then firmly, then by force."""
    left = list(processes)
    for number, patience in PATIENCE:
        for process in left:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        until = time.monotonic() + patience
        while (left := [process for process in left if is_at_work(process)]) and time.monotonic() < until:
            time.sleep(PAUSE)


def is_at_work(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process, or one that it started, still runs."""
    process.poll()  # takes it off the list of the system once it has ended
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):  # macOS answers so where all of them have ended
        return False
    return True
