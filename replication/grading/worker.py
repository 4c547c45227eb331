"""The process that may hang: `python -m replication.grading.worker SECONDS BYTES`, started and fed by `pool.py`.

It imports sympy once, then forks a checker for the checks, so that a checker that hangs or dies is replaced in
milliseconds. Requests and replies are JSON, one a line, on standard input and output; it leaves at end of input.

SECONDS are CPU time of the checker; the kernel counts them and ends it, in C code too, so that a busy machine costs no
verdict. A check that is asked again has three times as many, since one near the
limit needs more beside busy neighbours than alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

from replication.grading.verdict import Reply, Verdict, decide
from replication.grading.waiting import PATIENCE, read_line

SECOND_TRY = 3  # times the time limit, for a check that is asked again
CHECKS_PER_CHECKER = 1000  # then a fresh one is forked, so that sympy's caches cannot grow for ever
_WARM_UP = [  # fills the parser's tables before the first fork
    (r"\frac{\sqrt{3}}{2}", r"\sqrt{\frac{3}{4}}"),
    (r"x^{2}+2x+1", r"(x+1)^2"),
    (r"(0,1]\cup[2,\infty)", r"(0,1]\cup(2,\infty)"),
    (r"\{1,\pi\}", r"x=1,x=3.14159"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    (r"x<2", r"2>x"),
]


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

    def ask(self, question: dict[str, Any], patience: int = PATIENCE) -> Reply:
        """The reply to one question; after one that is `timed out` the checker is of no more use."""
        self.checks += 1
        try:
            os.write(self._requests, json.dumps(question).encode() + b"\n")
            line = read_line(self._replies, self.pid, patience)
        except BrokenPipeError:
            line = b""
        except TimeoutError as error:
            return Reply(Verdict.TIMED_OUT, f"the check was stuck: {error}", is_final=False)
        return Reply(*json.loads(line)) if line else self._why_it_died()

    def _why_it_died(self) -> Reply:
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # looks only: `end` reaps
        signalled = ended.si_status if ended and ended.si_code != os.CLD_EXITED else 0
        if signalled == signal.SIGPROF:
            return Reply(Verdict.TIMED_OUT, f"the check took longer than {self.time_limit:g} s of CPU time")
        return Reply(Verdict.TIMED_OUT, f"the process that checked it died (signal {signalled})", is_final=False)

    def end(self) -> None:
        """Kill and reap the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._requests)
        os.close(self._replies)


def serve(time_limit: float, memory_limit: int) -> None:
    """Answer requests from standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that owns this worker
    requests, replies = _own_standard_streams()
    for gold, answer in _WARM_UP:
        decide(gold, answer)
    _write(replies, "ready")
    checker: Checker | None = None
    for line in requests:
        question = json.loads(line)
        again = question.pop("again")
        if checker and again:
            checker.end()
            checker = None
        limit = SECOND_TRY * time_limit if again else time_limit
        checker = checker or Checker(limit, memory_limit, [requests, replies])
        reply = checker.ask(question)
        if again or reply.verdict == Verdict.TIMED_OUT or checker.checks >= CHECKS_PER_CHECKER:
            checker.end()
            checker = None
        _write(replies, reply)
    if checker:
        checker.end()


def _check_until_closed(requests: int, replies: int, time_limit: float, memory_limit: int) -> None:
    """The checker's loop. The kernel limits its address space, and ends it at a check's limit of CPU time."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    sys.set_int_max_str_digits(0)  # integers of any size; the limits here bound the work
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    with os.fdopen(requests, "rb") as lines, os.fdopen(replies, "wb") as out:
        for line in lines:
            signal.setitimer(signal.ITIMER_PROF, time_limit)
            reply = _check(**json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            _write(out, reply)


def _check(gold: str, answer: str, tolerance: float | None) -> Reply:
    try:
        return Reply(decide(gold, answer, tolerance), "math-verify")
    except MemoryError:
        return Reply(Verdict.TIMED_OUT, "the check ran out of memory")
    except Exception as error:  # noqa: BLE001 - sympy may raise anything on hostile text; that is no correct answer
        return Reply(Verdict.WRONG, f"math-verify failed: {type(error).__name__}")


def _own_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """The request and reply streams, moved away from descriptors 0 and 1 so that no library can write into them."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, replies


def _write(stream: BinaryIO, message: Reply | str) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


if __name__ == "__main__":
    serve(time_limit=float(sys.argv[1]), memory_limit=int(sys.argv[2]))
