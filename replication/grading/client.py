"""The owner's side of one worker process: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from replication.errors import UserError
from replication.grading.verdict import Reply, Verdict
from replication.grading.waiting import PATIENCE, read_line

LEAVE = 5.0  # seconds for an idle worker to leave before it is killed, which costs no verdict

_PACKAGE_ROOT = Path(__file__).parents[2]


class Worker:
    """A running `replication.grading.worker`; used by one thread at a time."""

    def __init__(self, time_limit: float, memory_limit: int) -> None:
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
        if not self._started:
            with contextlib.suppress(TimeoutError):
                self._started = bool(read_line(self._replies.fileno(), self.pid))
        if not self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its output closes a moment before it is gone
                if self._process.wait(PATIENCE) < 0:
                    return False
            self.kill()
            raise UserError(
                f"a grading worker did not start (exit code {self._process.returncode}): "
                "run `python -m replication.grading.worker 1 1000000000` to see why"
            )
        return True

    def ask(self, gold: str, answer: str, tolerance: float | None, again: bool = False) -> Reply:
        """What math-verify says; the worker is no longer alive after a reply it could not give.

        A check asked `again` is done by a fresh process, with more time.
        """
        request = {"gold": gold, "answer": answer, "tolerance": tolerance, "again": again}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            line = read_line(self._replies.fileno(), self.pid)
        except (BrokenPipeError, TimeoutError):
            line = b""
        if not line:
            self.kill()
            reason = f"the grading worker died during the check (exit code {self._process.returncode})"
            return Reply(Verdict.TIMED_OUT, reason, is_final=False)
        verdict, reason, is_final = json.loads(line)
        return Reply(Verdict(verdict), reason, is_final)

    def close(self) -> None:
        """End the process and return when it is gone: it leaves at the end of its input, or is killed."""
        self._requests.close()
        try:
            self._process.wait(LEAVE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._replies.close()

    def kill(self) -> None:
        """End the process at once; a checker it leaves behind ends with its input or at its time limit."""
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Drop a fork's copy of a worker: closes the pipes here, so that only the owner keeps the worker alive."""
        self._requests.close()
        self._replies.close()
        self._process.returncode = 0  # not our child: keep Popen from waiting for it
