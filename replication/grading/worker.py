"""The process that may hang: `python -m replication.grading.worker SECONDS BYTES`, started and fed by `pool.py`.

It imports sympy once, then forks a checker for the checks, so that a checker that hangs or dies is replaced in
milliseconds. Requests and replies are JSON, one a line, on standard input and output; it leaves at end of input.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import sys
import time
from typing import BinaryIO

from replication.grading.verdict import Verdict, decide

CHECKS_PER_CHECKER = 1000  # then a fresh one is forked, so that sympy's caches cannot grow for ever
_WARM_UP = [  # fills the parser's tables before the first fork
    (r"\frac{\sqrt{3}}{2}", r"\sqrt{\frac{3}{4}}"),
    (r"x^{2}+2x+1", r"(x+1)^2"),
    (r"(0,1]\cup[2,\infty)", r"(0,1]\cup(2,\infty)"),
    (r"\{1,\pi\}", r"x=1,x=3.14159"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    (r"x<2", r"2>x"),
]

Reply = dict[str, str]


class Checker:
    """A forked process that decides one pair after another and can be killed at any time."""

    def __init__(self, time_limit: float, memory_limit: int, inherited: list[BinaryIO]) -> None:
        self.time_limit = time_limit
        self.checks = 0
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for end in (self._requests, self._replies, *(stream.fileno() for stream in inherited)):
                os.close(end)
            try:
                _check_until_closed(requests, replies, time_limit, memory_limit)
            finally:
                os._exit(0)  # never run the parent's clean-up in the fork
        os.close(requests)
        os.close(replies)

    def ask(self, line: bytes) -> Reply | None:
        """The reply to one request, None when the checker died; a check past the time limit is `timed out`."""
        self.checks += 1
        deadline = time.monotonic() + self.time_limit
        reply = b""
        try:
            os.write(self._requests, line)
            while not reply.endswith(b"\n"):
                if not select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    return _reply(Verdict.TIMED_OUT, f"the check took longer than {self.time_limit:g} s")
                received = os.read(self._replies, 65536)
                if not received:
                    return None
                reply += received
        except BrokenPipeError:
            return None
        return dict(json.loads(reply))

    def end(self) -> int:
        """Kill and reap the process; returns the signal that ended it, 0 when it had left by itself."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._requests)
        os.close(self._replies)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def serve(time_limit: float, memory_limit: int) -> None:
    """Answer requests from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that owns this worker
    requests, replies = _own_standard_streams()
    for gold, answer in _WARM_UP:
        decide(gold, answer)
    _write(replies, {"ready": "yes"})
    checker: Checker | None = None
    for line in requests:
        checker = checker or Checker(time_limit, memory_limit, [requests, replies])
        reply = checker.ask(line)
        if reply is None:
            ended_by = checker.end()
            reply = _reply(Verdict.TIMED_OUT, f"the process that checked it died (signal {ended_by})")
            checker = None
        elif reply["verdict"] == Verdict.TIMED_OUT or checker.checks >= CHECKS_PER_CHECKER:
            checker.end()
            checker = None
        _write(replies, reply)
    if checker:
        checker.end()


def _check_until_closed(requests: int, replies: int, time_limit: float, memory_limit: int) -> None:
    """The checker's loop. Its address space is limited, and its CPU time too, in case nobody is left to kill it."""
    sys.set_int_max_str_digits(0)  # integers of any size; the limits here bound the work
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    with os.fdopen(requests, "rb") as lines, os.fdopen(replies, "wb") as out:
        for line in lines:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            cpu_limit = math.ceil(usage.ru_utime + usage.ru_stime + time_limit) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit, resource.RLIM_INFINITY))
            _write(out, _check(**json.loads(line)))


def _check(gold: str, answer: str, tolerance: float | None) -> Reply:
    try:
        return _reply(decide(gold, answer, tolerance), "math-verify")
    except MemoryError:
        return _reply(Verdict.TIMED_OUT, "the check ran out of memory")
    except Exception as error:  # noqa: BLE001 - sympy may raise anything on hostile text; that is no correct answer
        return _reply(Verdict.WRONG, f"math-verify failed: {type(error).__name__}")


def _own_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """The request and reply streams, moved away from descriptors 0 and 1 so that no library can write into them."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, replies


def _reply(verdict: Verdict, reason: str) -> Reply:
    return {"verdict": verdict, "reason": reason}


def _write(stream: BinaryIO, message: Reply) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


if __name__ == "__main__":
    serve(time_limit=float(sys.argv[1]), memory_limit=int(sys.argv[2]))
