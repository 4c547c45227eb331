"""One kind of error for what the user can mend, and one place that says how a command ended."""

from __future__ import annotations

import argparse
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REFUSED = {  # what a system may refuse of a path, and what to do about it
    errno.ENOENT: "name one that is there",
    errno.EACCES: "let this user read and write it, or name another",
    errno.EPERM: "let this user read and write it, or name another",
    errno.EROFS: "name a place that can be written",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder",
    errno.EEXIST: "remove what is there, or name another place",
    errno.ENOTEMPTY: "remove what is there, or name another place",
    errno.EBUSY: "name another place",
    errno.EXDEV: "name a place on the same disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "correct the link",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "look at that disk",
    errno.ENOLCK: "run the command on a disk whose files can be locked",
}


EXTRAS = {  # package -> the extra of pyproject.toml that brings it
    **dict.fromkeys(("lightning", "deepspeed", "peft", "datasets", "pyarrow", "dvc", "matplotlib"), "train"),
    **{name: name for name in ("wandb", "tensorboard")},
    **dict.fromkeys(("gguf", "accelerate"), "smollm2"),
    "liger_kernel": "liger",
}


def installing(extra: str) -> str:
    """The command that adds an extra, in any folder, however the package was installed: pip leaves the version that is
    there as it is, a checkout's or a wheel's. A package that was never installed is run from its own folder."""
    try:
        return f"pip install 'replication[{extra}]=={version('replication')}'"
    except PackageNotFoundError:
        return f"pip install '.[{extra}]'"


class UserError(Exception):
    """Bad input: the message says what was wrong, where (file, row, key), and what to do about it, on one line."""


class Stopped(SystemExit):
    """A signal ended the command; the exit code is the shell's, 128 and the signal's number."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number


class Parser(argparse.ArgumentParser):
    """argparse with one line for a bad flag: the usage is in --help."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see --help")


def require(ok: bool, key: str, value: object, wanted: str) -> None:
    """Raise a `UserError` that names the setting, unless `ok`."""
    if not ok:
        raise UserError(f"{key} = {value!r} is not {wanted}: correct it in params.yaml or by --{key}")


def require_count(section: str, settings: object, *keys: str, least: int = 1, most: int = 1_000_000) -> None:
    """Raise a `UserError` that names the setting, unless each is a whole number in its bounds: beyond the upper one
    it would overflow, or the command would seem to hang."""
    wanted = "a positive whole number" if least == 1 else f"a whole number >= {least}"
    for key in keys:
        value = getattr(settings, key)
        require(least <= value <= most, f"{section}.{key}", value, f"{wanted}, at most {most:,}")


def run_command(command: Callable[[], None]) -> None:
    """Run a command's body, and end as a shell expects it.

    - A `UserError`, and what the system refuses of a path or of memory, are one line and exit code 2.
    - Ctrl-C, SIGTERM and SIGHUP raise `Stopped` where the command is, so that blocks clean up: one line, 128 + signal.
    - Where nobody reads the output any more, as after `| head`, it ends without a word: 128 + SIGPIPE.
    - A package of an extra that is not installed is one line, which names the extra.
    - Any other exception is a fault of the program, and stays a traceback.
    """
    open_streams()
    try:
        with stoppable():
            try:
                command()
            finally:
                sys.stdout.flush()
    except UserError as error:
        leave(2, f"error: {error}")
    except Stopped as stopped:
        first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes of a training, one speaks
        name = signal.Signals(stopped.number).name
        leave(128 + stopped.number, f"stopped by {name}: run the same command again" if first else "")
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if has_no_reader(stream)]
        if not unread:
            raise
        for stream in unread:
            drop(stream)
        leave(128 + signal.SIGPIPE, "")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        leave(2, f"error: {where}{error.strerror}: {REFUSED[error.errno]}")
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        leave(2, f"error: this needs the package {package}: install it by `{installing(EXTRAS[package])}`")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        knobs = "rollout.max_rows (on vLLM rollout.gpu_share) and train.micro_rows"
        leave(2, f"error: out of memory: lower {knobs}, or take a smaller model")


def leave(code: int, line: str) -> NoReturn:
    """Print a line on standard error, if there is one, and leave."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, line)):
        try:
            print(text, end="\n" if text else "", file=stream, flush=True)
        except OSError:
            drop(stream)
    sys.exit(code)


def drop(stream: TextIO) -> None:
    """Let what a stream no longer takes go nowhere: Python would try again as it leaves, and say so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_streams() -> None:
    """Make the standard streams such that nothing printed is an error: one that is closed goes nowhere, and what its
    encoding lacks is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def stoppable() -> Iterator[None]:
    """In the block the signals that ask to stop raise `Stopped`; one that is ignored, as by nohup, stays ignored."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_no_reader(stream: TextIO) -> bool:
    """Whether the stream is a pipe whose reader has left."""
    poll = select.poll()
    try:
        poll.register(stream, 0)
    except io.UnsupportedOperation:  # a stream in memory, as a notebook's
        return False
    return any(events & select.POLLERR for _, events in poll.poll(0))


@contextmanager
def told_as(failure: str, advice: str) -> Iterator[None]:
    """Turn whatever a foreign library raises in the block into one line: what failed, its own words, what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        words = " ".join(str(error).split())[:300]
        raise UserError(f"{failure} ({type(error).__name__}: {words}): {advice}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: Python's, or torch's on a GPU or CPU, known without importing it."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
