"""The synthetic tasks: problems with DeepMath's columns, and worked solutions for the warm start.

A task is a module with `available(steps)`, `problems(count, seed, steps)` and `solution(question, noise, rng)`.
"""

from __future__ import annotations

import random
from typing import Protocol

from replication.data import recurrence, selfcheck
from replication.data.sources import Problem


class Task(Protocol):
    def available(self, steps: int) -> int:
        """How many different problems of that many steps there are."""

    def problems(self, count: int, seed: int, steps: int) -> list[Problem]:
        """Distinct problems, a function of the seed."""

    def solution(self, question: str, noise: float, rng: random.Random) -> str:
        """A worked solution that ends in a box, in which a share `noise` of the fallible steps is wrong."""


TASKS: dict[str, Task] = {"recurrence": recurrence, "selfcheck": selfcheck}
