"""Wait for another process's answer for as long as it works: a busy machine makes it slow, and that is no failure."""

from __future__ import annotations

import os
import select
import time

PATIENCE = 60  # waits of a second each in which a process used no CPU time at all: it is stuck, not slow

_WAIT = 1000  # milliseconds


def read_line(stream: int, pid: int, patience: int = PATIENCE) -> bytes:
    """The next line that process `pid` writes, b"" where it ended before.

    Waits are counted, not read off a clock: while this process is stopped as well, the other loses nothing.

    Raises:
        TimeoutError: the process is stuck, see `PATIENCE`.
    """
    readable = select.poll()  # not select(), which fails on file descriptors above 1023
    readable.register(stream, select.POLLIN)
    line, used, idle = b"", cpu_seconds(pid), 0
    while not line.endswith(b"\n"):
        if readable.poll(_WAIT):
            part = os.read(stream, 65536)
            if not part:
                return b""
            line += part
            continue
        before, used = used, cpu_seconds(pid)
        idle = idle + 1 if used == before else 0
        if idle >= patience:
            raise TimeoutError(f"process {pid} used no CPU time for {patience} s")
    return line


def cpu_seconds(pid: int) -> float:
    """CPU time of a child of this process, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # Linux's number for that clock, as clock_getcpuclockid(3) gives it
