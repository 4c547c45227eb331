"""`make fuzz`: a hundred thousand generated and mutated answers: does anything hang, crash, leak, or grow?

What it should show: every answer gets a verdict, no worker outlives the run, memory is flat, and a worker killed from
outside (one every 20,000 answers) costs no verdict.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from replication.errors import Parser, UserError, run_command
from replication.grading.pool import Grader
from replication.grading.verdict import Verdict

BATCH, KILL_EVERY = 500, 20_000
ANSWERS = [
    "42", "-7", "073", "1,234", "3.14", r"\frac{1}{2}", r"\dfrac{\sqrt{3}}{2}", "x^2+2x+1", r"(0,1]\cup[2,\infty)",
    r"\{1,2,3\}", r"\text{yes}", r"50\%", r"2\pi", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "x=5", r"90^\circ",
    "1,3,5", r"5\text{cm}", r"0.\overline{3}", r"3\times10^{8}", "(C)", r"\sin^{2}{x}", r"\log_{2}{8}", r"x\le3",
    "a+bi",
]  # fmt: skip
TOKENS = [
    r"\frac", r"\sqrt", r"\int_0^1", r"\sum_{n=1}^{99}", r"\prod", r"\lim_{x\to0}", r"\binom{9}{4}", r"\left(",
    r"\right)", "{", "}", "(", ")", "[", "]", "^", "_", "+", "-", r"\cdot", "/", "!", "=", "<", r"\le", ",", ";",
    "&", r"\\", "$", "%", "x", "y", "e", "i", r"\pi", r"\infty", "0", "1", "7", "999", ".", r"\text{and}", r"\mod",
    r"\boxed", r"\log", r"\begin{cases}", r"\end{cases}", "|", "'", '"',
]  # fmt: skip
TOKENS += [" ", "\n", "\t"]
CODE = [
    "__import__('os').system('true')", "lambda: 0", "exec('1')", "[].__class__", "9**9**9", "while True: pass",
    "import os", "Symbol('x')", "print(1)", r"\input{/etc/passwd}", r"\write18{ls}", "; DROP TABLE", "<script>",
    "{{7*7}}", "%n%n",
]  # fmt: skip


def soup(rng: random.Random) -> str:
    """LaTeX without sense."""
    return "".join(rng.choice(TOKENS) for _ in range(rng.randint(1, 40)))


def nested(rng: random.Random) -> str:
    """Something inside of something, deeply."""
    around = rng.choice(["{ }", "( )", r"\sqrt{ }", r"\frac{1}{1+ }", "2^{ }", "-( )"])
    (left, right), depth = around.split(), rng.choice([3, 10, 40, 200])
    return left * depth + rng.choice(ANSWERS) + right * (depth if rng.random() < 0.9 else depth - 1)


def huge(rng: random.Random) -> str:
    """Numbers beyond all size."""
    digits = "".join(rng.choice("0123456789") for _ in range(rng.choice([20, 400, 3000])))
    n = rng.choice([9, 10**4, 10**9])
    forms = [digits, f"0.{digits}", f"10^{{{n}}}", f"{n}!", f"2^{{3^{{{n}}}}}", f"{digits}/{n}", f"1e{n}"]
    return rng.choice([*forms, rf"\binom{{{n}}}{{{n // 2}}}", rf"{n}^{{{n}}} \bmod 7"])


def characters(rng: random.Random) -> str:
    """Any characters at all: ASCII, the basic plane, emoji."""
    ranges = (32, 127), (0xA0, 0xD7FF), (0x1F300, 0x1FAFF)
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 30)))


def mutated(rng: random.Random) -> str:
    """An answer with a few edits."""
    text = rng.choice(ANSWERS)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        edits = [text[:at] + rng.choice(TOKENS) + text[at:], text[:at] + text[at + 1 :], text[:at] + text[at:][::-1]]
        edits += [
            text + rng.choice(ANSWERS),
            text[:at] + str(rng.randrange(10**6)) + text[at:],
            rf"\frac{{{text}}}{{3}}",
        ]
        text = rng.choice(edits) or "0"
    return text


KINDS = (mutated, mutated, mutated, soup, nested, huge, characters, lambda rng: rng.choice(CODE) + rng.choice(ANSWERS))


def pair(index: int, seed: int) -> tuple[str, str]:
    """The reference and completion number `index` of a seed."""
    rng = random.Random(f"{seed}/{index}")
    text = rng.choice(KINDS)(rng)
    return rng.choice(ANSWERS), rng.choice([rf"\boxed{{{text}}}", rf"So $\boxed{{{text}}}$.", rf"\boxed {text}", text])


def resident(pids: list[int]) -> float:
    """Resident memory of processes, in MiB; a worker that ended meanwhile has none."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def family(pids: list[int]) -> list[int]:
    """Processes and their children."""
    found = list(pids)
    for pid in pids:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            continue
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    parser = Parser(prog="python -m experiments.grading.fuzz", description="Generated and mutated answers.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.count < 1:
        raise UserError(f"--count {options.count}: give at least 1")
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    slowest, seen, killed, memory = 0.0, set[int](), 0, []
    started = time.perf_counter()
    with Grader(workers=2) as grader:
        for first in tqdm(range(0, options.count, BATCH), unit="batch", mininterval=10):
            batch = [pair(i, options.seed) for i in range(first, min(first + BATCH, options.count))]
            if first % KILL_EVERY == KILL_EVERY // 2 and grader.worker_pids:
                os.kill(grader.worker_pids[0], signal.SIGKILL)
                killed += 1
            for graded in grader.grade_many(batch):
                verdicts[graded.verdict] += 1
                reasons[graded.reason if graded.verdict is Verdict.TIMED_OUT else ""] += 1
                slowest = max(slowest, graded.seconds)
            members = family(grader.worker_pids)
            seen.update(members)
            memory.append((resident([os.getpid()]), resident(members)))
    seconds = time.perf_counter() - started
    deadline = time.monotonic() + 10
    while any(map(running, seen)) and time.monotonic() < deadline:
        time.sleep(0.1)
    print(
        f"{options.count} answers in {seconds:.0f} s, {options.count / seconds:.0f} a second;",
        f"slowest verdict {slowest:.2f} s",
    )
    print("verdicts: " + ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict))
    print("timed out: " + "; ".join(f"{count} {reason}" for reason, count in reasons.most_common() if reason))
    for share in (0.1, 0.5, 1.0):
        ours, workers = memory[max(0, int(len(memory) * share) - 1)]
        print(f"memory after {share:4.0%}: {ours:.0f} MiB here, {workers:.0f} MiB in the workers")
    left = sorted(filter(running, seen))
    print(f"{killed} workers killed from outside; {len(seen)} processes seen, {len(left)} left")
    if left or sum(verdicts.values()) != options.count:
        raise UserError(f"processes {left} are left, or a verdict is missing: {sum(verdicts.values())}")


if __name__ == "__main__":
    run_command(main)
