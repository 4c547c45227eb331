"""Training on vLLM: every strategy, each process with an engine of its own; killed and resumed."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import ROOT, SMALL, command, run, started, wait_until
from safetensors.torch import load_file

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here: `make vllm`", allow_module_level=True)

BUILD = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions"), "OMP_NUM_THREADS": "1"}
ARGV = [*SMALL, "--rollout.engine=vllm", "--algorithm=e3rl_mixed", "--train.micro_rows=2", "--train.lr=0.003"]
TWO = ["--trainer.devices=2"]
WAYS = {
    "single": [],
    "ddp": ["--trainer.strategy=ddp", *TWO],
    "zero2": ["--trainer.strategy=deepspeed_zero2", *TWO],
    "zero3": ["--trainer.strategy=deepspeed_zero3", *TWO],
    "lora": ["--policy.lora_rank=4"],
    "lora zero2": ["--policy.lora_rank=4", "--trainer.strategy=deepspeed_zero2", *TWO],
}


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
@pytest.mark.parametrize("way", ["zero2", "zero3"])
def test_losses_are_those_of_the_same_ids_with_the_trainers_own_log_probabilities(workshop, way):
    """Two processes, vLLM's ids; once with what it measured of them, once with what the trained model says of them."""
    outs = [workshop / "runs" / f"{way}-{name}" for name in ("measured", "rescored")]
    flags = [*ARGV, *WAYS[way], "--train.lr=0.0003"]
    command("fit", *flags, f"--out={outs[0]}", cwd=workshop, **BUILD)
    run(str(ROOT / "tests/with_vllm/rescored.py"), *flags, f"--out={outs[1]}", cwd=workshop, **BUILD)
    measured, rescored = (history(out) for out in outs)
    assert len(measured) == len(rescored) == 4
    assert any(row["mismatch"] != other["mismatch"] for row, other in zip(measured, rescored, strict=True))
    for row, other in zip(measured, rescored, strict=True):
        assert row["generated_tokens"] == other["generated_tokens"] and row["reward"] == other["reward"]
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-6)
    assert sum(abs(row["loss"]) > 1e-4 for row in measured) >= 2, measured  # by clipped ratios 0 is no loss


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(workshop):
    straight, killed = workshop / "runs/straight", workshop / "runs/killed"
    command("fit", *ARGV, f"--out={straight}", cwd=workshop, **BUILD)
    process = started("fit", *ARGV, f"--out={killed}", cwd=workshop, **BUILD)
    wait_until(process, lambda: list((workshop / ".scratch").rglob("rollout=2.complete")))
    process.kill()
    process.wait()
    assert not killed.exists()
    done = command("fit", *ARGV, f"--out={killed}", cwd=workshop, **BUILD)
    assert "resuming from" in done.stdout
    assert history(killed) == history(straight)
    mine, theirs = (load_file(out / "model.safetensors") for out in (killed, straight))
    assert all((mine[key] == theirs[key]).all() for key in theirs)
