"""Each group in a process of its own, with a limit: what one does to its memory or its GPU, no other feels.

The processes are forked from a server that has imported what all of them need, and has touched no GPU: each import
takes seconds, and there are many groups. Where that server's children cannot use the GPU, they start from nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from experiments.gpu.groups import Group, Setting
from experiments.gpu.rows import LOG, Rows, Skipped

SHARED = ["torch", "transformers", "lightning.pytorch", "experiments.training.measure"]  # none of them asks for a GPU
LOOK = 0.1  # seconds between looks at what a group has measured
PATIENCE = 120  # seconds for an answer
DEATH = 20  # seconds that a killed process has to be gone; one that a driver holds may never be
WORDS = 400  # letters of a reason, at most


def server() -> BaseContext:
    """What starts the groups."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # so that nobody initialises CUDA by asking for it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nobody waits for a network
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SHARED)
    return context


def answer(context: BaseContext, question: Callable[[], Any]) -> Any:
    """What a function says in a process of its own; None where the process dies."""
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(question, theirs))
    process.start()
    theirs.close()
    with mine, contextlib.suppress(EOFError):
        if mine.poll(PATIENCE):
            return mine.recv()
    _end(process)
    return None


def _answer(question: Callable[[], Any], to: Any) -> None:
    to.send(question())


def run_group(context: BaseContext, name: str, group: Group, setting: Setting, look: Callable[[], None]) -> None:
    """Run a group until its end or its limit; whatever becomes of it, its rows say so.

    Args:
        context: of `server`.
        name, group: which.
        setting: the run's; the group gets a scratch folder of its own.
        look: is called every now and then, to show the rows that have come.
    """
    log = setting.out / LOG
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as scratch:
        _note(log, f"---- {name}\n")
        begun, logged = time.monotonic(), log.stat().st_size
        process = context.Process(
            target=_work, args=(name, group.work, replace(setting, scratch=Path(scratch))), name=name
        )
        process.start()
        try:
            while process.exitcode is None and time.monotonic() - begun < setting.seconds:
                process.join(LOOK)
                look()
            code = process.exitcode
        finally:
            _end(process)
    if code != 0:
        killed = f"it did not end in {setting.seconds:.0f} s, and was killed"
        reason = killed if code is None else _how(code)
        Rows(setting.out, name).failed(f"{reason}{_last_words(log, logged)}")
    _note(log, f"---- {name}: {time.monotonic() - begun:.1f} s\n")
    look()


def _work(name: str, work: str, setting: Setting) -> None:
    """The body of a group's process."""
    os.setsid()  # with all that it starts it can be ended at once
    file = os.open(setting.out / LOG, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    os.environ["TMPDIR"] = tempfile.tempdir = str(setting.scratch)
    rows = Rows(setting.out, name)
    try:
        pkgutil.resolve_name(work)(rows, setting)
    except Skipped as why:
        rows.skipped(str(why))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the row must say it
        traceback.print_exc()
        rows.failed(f"{type(error).__name__}: {' '.join(str(error).split())[:WORDS]}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _end(process: BaseProcess) -> None:
    """End a group's process and all that it has started."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.exitcode is None:
        process.kill()
    process.join(DEATH)


def _how(code: int) -> str:
    """What an exit code says."""
    if code >= 0:
        return f"it ended with exit code {code}"
    more = ", for want of memory perhaps" if -code == signal.SIGKILL else ""
    return f"it was ended by {signal.Signals(-code).name}{more}"


def _last_words(log: Path, since: int) -> str:
    """The last line that a group has logged."""
    lines = log.read_bytes()[since:].decode(errors="replace").strip().splitlines()
    return f"; its last words: {lines[-1].strip()[-WORDS:]}" if lines else ""


def _note(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)
