r"""Self-check: the recurrence with a systematic slip, and evidence of it later in the same segment.

A subtraction's result is one too large with probability `noise`; a check letter after each result is the letter of that
digit where the result is right, and any letter where it is wrong. With noise above a half the most likely text is
wrong, so that a lower temperature cannot help, and the entropy at the check letter tells. A step is
7 characters: `3+4=7h;`.
"""

from __future__ import annotations

import random

from replication.data import recurrence
from replication.data.sources import Problem

CHECKS = "abcdefghij"


available = recurrence.available


def problems(count: int, seed: int, steps: int) -> list[Problem]:
    """`count` distinct problems; the questions and answers are the recurrence's."""
    return recurrence.problems(count, seed, steps, topic="selfcheck")


def solution(question: str, noise: float, rng: random.Random) -> str:
    """A worked solution; a subtraction slips with probability `noise`."""
    a, b, ops = recurrence.parse(question)
    text = ""
    for op in ops:
        right = recurrence.result(a, op, b)
        c = (right + 1) % 10 if op == "-" and rng.random() < noise else right
        check = CHECKS[c] if c == right else rng.choice(CHECKS)
        text += f"{a}{op}{b}={c}{check};"
        a, b = b, c
    return f"{text}\\boxed{{{a}{b}}}"
