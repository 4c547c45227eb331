r"""Recurrence: x[n+1] = x[n-1] + x[n] or x[n-1] - x[n], modulo 10; the answer is the last two digits.

`34:+-` is solved by `3+4=7;4-7=7;\boxed{77}`. Each step is a bijection of the pair (x[n-1], x[n]), so that a single
wrong step always breaks the answer. A step is 6 characters.
"""

from __future__ import annotations

import random

from replication.data.sources import Problem
from replication.errors import UserError
from replication.seeds import seed_for


def result(a: int, op: str, b: int) -> int:
    """The right result of one step."""
    return (a + b if op == "+" else a - b) % 10


def parse(question: str) -> tuple[int, int, str]:
    """The two first digits and the operators of a question."""
    digits, ops = question.split(":")
    return int(digits[0]), int(digits[1]), ops


def available(steps: int) -> int:
    """How many different problems of that many steps there are."""
    return 100 * 2**steps


def problems(count: int, seed: int, steps: int, topic: str = "recurrence") -> list[Problem]:
    """`count` distinct problems of `steps` steps."""
    if count > available(steps):
        raise UserError(
            f"{count} problems of {steps} steps were asked for, but there are {available(steps)}: "
            "lower data.train_problems and data.heldout_problems, or raise data.steps"
        )
    rng = random.Random(seed_for(seed, topic, steps))
    drawn: dict[str, Problem] = {}
    while len(drawn) < count:
        ops = "".join(rng.choice("+-") for _ in range(steps))
        question = f"{rng.randrange(10)}{rng.randrange(10)}:{ops}"
        a, b, _ = parse(question)
        for op in ops:
            a, b = b, result(a, op, b)
        if question not in drawn:
            drawn[question] = Problem(
                id=f"{topic}-{len(drawn)}",
                question=question,
                final_answer=f"{a}{b}",
                difficulty=float(steps),
                topic=topic,
            )
    return list(drawn.values())


def solution(question: str, noise: float, rng: random.Random) -> str:
    """A worked solution; each step's result is wrong with probability `noise`, and the next steps go on from it."""
    a, b, ops = parse(question)
    text = ""
    for op in ops:
        c = result(a, op, b)
        if rng.random() < noise:
            c = (c + rng.randrange(1, 10)) % 10
        text += f"{a}{op}{b}={c};"
        a, b = b, c
    return f"{text}\\boxed{{{a}{b}}}"
