"""A small prepared task and a briefly warm-started policy, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import command


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """A folder with data/tiny and runs/warmstart/tiny: problems of two steps, which the policy solves now and then."""
    folder = tmp_path_factory.mktemp("workshop")
    task = ("--data.steps=2", "--data.train_problems=64", "--data.heldout_problems=8")
    command("prepare", *task, cwd=folder)
    command("warmstart", *task, "--warmstart.clean_steps=70", "--warmstart.noisy_steps=10", cwd=folder)
    return folder
