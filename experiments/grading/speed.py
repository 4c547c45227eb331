"""`make bench`: verdicts a second of the grader and of plain math-verify, on the same completions, in one run.

What it should show: that integer answers (AIME) cost next to nothing, and that the safety of killable workers does not
make the others slower than calling math-verify oneself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from math_verify import parse, verify

from replication.errors import Parser, UserError, run_command
from replication.grading.pool import Grader

Pair = tuple[str, str]

EXPRESSIONS = [  # reference and another spelling of it, with a letter or number of its own in each pair
    (r"\frac{{{n}}}{{7}}", r"\frac{{{n}\cdot 3}}{{21}}"),
    (r"{n}\sqrt{{3}}", r"\sqrt{{3}}\cdot {n}"),
    (r"x^2+{n}x+1", r"1+x^2+{n}x"),
    (r"({n},\infty)", r"({n}, \infty)"),
    (r"\{{{n},{n}+1\}}", r"\{{1+{n},{n}\}}"),
]


def completion(answer: str, rng: random.Random) -> str:
    """Some two thousand characters of reasoning, and the answer in a box."""
    steps = " ".join(f"Step {i}: ${rng.randint(1, 99)}+{rng.randint(1, 99)}=x_{{{i}}}$." for i in range(90))
    return rf"{steps} Therefore the answer is $\boxed{{{answer}}}$."


def aime(count: int, rng: random.Random) -> list[Pair]:
    """Integers 0 to 999, half of the answers wrong."""
    golds = [rng.randrange(1000) for _ in range(count)]
    return [(str(g), completion(str(g if rng.random() < 0.5 else rng.randrange(1000)), rng)) for g in golds]


def expressions(count: int, rng: random.Random) -> list[Pair]:
    """Answers that need mathematics, all different, half of them wrong."""
    pairs = []
    for n in range(count):
        gold, answer = EXPRESSIONS[n % len(EXPRESSIONS)]
        pairs.append((gold.format(n=n + 2), completion(answer.format(n=n + 2 + n // 5 % 2), rng)))
    return pairs


def plain(pairs: list[Pair]) -> list[bool]:
    """math-verify as its own page has it: no time limit, no memory limit, this process."""
    return [bool(verify(parse(f"${gold}$"), parse(text))) for gold, text in pairs]


def timed(name: str, pairs: list[Pair], judge: Callable[[list[Pair]], list[bool]]) -> None:
    started = time.perf_counter()
    right = sum(judge(pairs))
    seconds = time.perf_counter() - started
    print(f"{name:34s} {len(pairs):6d} verdicts {seconds:7.2f} s {len(pairs) / seconds:9.0f} a second, {right} correct")


def main() -> None:
    parser = Parser(prog="python -m experiments.grading.speed", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="completions of each kind")
    options = parser.parse_args()
    if options.count < 1:
        raise UserError(f"--count {options.count}: give at least 1")
    with Grader(workers=2) as grader:
        grader.grade("x+1", r"\boxed{1+x}")  # workers and imports are not what is measured
        plain([("1", r"$\boxed{1}$")])
        pairs = aime(options.count, random.Random(0))
        timed("AIME, this grader, in bulk", pairs, lambda p: [bool(g.reward) for g in grader.grade_many(p)])
        others = aime(options.count, random.Random(1))
        timed("AIME, this grader, one by one", others, lambda p: [bool(grader.grade(*x).reward) for x in p])
        timed("AIME, plain math-verify", pairs, plain)
        pairs = expressions(options.count, random.Random(0))
        timed("expressions, this grader", pairs, lambda p: [bool(g.reward) for g in grader.grade_many(p)])
        timed("expressions, this grader, again", pairs, lambda p: [bool(g.reward) for g in grader.grade_many(p)])
        timed("expressions, plain math-verify", pairs, plain)


if __name__ == "__main__":
    run_command(main)
