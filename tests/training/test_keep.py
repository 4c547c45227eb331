"""A checkpoint that outlives its run: the last one or the best one, whose policy can be evaluated."""

import json
from pathlib import Path

import pytest
import torch
from commands import ROOT, SMALL, command
from safetensors.torch import load_file

from replication.training.checkpoint import RolloutCheckpoint
from replication.training.keep import kept_checkpoint, weights_of

BUILD = {"TORCH_EXTENSIONS_DIR": str(ROOT / ".scratch/torch_extensions")}


@pytest.fixture
def second_is_best(monkeypatch):
    monkeypatch.setattr(RolloutCheckpoint, "score", lambda self, history: float(len(history) == 2))


@pytest.mark.parametrize("lora", [(), ("--policy.lora_rank=3",)])
def test_the_best_ones_policy_is_that_of_a_run_that_ended_there(quick_fit, second_is_best, lora):
    out, _ = quick_fit(*lora, "--out=whole", "--train.keep=best", "--train.keep_checkpoints=1")
    short, _ = quick_fit(*lora, "--out=short", "--train.steps=2")
    best, there, last = (load_file(folder / "model.safetensors") for folder in (out / "best", short, out))
    assert best.keys() == there.keys()
    for key, weight in there.items():
        torch.testing.assert_close(best[key], weight, rtol=0, atol=0 if not lora else 1e-7)
    assert any(not torch.equal(best[key], last[key]) for key in last)
    assert json.loads((out / "best/run.json").read_text())["rollouts"] == 2
    assert (out / "best/history.jsonl").read_text() == (short / "history.jsonl").read_text()
    assert kept_checkpoint(Path(".scratch/train/whole")).name == "rollout=2.ckpt"
    assert (
        not Path(".scratch/train/whole/checkpoints").exists() and kept_checkpoint(Path(".scratch/train/short")) is None
    )


def test_the_last_one_is_kept_and_takes_the_place_of_an_earlier_one(quick_fit, second_is_best):
    kept = Path(".scratch/train/out/kept")
    quick_fit("--out=out", "--train.keep=best")
    assert [path.name for path in kept.iterdir()] == ["rollout=2.ckpt"]
    out, _ = quick_fit("--out=out", "--train.keep=last", "--train.steps=3")  # it is none that a run would go on from
    assert [path.name for path in kept.iterdir()] == ["rollout=3.ckpt"] and not (out / "best").exists()
    weights, exported = weights_of(kept / "rollout=3.ckpt"), load_file(out / "model.safetensors")
    assert all(torch.equal(weights[key], weight) for key, weight in exported.items())
    quick_fit("--out=out", "--train.steps=3")
    assert not kept.exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["deepspeed_zero2", "deepspeed_zero3"])
def test_the_shares_of_all_processes_are_put_together_and_evaluated(workshop, strategy):
    argv = [*SMALL, "--seed=4", "--train.steps=2", f"--trainer.strategy={strategy}", "--trainer.devices=2"]
    argv += ["--train.keep=best", "--train.validate_every=1", "--train.validate_problems=8"]
    done = command("fit", *argv, f"--out={strategy}", cwd=workshop, **BUILD)
    told = done.stdout.strip().splitlines()[-1]
    assert told.startswith(f"the best checkpoint: .scratch/train/{strategy}/kept/rollout=") and told.endswith("/best")
    place = workshop / told.split()[3].rstrip(";")
    weights, best = weights_of(place), load_file(workshop / strategy / "best/model.safetensors")
    assert all(torch.equal(weights[key], weight) for key, weight in best.items())
    last = load_file(workshop / strategy / "model.safetensors")
    same = all(torch.equal(best[key], weight) for key, weight in last.items())
    assert same == (place.name == "rollout=2.ckpt")
    flags = ["--evaluate.samples=2", "--evaluate.problems=4", "--grading.max_no_answer=1", "--out=metrics"]
    command("evaluate", f"--checkpoint={strategy}/best", *flags, cwd=workshop)
    assert "heldout" in json.loads((workshop / "metrics/metrics.json").read_text())
