"""The fit command end to end: export, refusal of what cannot run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import PARAMS, SMALL, command
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # each starts the command anew
ROW = '{"id": "a-1", "question": "34:+", "final_answer": "47", "difficulty": 1.0, "topic": "sum", "tolerance": null}\n'


def history(folder: Path):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algorithm", ["grpo", "e3rl", "e3rl_mixed"])
def test_export_is_a_plain_checkpoint_and_every_metric_is_there(workshop, algorithm):
    out = workshop / "export" / algorithm
    command("fit", f"--algorithm={algorithm}", f"--out={out}", *SMALL, cwd=workshop)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out).chat_template
    start = AutoModelForCausalLM.from_pretrained(workshop / "runs/warmstart/tiny")
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True)]
    assert all(moved)
    rows = history(out)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    wanted = {
        "loss",
        "reward",
        "entropy",
        "clip_fraction",
        "kl_step",
        "erasure_rate",
        "erased_tokens",
        "reward_std",
        "mismatch",
    }
    for row in rows:
        assert wanted <= row.keys()
        assert 0 <= row["mismatch"] < 1e-4  # nats: sampler and trainer agree
        assert abs(row["ratio"] - 1) < 0.1
    assert (rows[0]["erased_tokens"] > 0) == (algorithm != "grpo")
    assert not list(out.parent.glob(f".{out.name}-*"))


def test_completions_without_an_answer_stop_a_training(workshop):
    argv = [*SMALL, "--algorithm=grpo", "--seed=5", "--rollout.group_size=16", "--rollout.segments=1"]
    done = command("fit", *argv, "--rollout.segment_tokens=2", cwd=workshop, check=False)  # too short to answer
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("error: step 1: 100.0% of 64 compl")
    assert "grading.max_no_answer = 0.9" in done.stderr and not list(workshop.glob("runs/**/grpo/5"))


def test_two_writers_are_refused(workshop):
    argv = [*SMALL, "--algorithm=grpo", "--seed=9", "--train.steps=500"]
    first = subprocess.Popen(
        [sys.executable, "-m", "replication.fit", "--params", str(PARAMS), *argv],
        cwd=workshop,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(workshop.glob(".scratch/train/runs/hand/train/tiny/grpo/9/*/checkpoints/*")):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        second = command("fit", *argv, cwd=workshop, check=False)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 2
    assert f"another process ({first.pid}) is at work" in second.stderr


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model=4b"], ["4b needs 8 CUDA GPUs", "has"]),
        (["--model=8b", "--trainer.devices=2"], ["8b needs 2 CUDA GPUs"]),
        (["--train.prompts=3"], ["train.prompts = 3", "2 minibatches"]),
        (["--trainer.devices=2"], ["trainer.strategy single", "ddp"]),
        (["--data=nowhere"], ["nowhere", "replication.prepare"]),
    ],
)
def test_what_cannot_run_ends_with_one_line(tmp_path, argv, words):
    (tmp_path / "runs/warmstart/tiny").mkdir(parents=True)
    done = command("fit", *argv, cwd=tmp_path, check=False)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and all(word in lines[0] for word in words)
    assert not (tmp_path / ".scratch").exists() and not (tmp_path / "runs/train").exists()


def test_a_missing_warm_start_is_named(tmp_path):
    (tmp_path / "data/tiny").mkdir(parents=True)
    (tmp_path / "data/tiny/train.jsonl").write_text(ROW)
    done = command("fit", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "python -m replication.warmstart --model tiny" in done.stderr


def test_a_model_that_does_not_exist_is_named(tmp_path):
    (tmp_path / "data/here").mkdir(parents=True)
    (tmp_path / "data/here/train.jsonl").write_text(ROW)
    argv = ("--model=no-body/here", "--data=data/here")
    done = command("fit", *argv, cwd=tmp_path, check=False, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "no-body/here could not be loaded" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
