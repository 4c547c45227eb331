"""Which of the processes of a command are at work: each holds a lock as long as it lives, however it ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from replication.errors import UserError
from replication.outputs import GO_ON, writing

PAUSE = 0.2  # seconds between two looks at what other processes do
PATIENCE = 300.0  # seconds that a process may take to start


@contextmanager
def present(folder: Path, name: str) -> Iterator[None]:
    """Be at work under a name for as long as the block lasts."""
    with writing(folder, GO_ON):
        file = _file(folder, name).open("a+")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for one that only looks, or that an earlier start has left
        yield


def is_present(folder: Path, name: str) -> bool | None:
    """Whether a process is at work; None where it was never seen."""
    try:
        file = _file(folder, name).open("r+")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def forget(folder: Path, names: Collection[str]) -> None:
    """Never have seen those that are gone: a start may have the name of an earlier one."""
    for name in names:
        if is_present(folder, name) is False:
            _file(folder, name).unlink(missing_ok=True)


def wait_for_first(folder: Path, name: str) -> None:
    """Wait until the process is at work that the others depend on.

    Raises:
        UserError: it does not come.
    """
    deadline = time.monotonic() + PATIENCE
    while not is_present(folder, name):
        if time.monotonic() > deadline:
            raise UserError(f"the first process is not in {folder} after {PATIENCE:.0f} s: run the same command again")
        time.sleep(PAUSE)


def wait_for_others(folder: Path, names: Collection[str]) -> list[str]:
    """Wait until other processes have come and gone; one that comes later would wait for the first one.

    Returns:
        Those that never came.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        found = {name: is_present(folder, name) for name in names}
        absent = [name for name, there in found.items() if there is None]
        if not any(found.values()) and (not absent or time.monotonic() > deadline):
            return absent
        time.sleep(PAUSE)


def _file(folder: Path, name: str) -> Path:
    return folder / f"here-{name}"
