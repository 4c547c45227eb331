"""Output folders that are complete or not there, and scratch folders that one process at a time writes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from replication.errors import UserError

EXPORT_MARK = "run.json"  # every export of a training holds it


def run_folder(kind: str, cell: str, made_with: object, filed: object) -> Path:
    """Where a run's output lies if no --out says: where the pipeline has it, or apart where it is another run.

    Args:
        kind: train or evaluate.
        cell: <model>/<algorithm>/<seed>.
        made_with: all that the run was asked for.
        filed: the same as the pipeline asks for it.
    """
    if made_with == filed:
        return Path("runs") / kind / cell
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return Path("runs/hand") / kind / cell / digest[:8]


def check_output(folder: Path, mark: str) -> None:
    """Raise a `UserError` if the folder holds what is not an output of this kind; long work asks before it starts."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder: choose another by --out")
    if any(folder.iterdir()) and not (folder / mark).exists():
        raise UserError(f"{folder} holds something else (no {mark}): choose another folder by --out")


@contextmanager
def output_folder(folder: Path, mark: str) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when the block ends well, and vanishes otherwise.

    Args:
        folder: the output; an earlier one of the same kind is replaced.
        mark: file that such an output always holds; a folder that has other things and no mark is left alone.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    check_output(folder, mark)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            yield new
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            new.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}: choose another folder by --out") from None


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there with all its text, or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)


def is_alive(process: str) -> bool:
    """Whether a process of that number runs."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def locked(folder: Path) -> Iterator[TextIO]:
    """Hold the folder for this process alone: a second writer would spoil what the first one keeps (findings 13).

    Yields:
        The lock's file, which names the processes that hold it: this one, and those it hands the file to and notes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holders = ", ".join(filter(is_alive, file.read().split()))
            who = f"another process ({holders})" if holders else "another process"
            raise UserError(f"{who} is at work in {folder}: wait for it or stop it") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file
