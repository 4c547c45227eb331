"""`make mutants`: plant each error of table.py in a copy of the code, and see that a test notices.

Prints a line a mutant and `mutants killed: K of N`; fails where one survives, where the text of one is no longer in the
code, or where the tests fail without any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mutants.table import MUTANTS, Mutant  # noqa: E402


def run_tests(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """The fast tests of some files, over the copy's code, up to the first failure."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", *(f"tests/{test}" for test in tests)]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(argv, cwd=copy, env=env, capture_output=True, text=True)


def try_mutant(mutant: Mutant, copies: Queue[Path]) -> tuple[bool, str]:
    """Whether a test fails under the mutant, and which."""
    copy = copies.get()
    path = copy / "replication" / mutant.file
    original = path.read_text()
    if original.count(mutant.before) != 1:
        copies.put(copy)
        return False, f"stale: {mutant.before!r} is not once in replication/{mutant.file}"
    path.write_text(original.replace(mutant.before, mutant.after))
    done = run_tests(copy, mutant.tests)
    path.write_text(original)
    copies.put(copy)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1, failed[0] if failed else f"no test of tests/{mutant.tests} noticed"


def main() -> None:
    copies: Queue[Path] = Queue()
    jobs = min(2, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(jobs):
            copy = Path(folder) / str(i)
            for name in ("replication", "tests"):
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("params.yaml", "pyproject.toml"):
                shutil.copy(ROOT / name, copy)
            copies.put(copy)
        healthy = run_tests(Path(folder) / "0", *sorted({m.tests for m in MUTANTS}))
        if healthy.returncode:
            sys.exit(f"the tests fail without any mutant:\n{healthy.stdout[-2000:]}")
        killed = 0
        with ThreadPoolExecutor(jobs) as pool:
            results = pool.map(lambda mutant: try_mutant(mutant, copies), MUTANTS)
            for mutant, (dead, how) in zip(MUTANTS, results, strict=True):
                killed += dead
                print(f"{'killed  ' if dead else 'SURVIVED'} {mutant.file}: {mutant.what} ({how})", flush=True)
    print(f"mutants killed: {killed} of {len(MUTANTS)}")
    sys.exit(killed < len(MUTANTS))


if __name__ == "__main__":
    main()
