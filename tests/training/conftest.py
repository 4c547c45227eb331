"""A small prepared task and a briefly warm-started policy, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import PARAMS, SMALL, command


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """A folder with data/tiny and runs/warmstart/tiny: problems of two steps, which the policy solves now and then."""
    folder = tmp_path_factory.mktemp("workshop")
    task = ("--data.steps=2", "--data.train_problems=64", "--data.heldout_problems=8")
    command("prepare", *task, cwd=folder)
    command("warmstart", *task, "--warmstart.clean_steps=70", "--warmstart.noisy_steps=10", cwd=folder)
    return folder


@pytest.fixture
def quick_fit(tmp_path, monkeypatch):
    """`fit` in this process, in a folder of its own, in a second or two: a random policy of two blocks, whose
    completions are right where the sum of their ids is even, so that there is something to learn."""
    from replication.cli import load_run
    from replication.config import PolicyConfig
    from replication.data.prepared import write_prepared
    from replication.data.tasks import TASKS
    from replication.fit import OPTIONS, SECTIONS, train
    from replication.policy import save_policy, small_model, small_tokenizer
    from replication.training.sampler import Sampler

    def grade(self, rollout, problems, prefix=""):
        for rate in ("no_answer", "timed_out"):
            self.metrics.add(f"verdict/{prefix}{rate}", 0, 1)
        return (rollout.tokens.sum(1) % 2 == 0).float().view(len(problems), -1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Sampler, "_grade", grade)
    problems = TASKS["recurrence"].problems(count=8, seed=0, steps=2)
    write_prepared(tmp_path / "data", problems, {}, {"task": "recurrence", "counts": {"drawn": len(problems)}})
    tokenizer = small_tokenizer()
    size = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
    save_policy(small_model(size, tokenizer, 0), tokenizer, tmp_path / "policy")
    flags = [*SMALL, "--rollout.segments=3", "--data=data", "--policy.pretrained=policy", "--train.lr=0.001"]

    def fit(*argv: str) -> tuple[Path, float]:
        return train(load_run([*SECTIONS, "grading"], ["--params", str(PARAMS), *flags, *argv], OPTIONS))

    return fit
