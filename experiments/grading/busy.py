"""`python -m experiments.grading.busy`: answers graded on a machine left alone, then twice beside busy processes.

What it should show: the same verdicts, all of them; how busy the machine is decides nothing. Exits 1 where one differs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from replication.errors import Parser, UserError, run_command
from replication.grading.pool import Graded, Grader
from replication.grading.verdict import Verdict

Pair = tuple[str, str]

BUSY = "import os\nowner = os.getppid()\nwhile os.getppid() == owner: pass"

SHAPES = [  # reference, a right answer and a wrong one; N and M are numbers of each pair's own
    (r"\left(N,\frac{\pi}{M}\right)", r"(N,\pi/M)", r"(N,\pi/N)"),
    (r"\frac{N}{M}", r"\frac{3\cdot N}{3\cdot M}", r"\frac{N+1}{M+2}"),
    (r"N\sqrt{M}", r"\sqrt{M\cdot N^2}", r"\sqrt{M\cdot N}"),
    (r"\frac{\sqrt{M}-1}{N}", r"\frac{M-1}{N(\sqrt{M}+1)}", r"\frac{M+1}{N(\sqrt{M}+1)}"),
    (r"x^2+(N+M)x+N\cdot M", r"(x+N)(x+M)", r"(x+N)(x-M)"),
    (r"\frac{x^{N}-1}{x-1}", r"\frac{1-x^{N}}{1-x}", r"\frac{1+x^{N}}{1-x}"),
    (r"(-\infty,N]\cup[M+N,\infty)", r"[N+M,\infty)\cup(-\infty,N]", r"[N+M,\infty)\cup(-\infty,N)"),
    (r"\{N,\sqrt{M},\pi\}", r"\{\pi,N,\sqrt{M}\}", r"\{\pi,M,\sqrt{N+1}\}"),
    (r"\begin{pmatrix}N&\frac{1}{M}\\0&1\end{pmatrix}", r"\begin{pmatrix}N&2/(2\cdot M)\\0&1\end{pmatrix}",
     r"\begin{pmatrix}N&1/M\\1&1\end{pmatrix}"),
    (r"x<\frac{N}{M}", r"N/M>x", r"N/M\ge x"),
    (r"\sin(Nx)^2+\cos(Nx)^2+M", r"1+M", r"M-1+x"),
    (r"\log_{M}(N)", r"\frac{\ln N}{\ln M}", r"\frac{\ln M}{\ln (N+1)}"),
    (r"e^{N}+M\pi", r"\pi\cdot M+e^{N}", r"\pi\cdot N+e^{M}"),
    (r"\sqrt{N+M+2\sqrt{N\cdot M}}", r"\sqrt{N}+\sqrt{M}", r"\sqrt{N}+\sqrt{M+1}"),
]  # fmt: skip
HARD = [  # near the limit of a second, and one far beyond it
    (r"\frac{\pi^2}{6}", r"\sum_{n=1}^{\infty}\frac{1}{n^2}"),
    (r"\frac{\pi}{2\sqrt{2}}", r"\int_0^{\infty}\frac{1}{1+x^4} dx"),
    (r"\pi", r"\int_{-\infty}^{\infty}\frac{1}{1+x^2} dx"),
    (r"\frac{\sqrt{\pi}}{2}", r"\int_0^{\infty} e^{-x^2} dx"),
    ("1", r"\int_0^{10^{6}} \lfloor x^{x} \rfloor dx"),
]
SHOWN = 10  # differences printed of each attempt


def pairs(count: int) -> list[Pair]:
    """So many references and completions that need mathematics, some right and some wrong, and before them the hard."""
    found = []
    for i in range(count):
        gold, right, wrong = SHAPES[i % len(SHAPES)]
        own = {"N": str(3 + i // len(SHAPES)), "M": str(2 + i)}
        both = gold, wrong if i // len(SHAPES) % 2 else right
        gold, answer = ("".join(own.get(letter, letter) for letter in text) for text in both)
        found.append((gold, rf"\boxed{{{answer}}}"))
    return [*((gold, rf"\boxed{{{answer}}}") for gold, answer in HARD), *found]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes beside the block that each keep a core busy."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def verdicts(asked: list[Pair], what: str) -> list[Graded]:
    """What a new grader says, and a line about it."""
    started = time.perf_counter()
    with Grader(workers=2) as grader:
        graded = grader.grade_many(asked)
    counts = Counter(item.verdict for item in graded)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    print(f"{what}: {told}; {time.perf_counter() - started:.0f} s", flush=True)
    return graded


def main() -> None:
    parser = Parser(prog="python -m experiments.grading.busy", description="Verdicts beside busy processes.")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--processes", type=int, default=20)
    options = parser.parse_args()
    if options.pairs < 1 or options.processes < 1:
        raise UserError(f"--pairs {options.pairs} --processes {options.processes}: give at least 1 of each")
    asked = pairs(options.pairs)
    print(f"{len(asked)} pairs, {os.cpu_count()} cores")
    quiet, differing = verdicts(asked, "left alone"), 0
    for attempt in ("once", "again"):
        with busy(options.processes):
            loaded = verdicts(asked, f"beside {options.processes} busy processes, {attempt}")
        changes = [i for i in range(len(asked)) if quiet[i].verdict is not loaded[i].verdict]
        for i in changes[:SHOWN]:
            print("  {!r} against {!r}:".format(*asked[i]), f"{quiet[i].verdict}, then {loaded[i].verdict}")
        print(f"{len(changes)} of {len(asked)} verdicts differ")
        differing += len(changes)
    if differing:
        raise UserError(f"{differing} verdicts depend on how busy the machine is: see above")


if __name__ == "__main__":
    run_command(main)
