"""The one grader, for rewards and for evaluation: plain text first, then a cache, then workers that can be killed."""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

from replication.config import GradingConfig
from replication.grading.answer import extract_answer
from replication.grading.client import Worker
from replication.grading.verdict import Reply, Verdict, exact_verdict

CACHED_PAIRS = 20_000

Question = tuple[str, str | None, float | None]  # reference, answer, tolerance

_CLOSED = "this Grader is closed: make a new one"


@dataclass(frozen=True)
class Graded:
    """One completion's verdict."""

    verdict: Verdict
    answer: str | None
    """Content of the box that counted, None when there was none."""
    reason: str
    """What decided (`exact`, `math-verify`, `cached`), or why nothing could."""
    seconds: float
    """Wall-clock the decision took, both tries; waiting for a worker to start or to be free is not in it."""

    @property
    def reward(self) -> float:
        """1.0 for a correct answer, else 0.0."""
        return float(self.verdict is Verdict.CORRECT)


class Grader:
    """Grades completions against references; usable from any thread, and in a fork, which gets workers of its own.

    Workers start when the first answer needs mathematics. Use as a context manager, or call `close()`.
    """

    def __init__(self, workers: int = 2, time_limit: float = 1.0, memory_limit: int = 1 << 30) -> None:
        """`time_limit` in seconds of CPU time and `memory_limit` in bytes of address space hold for each check."""
        if workers < 1 or time_limit <= 0 or memory_limit <= 0:
            raise ValueError(
                f"workers, time_limit and memory_limit must be positive: {workers, time_limit, memory_limit}"
            )
        self.workers, self.time_limit, self.memory_limit = workers, time_limit, memory_limit
        self._is_closed = False
        self._running: set[Worker] = set()
        self._reset()
        _graders.add(self)
        weakref.finalize(self, _close_all, self._running)

    @classmethod
    def of(cls, settings: GradingConfig) -> Grader:
        """The grader of a run's settings."""
        return cls(settings.workers, settings.time_limit, int(settings.memory_gib * 2**30))

    def grade(self, gold: str, completion: str, tolerance: float | None = None) -> Graded:
        """The verdict on one completion given the reference answer `gold`, and the error it may have."""
        return self.grade_many([(gold, completion)], [tolerance])[0]

    def grade_many(
        self, pairs: Sequence[tuple[str, str]], tolerances: Sequence[float | None] | None = None
    ) -> list[Graded]:
        """The verdicts on (gold, completion) pairs, in order; equal answers are checked once, on all workers.

        A check that was stopped is done again when all others are, alone, by a fresh process and with three times the
        time. So what takes less than about three limits has its verdict on any machine; a check near three may not.

        Args:
            pairs: the reference answer and the completion.
            tolerances: absolute error that each answer may have, where its benchmark allows one.
        """
        if self._is_closed:
            raise RuntimeError(_CLOSED)
        allowed = [None] * len(pairs) if tolerances is None else tolerances
        asked = [(gold, extract_answer(text), error) for (gold, text), error in zip(pairs, allowed, strict=True)]
        graded = {question: self._without_worker(*question) for question in dict.fromkeys(asked)}
        undecided = [question for question, done in graded.items() if done is None]
        graded.update(self._with_workers(undecided))
        return [result for question in asked if (result := graded[question]) is not None]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers running now: none before the first answer that needs mathematics."""
        return [worker.pid for worker in self._running]

    def close(self) -> None:
        """End the workers, after the checks they are at; the grader cannot be used afterwards. Safe to call twice."""
        self._is_closed = True
        for _ in range(self.workers):
            worker = self._idle.get()
            if worker is not None:
                self._end(worker)
        for _ in range(self.workers):
            self._idle.put(None)  # whoever still waits for a worker is told that there are none

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Grader], tuple[int, float, int]]:
        return Grader, (self.workers, self.time_limit, self.memory_limit)  # another process gets workers of its own

    def _without_worker(self, gold: str, answer: str | None, tolerance: float | None) -> Graded | None:
        """The verdict where the text or the cache has it."""
        started = time.perf_counter()
        if answer is None:
            return Graded(Verdict.NO_ANSWER, None, "no closed box with an answer after the thinking", 0.0)
        with self._cache_lock:
            if (gold, answer, tolerance) in self._cache:
                self._cache.move_to_end((gold, answer, tolerance))
                return Graded(self._cache[gold, answer, tolerance], answer, "cached", time.perf_counter() - started)
        verdict = exact_verdict(gold, answer, tolerance)
        return Graded(verdict, answer, "exact", time.perf_counter() - started) if verdict else None

    def _with_workers(self, questions: list[Question]) -> dict[Question, Graded]:
        """The verdicts of the worker processes: all at once, then one by one those that were stopped."""
        if len(questions) <= 1:
            graded = {question: self._with_worker(question) for question in questions}
        else:
            with ThreadPoolExecutor(self.workers) as threads:
                graded = dict(zip(questions, threads.map(self._with_worker, questions), strict=True))
        for question, first in graded.items():
            if first.verdict is Verdict.TIMED_OUT:
                second = self._with_worker(question, again=True)
                graded[question] = replace(second, seconds=first.seconds + second.seconds)
        return graded

    def _with_worker(self, question: Question, again: bool = False) -> Graded:
        """The verdict of a worker process; remembered, where it would be the same at another time."""
        gold, answer, tolerance = question
        assert answer is not None  # without one there is nothing to check, see _without_worker
        worker = self._take_worker()
        try:
            reply = Reply(Verdict.TIMED_OUT, "the grading worker was killed as it started", is_final=False)
            ready, started = worker.wait_until_ready(), time.perf_counter()
            if ready:
                reply = worker.ask(gold, answer, tolerance, again)
            graded = Graded(reply.verdict, answer, reply.reason, time.perf_counter() - started)
        finally:
            self._idle.put(worker)
        if reply.verdict is not Verdict.TIMED_OUT or (again and reply.is_final):
            with self._cache_lock:
                self._cache[question] = reply.verdict
                if len(self._cache) > CACHED_PAIRS:
                    self._cache.popitem(last=False)
        return graded

    def _take_worker(self) -> Worker:
        """An idle worker, a new one in place of one not yet started or dead; waits while all are busy."""
        worker = self._idle.get()
        if self._is_closed:
            self._idle.put(worker)
            raise RuntimeError(_CLOSED)
        if worker is not None and worker.is_alive:
            return worker
        if worker is not None:
            self._end(worker)
        worker = Worker(self.time_limit, self.memory_limit)
        self._running.add(worker)
        return worker

    def _end(self, worker: Worker) -> None:
        worker.close()
        self._running.discard(worker)

    def _reset(self) -> None:
        """Nothing running, nothing remembered: at the start, and in a fork, whose parent keeps the workers it has."""
        for worker in self._running:
            worker.forget()
        self._running.clear()
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()  # so that a running worker goes first
        for _ in range(self.workers):
            self._idle.put(None)
        self._cache: OrderedDict[Question, Verdict] = OrderedDict()
        self._cache_lock = threading.Lock()


_graders: weakref.WeakSet[Grader] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for grader in list(_graders):
        grader._reset()


def _close_all(running: set[Worker]) -> None:
    """Run when a grader is collected or the interpreter leaves."""
    for worker in list(running):
        worker.close()
    running.clear()


os.register_at_fork(after_in_child=_reset_all_after_fork)
