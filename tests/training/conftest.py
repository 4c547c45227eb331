"""A small prepared task and a briefly warm-started policy, made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = [
    "--rollout.group_size=4",
    "--train.prompts=4",
    "--train.steps=4",
    "--train.checkpoint_every=1",
    "--trainer.logger=none",
]


def command(name: str, *argv: str, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the package as a user would, in a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-m", f"replication.{name}", "--params", str(ROOT / "params.yaml"), *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )
    if check and done.returncode:
        raise AssertionError(f"{name} {' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """A folder with data/tiny and runs/warmstart/tiny: problems of two steps, which the policy solves now and then."""
    folder = tmp_path_factory.mktemp("workshop")
    task = ("--data.steps=2", "--data.train_problems=64", "--data.heldout_problems=8")
    command("prepare", *task, cwd=folder)
    command("warmstart", *task, "--warmstart.clean_steps=70", "--warmstart.noisy_steps=10", cwd=folder)
    return folder
