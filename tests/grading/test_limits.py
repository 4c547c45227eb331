"""The limits of a check: CPU time and not the clock's, and a second try for what was stopped."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from replication.grading import pool, worker
from replication.grading.pool import Grader
from replication.grading.verdict import Reply, Verdict
from replication.grading.waiting import cpu_seconds, read_line
from replication.grading.worker import Checker

ENOUGH = 1 << 44  # bytes; a fork of pytest has more in memory than a check may have
FINE = Reply(Verdict.CORRECT, "math-verify")
LONG = Reply(Verdict.TIMED_OUT, "too long")
KILLED = Reply(Verdict.TIMED_OUT, "killed", is_final=False)


def asked(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], time_limit: float, patience: int) -> Reply:
    """What a checker replies whose check does `work`."""

    def check(**_: object) -> Reply:
        work()
        return FINE

    monkeypatch.setattr(worker, "_check", check)
    checker = Checker(time_limit, ENOUGH, [])
    try:
        return checker.ask({}, patience)
    finally:
        checker.end()


def test_a_check_that_waits_longer_than_its_limit_has_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda: time.sleep(0.6), 0.2, 60) == FINE


def test_a_stopped_checker_that_goes_on_has_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        owner = os.getpid()
        if os.fork() == 0:
            time.sleep(1.5)
            os.kill(owner, signal.SIGCONT)
            os._exit(0)
        os.kill(owner, signal.SIGSTOP)

    assert asked(monkeypatch, stop, 0.2, 60) == FINE


@pytest.mark.parametrize("in_c", [False, True])
def test_a_check_that_computes_for_ever_ends(monkeypatch: pytest.MonkeyPatch, in_c: bool) -> None:
    def compute() -> None:
        while True:
            str(7 ** (10**6 if in_c else 3))  # a million digits take one call of C many seconds

    reply = asked(monkeypatch, compute, 0.2, 60)
    assert reply == (Verdict.TIMED_OUT, "the check took longer than 0.2 s of CPU time", True)


def test_a_check_that_sleeps_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = asked(monkeypatch, lambda: time.sleep(10**6), 0.2, 2)
    assert reply.verdict == Verdict.TIMED_OUT and "stuck" in reply.reason and not reply.is_final


def test_a_killed_checker_says_nothing_of_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = asked(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL), 0.2, 60)
    assert reply == (Verdict.TIMED_OUT, "the process that checked it died (signal 9)", False)


def test_slow_is_not_stuck() -> None:
    """A process that gets a little CPU time in every wait is waited for, also when its waits are more than patience."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        for _ in range(10):
            time.sleep(0.4)
        os.write(writes, b"done\n")
        os._exit(0)
    os.close(writes)
    try:
        assert read_line(reads, pid, patience=2) == b"done\n"
        assert read_line(reads, pid, patience=2) == b""
        assert 0 < cpu_seconds(pid) < 1
    finally:
        os.waitpid(pid, 0)
        os.close(reads)


def test_a_second_try_has_a_fresh_checker_and_three_times_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[float, list[str]]] = []

    class Fake:
        checks = 0

        def __init__(self, time_limit: float, *_: object) -> None:
            made.append((time_limit, []))

        def ask(self, question: dict[str, str]) -> Reply:
            made[-1][1].append(question["answer"])
            return LONG if question["answer"] == "c" else FINE

        def end(self) -> None:
            pass

    again = {"a": False, "b": False, "B": True, "c": False, "d": False}
    lines = [json.dumps({"answer": answer, "again": is_second}).encode() for answer, is_second in again.items()]
    replies = io.BytesIO()
    monkeypatch.setattr(worker, "Checker", Fake)
    monkeypatch.setattr(worker, "_WARM_UP", [])
    monkeypatch.setattr(worker, "_own_standard_streams", lambda: (lines, replies))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    worker.serve(1.5, ENOUGH)
    assert made == [(1.5, ["a", "b"]), (4.5, ["B"]), (1.5, ["c"]), (1.5, ["d"])]
    assert len(replies.getvalue().splitlines()) == 1 + len(lines)


class Scripted:
    """In place of a worker: says what `script` has for an answer, one reply a try."""

    script: dict[str, list[Reply]]
    said: list[tuple[str, bool]]
    pid, is_alive = 0, True

    def __init__(self, *_: object) -> None:
        pass

    def wait_until_ready(self) -> bool:
        return True

    def ask(self, gold: str, answer: str, tolerance: float | None, again: bool = False) -> Reply:
        self.said.append((answer, again))
        return self.script[answer].pop(0)

    def close(self) -> None:
        pass

    forget = close


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Reply]]:
    Scripted.script, Scripted.said = {}, []
    monkeypatch.setattr(pool, "Worker", Scripted)
    return Scripted.script


def verdicts(grader: Grader, *answers: str) -> list[tuple[str, str]]:
    graded = grader.grade_many([("x^2", rf"\boxed{{{answer}}}") for answer in answers])
    return [(item.verdict, item.reason) for item in graded]


def test_what_was_stopped_is_asked_again_when_all_others_are_done(script: dict[str, list[Reply]]) -> None:
    script |= {"1+x": [LONG, FINE], "2+x": [FINE], "3+x": [KILLED, LONG], "4+x": [FINE]}
    with Grader(workers=2) as grader:
        found = verdicts(grader, *script)
    assert found == [FINE[:2], FINE[:2], LONG[:2], FINE[:2]]
    assert sorted(Scripted.said[:4]) == [(answer, False) for answer in script]
    assert Scripted.said[4:] == [("1+x", True), ("3+x", True)]


def test_what_was_cut_short_twice_is_asked_anew(script: dict[str, list[Reply]]) -> None:
    script |= {"1+x": [KILLED, KILLED, FINE], "2+x": [LONG, LONG]}
    with Grader(workers=1) as grader:
        assert verdicts(grader, *script) == [KILLED[:2], LONG[:2]]
        assert verdicts(grader, *script) == [FINE[:2], (Verdict.TIMED_OUT, "cached")]
        assert verdicts(grader, *script) == [(Verdict.CORRECT, "cached"), (Verdict.TIMED_OUT, "cached")]
