"""The owner's side of one worker process: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from replication.errors import UserError
from replication.grading.verdict import Verdict

START_LIMIT = 120.0  # seconds for a worker to import sympy, on a machine busy with everything else
GRACE = 5.0  # seconds past the time limit after which a worker that should have answered is killed itself

_PACKAGE_ROOT = Path(__file__).parents[2]


class Worker:
    """A running `replication.grading.worker`; used by one thread at a time."""

    def __init__(self, time_limit: float, memory_limit: int) -> None:
        self._time_limit = time_limit
        self._started = False
        path = os.pathsep.join([str(_PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "replication.grading.worker", str(time_limit), str(memory_limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes, see above
        self._requests, self._replies = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """False once the process has ended, for whatever reason."""
        return self._process.poll() is None

    def wait_until_ready(self) -> bool:
        """True once sympy is imported, False where the worker was killed before; `UserError` when it cannot start."""
        if not self._started and self._read_reply(START_LIMIT) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its output closes a moment before it is gone
                if self._process.wait(GRACE) < 0:
                    return False
            self.kill()
            raise UserError(
                f"a grading worker did not start (exit code {self._process.returncode}): "
                "run `python -m replication.grading.worker 1 1000000000` to see why"
            )
        self._started = True
        return True

    def ask(self, gold: str, answer: str, tolerance: float | None) -> tuple[Verdict, str]:
        """Verdict and reason from math-verify; the worker is no longer alive after one it could not give."""
        request = json.dumps({"gold": gold, "answer": answer, "tolerance": tolerance}).encode() + b"\n"
        try:
            self._requests.write(request)
            reply = self._read_reply(self._time_limit + GRACE)
        except BrokenPipeError:
            reply = None
        if reply is None:
            self.kill()
            return Verdict.TIMED_OUT, f"the grading worker died during the check (exit code {self._process.returncode})"
        return Verdict(reply["verdict"]), reply["reason"]

    def close(self) -> None:
        """End the process and return when it is gone: it leaves at the end of its input, or is killed."""
        self._requests.close()
        try:
            self._process.wait(self._time_limit + GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._replies.close()

    def kill(self) -> None:
        """End the process at once; a checker it leaves behind ends with its input or at its CPU limit."""
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Drop a fork's copy of a worker: closes the pipes here, so that only the owner keeps the worker alive."""
        self._requests.close()
        self._replies.close()
        self._process.returncode = 0  # not our child: keep Popen from waiting for it

    def _read_reply(self, limit: float) -> dict[str, str] | None:
        """The next line within `limit` seconds, None at its end or at the end of the worker."""
        deadline = time.monotonic() + limit
        readable = select.poll()  # not select(), which fails on file descriptors above 1023
        readable.register(self._replies, select.POLLIN)
        received = b""
        while not received.endswith(b"\n"):
            if not readable.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            part = self._replies.read(65536)
            if not part:
                return None
            received += part
        return dict(json.loads(received))
