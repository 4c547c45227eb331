"""Two processes give the numbers of one: DDP, and the real DeepSpeed on CPU."""

import json
from pathlib import Path

import pytest
import torch
from commands import SMALL, command
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_ddp_and_deepspeed_equal_a_single_process(workshop):
    """Same problems, same random numbers, same gradients, clipping that binds: same losses and weights (fp32)."""
    argv = [*SMALL, "--algorithm=e3rl_mixed", "--train.steps=3", "--train.micro_rows=2", "--train.grad_clip=0.01"]
    build = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}  # compiled once, about two minutes
    runs = {"single": [], "ddp": ["--trainer.devices=2"], "deepspeed_zero2": ["--trainer.devices=2"]}
    for strategy, extra in runs.items():
        command("fit", *argv, f"--trainer.strategy={strategy}", *extra, f"--out=runs/{strategy}", cwd=workshop, **build)
    read = lambda name: [json.loads(x) for x in (workshop / "runs" / name / "history.jsonl").read_text().splitlines()]  # noqa: E731
    single, weights = read("single"), load_file(workshop / "runs/single/model.safetensors")
    start = load_file(workshop / "runs/warmstart/tiny/model.safetensors")
    assert any(not torch.equal(weights[k], start[k]) for k in weights)
    for name in ("ddp", "deepspeed_zero2"):
        for mine, theirs in zip(read(name), single, strict=True):
            assert mine.keys() == theirs.keys()
            for key in ("loss", "reward", "entropy", "erased_tokens", "completion_tokens"):
                assert mine[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), (name, key)
        other = load_file(workshop / "runs" / name / "model.safetensors")
        assert other.keys() == weights.keys()
        for key in weights:
            torch.testing.assert_close(
                other[key], weights[key], atol=2e-5, rtol=1e-4, msg=lambda m, k=key, n=name: f"{n} {k}: {m}"
            )
