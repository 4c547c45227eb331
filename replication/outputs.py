"""Output folders that are complete or not there, and scratch folders that one process at a time writes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from replication.errors import UserError

ELSEWHERE = "choose another place by --out"
GO_ON = "make room there, and run the same command to go on"
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


@contextmanager
def writing(path: Path, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Turn what the disk refuses in the block into a `UserError` that names the place."""
    try:
        yield
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise UserError(f"{path} cannot be written: {reason}: {remedy}") from None


def refusal(error: BaseException) -> str | None:
    """What the disk refused, where the error is of that kind: Python's own, safetensors', or torch's."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust writes it
        return os.strerror(int(found[1]))
    if "inline_container" in str(error):  # of torch's writer, which hides the reason or does not know it
        behind = error.__context__ and refusal(error.__context__)
        return behind or "torch could not write it to its end"
    return None


def real(path: Path) -> Path:
    """Where a path leads once links are followed: what is written there takes no link's place."""
    return Path(os.path.realpath(path))


def check_room(path: Path) -> None:
    """Raise an `OSError` unless something can be written beside the path; its folder need not be there yet."""
    there = next(folder for folder in real(path).parents if folder.exists())
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=there) as scratch:
        (Path(scratch) / "room").write_text("room\n")


def check_output(folder: Path, mark: str, remedy: str = ELSEWHERE) -> None:
    """Raise a `UserError` unless an output of this kind can go to the folder; long work asks before it starts."""
    with writing(folder, remedy):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder: choose another by --out")
        if real(folder).is_mount() or Path.cwd().is_relative_to(real(folder)):
            what = "a disk of its own" if real(folder).is_mount() else "the folder that the command runs in"
            raise UserError(f"{folder} is {what}, which cannot be replaced: name a folder in it by --out")
        if folder.exists() and any(folder.iterdir()) and not (folder / mark).exists():
            raise UserError(f"{folder} holds something else (no {mark}): choose another folder by --out")
        check_room(folder)


def check_file_output(path: Path, flag: str = "--out") -> None:
    """Raise a `UserError` unless a file can go to the path; long work asks before it starts.

    Links are followed, and the file that they lead to is written. What a file would replace for good, such as a device
    or a pipe, is refused.

    Args:
        path: of the file; its folder need not be there yet.
        flag: that named it.
    """
    with writing(path, f"name another file by {flag}"):
        if path.is_dir():
            raise UserError(f"{flag} {path} is a folder: name a file")
        if path.exists() and not path.is_file():
            raise UserError(f"{flag} {path} is a device, a pipe or a socket, which a file would replace: name a file")
        check_room(path)


@contextmanager
def output_folder(folder: Path, mark: str, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when the block ends well, and vanishes otherwise.

    Args:
        folder: the output; an earlier one of the same kind is replaced, where a link leads if it is one.
        mark: file that such an output always holds; a folder that has other things and no mark is left alone.
        remedy: what to do where it cannot be written after all.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    check_output(folder, mark, remedy)
    place = real(folder)
    with writing(folder, remedy):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            yield new
            if place.exists():
                place.rename(Path(scratch) / "old")
            new.rename(place)


def write_whole(path: Path, text: str, flag: str = "--out") -> None:
    """Write a file that is there with all its text, or not at all.

    Raises:
        UserError: it cannot be written, or is a device or a pipe.
    """
    check_file_output(path, flag)
    place = real(path)
    with writing(path, f"name another file by {flag}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
            part = Path(scratch) / "part"
            part.write_text(text, encoding="utf-8")
            part.replace(place)


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
    """Hold the folder for this process alone: a second writer would spoil what the first one keeps.

    Yields:
        The lock's file, which names the processes that hold it: this one, and those it hands the file to and notes.
    """
    with writing(folder, "run the command in a folder that can be written"):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holders = ", ".join(filter(is_alive, file.read().split()))
            who = f"another process ({holders})" if holders else "another process"
            raise UserError(f"{who} is at work in {folder}: wait for it or stop it") from None
        with writing(folder, GO_ON):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield file
