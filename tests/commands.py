"""The package's commands, run as a user would, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "tests/params.yaml"  # not the user's
SMALL = [
    "--rollout.group_size=4",
    "--train.prompts=4",
    "--train.steps=4",
    "--train.checkpoint_every=1",
    "--trainer.logger=none",
]


def run(*argv: str, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python on a module (`-m`, name) or script of the package, over the settings of the tests."""
    done = subprocess.run(
        [sys.executable, *argv, "--params", str(PARAMS)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def command(name: str, *argv: str, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m replication.<name>`."""
    return run("-m", f"replication.{name}", *argv, cwd=cwd, check=check, **env)


def started(
    name: str, *argv: str, cwd: Path, stderr: int = subprocess.DEVNULL, own_group: bool = False, **env: str
) -> subprocess.Popen[str]:
    """`python -m replication.<name>` in the background, over the settings of the tests; its processes may be a group
    of their own, to be killed together."""
    return subprocess.Popen(
        [sys.executable, "-m", f"replication.{name}", *argv, "--params", str(PARAMS)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
        start_new_session=own_group,
    )


def wait_until(process: subprocess.Popen[str], reached: Callable[[], object]) -> None:
    """Wait for a moment in the life of a process, or for its end."""
    while process.poll() is None and not reached():
        time.sleep(0.02)


def chunks_in(place: Path) -> set[Path]:
    """The chunks of samples that evaluations in a folder have kept."""
    return {path for path in place.glob(".scratch/evaluate/*/*/*.jsonl") if path.stat().st_size}
