"""What several files' tests of vLLM start from."""

import pytest
from commands import command

HEADS = ["--policy.heads=3", "--policy.kv_heads=1"]  # of 32: vLLM's attention on a CPU knows none of 24


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """A folder with prepared problems and a warm start, made once."""
    folder = tmp_path_factory.mktemp("workshop")
    task = ("--data.steps=2", "--data.train_problems=64", "--data.heldout_problems=8")
    command("prepare", *task, cwd=folder)
    command("warmstart", *task, *HEADS, "--warmstart.clean_steps=70", "--warmstart.noisy_steps=10", cwd=folder)
    return folder
