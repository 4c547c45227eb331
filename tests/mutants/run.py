"""`make mutants`: plant each error of table.py in a copy of the code, and see that a test notices.

Prints a line a mutant and `mutants killed: K of N`; fails where one survives, where the text of one is no longer in the
code, or where the tests fail without any. Each runs in a process that is forked after the slow imports.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins are slow to load, and unused
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import lightning.pytorch  # noqa: E402, F401  slow to import, as the next two; nothing here may import `replication`
import pytest  # noqa: E402
import small_models  # noqa: E402, F401
from mutants.table import MUTANTS, Mutant  # noqa: E402

PATIENCE = 300  # CPU seconds until the tests of a mutant that loops for ever count as failed


class FirstFailure:
    """A pytest plugin that remembers the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid


def expire(*_: Any) -> None:
    raise TimeoutError(f"more than {PATIENCE} seconds of CPU time, or {20 * PATIENCE} of any")


def try_mutant(mutant: Mutant) -> tuple[int, str]:
    """pytest's exit status over a copy of the code with the mutant in it, and the first test that failed or, where
    none did, what pytest said."""
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("replication", "experiments", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("params.yaml", "pyproject.toml"):
            shutil.copy(ROOT / name, copy)
        (copy / "reports").mkdir()
        shutil.copy(ROOT / "reports/reference.json", copy / "reports")
        path = copy / "replication" / mutant.file
        path.write_text(path.read_text().replace(mutant.before, mutant.after))
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        for limit in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(limit, expire)
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        signal.alarm(20 * PATIENCE)  # for one that sleeps
        failure = FirstFailure()
        with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
            status = pytest.main(["-x", "-m", "not slow", f"tests/{mutant.tests}"], plugins=[failure])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        os.chdir(ROOT)
    return int(status), failure.name or said.getvalue()[-2000:]


def main() -> None:
    stale = [m for m in MUTANTS if (ROOT / "replication" / m.file).read_text().count(m.before) != 1]
    for mutant in stale:
        print(f"replication/{mutant.file}: {mutant.what}: {mutant.before!r} is not in it exactly once")
    if stale:
        sys.exit("the table of mutants is stale: tests/mutants/table.py")
    healthy = [Mutant("nothing", "__init__.py", "", "", tests) for tests in sorted({m.tests for m in MUTANTS})]
    killed = 0
    with multiprocessing.get_context("fork").Pool(min(2, os.cpu_count() or 1), maxtasksperchild=1) as pool:
        for mutant, (status, how) in zip(healthy, pool.imap(try_mutant, healthy), strict=True):
            if status:
                sys.exit(f"tests/{mutant.tests} fails without any mutant: {how}")
        print(f"{len(healthy)} files of tests pass without any mutant", flush=True)
        for mutant, (status, how) in zip(MUTANTS, pool.imap(try_mutant, MUTANTS), strict=True):
            dead = status == pytest.ExitCode.TESTS_FAILED
            killed += dead
            verdict = f"killed by {how}" if dead else f"SURVIVED tests/{mutant.tests} (pytest's exit status {status})"
            print(f"{mutant.file}: {mutant.what}: {verdict}", flush=True)
    print(f"mutants killed: {killed} of {len(MUTANTS)}")
    sys.exit(killed < len(MUTANTS))


if __name__ == "__main__":
    main()
