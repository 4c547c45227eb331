"""`python -m experiments.grading.agreement DIR`: the grader on scoring cases and on public benchmarks' own answers.

DIR holds scoring_cases.jsonl (gold, prediction, expected, note) and benchmarks/*.jsonl (problem, answer, solution).
Prints every case's verdict, seconds and peak memory; of each benchmark, the answers not accepted for themselves and
those accepted for the next problem, by name and reason.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from replication.errors import Parser, UserError, run_command
from replication.grading.pool import Grader
from replication.grading.verdict import Verdict

TOLERATED = "either verdict tolerated"


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def peak_memory(pids: list[int]) -> float:
    """Largest resident memory that any of the processes or their children ever had, in MiB."""
    peak = 0
    for pid in pids:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            continue
        for each in (str(pid), *children):
            try:
                lines = Path(f"/proc/{each}/status").read_text().splitlines()
            except OSError:
                continue
            peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
    return peak / 1024


class Watch:
    """Peak memory of a grader's workers while a block runs."""

    def __init__(self, grader: Grader):
        self.grader, self.peak, self.done = grader, 0.0, threading.Event()

    def __enter__(self) -> Watch:
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, peak_memory(self.grader.worker_pids))
            if self.done.wait(0.01):
                return


def scoring_cases(path: Path) -> int:
    """Print each case; returns how many got another verdict than they must, or took 1 GiB."""
    cases, failed, slowest, largest = read(path), 0, 0.0, 0.0
    for case in cases:
        with Grader(workers=1) as grader:  # new workers, so that the memory is this case's
            grader.grade("x+1", r"\boxed{1+x}")
            with Watch(grader) as watch:
                started = time.perf_counter()
                graded = grader.grade(case["gold"], case["prediction"])
                seconds = time.perf_counter() - started
        right = (graded.verdict is Verdict.CORRECT) == case["expected"] or TOLERATED in case["note"]
        ok = right and watch.peak < 1024
        failed += not ok
        slowest, largest = max(slowest, seconds), max(largest, watch.peak)
        print(
            f"{'ok' if ok else 'FAILED':6s} {graded.verdict:9s} {seconds:6.3f} s {watch.peak:6.0f} MiB",
            case["note"][:90],
        )
    print(f"{len(cases) - failed} of {len(cases)} cases; slowest {slowest:.3f} s, largest {largest:.0f} MiB")
    return failed


def benchmark(path: Path, grader: Grader) -> None:
    """Print how many references are accepted for themselves, and for the next problem, and name the exceptions."""
    rows = read(path)
    golds = [row["answer"] if isinstance(row["answer"], str) else ", ".join(row["answer"]) for row in rows]
    tolerances = [float(row["error"]) if row.get("error") else None for row in rows]
    texts = [row.get("solution") or "" for row in rows]
    if path.stem == "olympiadbench":
        texts = [rf"\boxed{{{gold}}}" for gold in golds]
    stated = [i for i, text in enumerate(texts) if r"\boxed" in text]
    own = grader.grade_many([(golds[i], texts[i]) for i in stated], [tolerances[i] for i in stated])
    missed = [(rows[i]["id"], golds[i], g) for i, g in zip(stated, own, strict=True) if not g.reward]
    print(f"{path.stem}: {len(stated) - len(missed)} of {len(stated)} reference solutions correct")
    for name, gold, g in missed:
        print(f"  not accepted: {name}: {gold!r} against {g.answer!r} ({g.verdict}, {g.reason})")
    following = golds[1:] + golds[:1]
    pairs = [i for i in range(len(rows)) if golds[i] != following[i]]
    others = [(golds[i], rf"\boxed{{{following[i]}}}") for i in pairs]
    shifted = grader.grade_many(others, [tolerances[i] for i in pairs])
    passed = [(rows[i]["id"], golds[i], g) for i, g in zip(pairs, shifted, strict=True) if g.reward]
    print(f"{path.stem}: {len(passed)} of {len(pairs)} answers of the next problem accepted")
    for name, gold, g in passed:
        print(f"  accepted: {name}: {gold!r} against {g.answer!r} ({g.reason})")


def main() -> None:
    parser = Parser(prog="python -m experiments.grading.agreement", description="The grader on cases and benchmarks.")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    failed = scoring_cases(options.folder / "scoring_cases.jsonl")
    with Grader() as grader:
        for path in sorted((options.folder / "benchmarks").glob("*.jsonl")):
            benchmark(path, grader)
    if failed:
        raise UserError(f"{failed} scoring cases failed: see above")


if __name__ == "__main__":
    run_command(main)
