"""Training on vLLM: every strategy, each process with an engine of its own; killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import PARAMS, ROOT, SMALL, command
from safetensors.torch import load_file

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here: `make vllm`", allow_module_level=True)

BUILD = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions"), "OMP_NUM_THREADS": "1"}
ARGV = [*SMALL, "--rollout.engine=vllm", "--algorithm=e3rl_mixed", "--train.micro_rows=2", "--train.lr=0.003"]
HEADS = ["--policy.heads=3", "--policy.kv_heads=1"]  # of 32: vLLM's attention on a CPU knows none of 24
TWO = ["--trainer.devices=2"]
WAYS = {
    "single": [],
    "ddp": ["--trainer.strategy=ddp", *TWO],
    "zero2": ["--trainer.strategy=deepspeed_zero2", *TWO],
    "zero3": ["--trainer.strategy=deepspeed_zero3", *TWO],
    "lora": ["--policy.lora_rank=4"],
    "lora zero2": ["--policy.lora_rank=4", "--trainer.strategy=deepspeed_zero2", *TWO],
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with prepared problems and a warm start, made once."""
    folder = tmp_path_factory.mktemp("workshop")
    task = ("--data.steps=2", "--data.train_problems=64", "--data.heldout_problems=8")
    command("prepare", *task, cwd=folder)
    command("warmstart", *task, *HEADS, "--warmstart.clean_steps=70", "--warmstart.noisy_steps=10", cwd=folder)
    return folder


def history(out: Path):
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_after_every_update_the_engine_samples_from_the_trainers_weights(workshop, way):
    """The mean difference of a token's log-probability between sampler and trainer, before the step's own update."""
    out = workshop / "runs" / way.replace(" ", "-")
    command("fit", *ARGV, *WAYS[way], f"--out={out}", cwd=workshop, **BUILD)
    rows = history(out)
    assert len(rows) == 4 and all(0 < row["mismatch"] < 1e-4 for row in rows), [row["mismatch"] for row in rows]
    start, end = (load_file(f / "model.safetensors") for f in (workshop / "runs/warmstart/tiny", out))
    assert max(float((start[key] - end[key]).abs().max()) for key in start) > 1e-3


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(workshop):
    straight, killed = workshop / "runs/straight", workshop / "runs/killed"
    command("fit", *ARGV, f"--out={straight}", cwd=workshop, **BUILD)
    argv = [sys.executable, "-m", "replication.fit", *ARGV, f"--out={killed}", "--params", str(PARAMS)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **BUILD}
    process = subprocess.Popen(argv, cwd=workshop, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((workshop / ".scratch").rglob("rollout=2.complete")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    done = command("fit", *ARGV, f"--out={killed}", cwd=workshop, **BUILD)
    assert "resuming from" in done.stdout
    assert history(killed) == history(straight)
    mine, theirs = (load_file(out / "model.safetensors") for out in (killed, straight))
    assert all((mine[key] == theirs[key]).all() for key in theirs)
