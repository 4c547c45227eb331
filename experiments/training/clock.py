"""Seconds of a training step by part. Imports nothing but the standard library: TRL's environment uses it too."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch


def settle() -> None:
    """Wait until a GPU, if there is one, has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Clock:
    """What was spent in the wrapped functions since the last tick; of a call inside another, only the inner counts.

    Args:
        wait: is called before the clock is read, such as `settle`.
    """

    def __init__(self, wait: Callable[[], object] = lambda: None) -> None:
        self.wait = wait
        self.steps: list[dict[str, float]] = []
        self.parts: dict[str, float] = defaultdict(float)
        self.inner: list[float] = []
        self.last = self.now()

    def now(self) -> float:
        """Seconds, when what was asked of the device is done."""
        self.wait()
        return time.perf_counter()

    def wrap(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **named: Any) -> Any:
            start = self.now()
            self.inner.append(0.0)
            try:
                return work(*args, **named)
            finally:
                spent = self.now() - start
                self.parts[part] += spent - self.inner.pop()
                if self.inner:
                    self.inner[-1] += spent

        return timed

    def tick(self) -> None:
        """A step is over: all of its time is `step`, and what was in no wrapped function is `rest`."""
        now = self.now()
        step, self.last = now - self.last, now
        self.steps.append({"step": step, **self.parts, "rest": step - sum(self.parts.values())})
        self.parts.clear()
