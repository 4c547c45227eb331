"""Fused kernels: the same losses and gradients, less memory, and refusals where they do not run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import ROOT
from plans import paper

from replication.config import Config, PolicyConfig, TrainerConfig
from replication.errors import UserError
from replication.planning import memory
from replication.planning.page import plan_of
from replication.training.machine import check_gpus, check_settings

SCRIPT = Path(__file__).with_name("liger_beside_torch.py")
COSINES = 8 * 4  # bytes a token, which the plan leaves out: all blocks have the same ones


def plan(kernels, qk_norm):
    policy = PolicyConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_size=48)
    p = plan_of(Config(policy=policy, trainer=TrainerConfig(kernels=kernels)))
    return replace(p, sizes=replace(p.sizes, qk_norm=qk_norm))


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("liger_kernel") and find_spec("triton")), reason="needs liger-kernel: `make vllm` has it"
)
@pytest.mark.parametrize(("family", "fused"), [("qwen3", 18), ("llama", 12)])
def test_liger_gives_torchs_losses_and_gradients_and_saves_what_the_plan_says(family, fused):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    argv, env = [sys.executable, SCRIPT, family], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["logp"] < 1e-4 and found["gradient"] < 1e-4
    assert found["fused"] == fused, "norms and feed-forward layers of two blocks, and the last norm"
    bytes_planned = [memory.layer_activations(plan(kernels, family == "qwen3")) for kernels in ("torch", "liger")]
    assert found["bytes"] == [planned + COSINES for planned in bytes_planned]


def test_fused_kernels_make_a_micro_batch_smaller_in_the_plan():
    torch_bytes, liger_bytes = (memory.layer_activations(plan(kernels, True)) for kernels in ("torch", "liger"))
    assert (torch_bytes, liger_bytes) == (2352, 1712)  # a token, worked by hand
    assert memory.layer_backward(plan("torch", True)) - memory.layer_backward(plan("liger", True)) == (
        plan("torch", True).tokens * 48 * 4
    )


def test_the_page_says_what_the_plan_of_8b_says():
    saved = [memory.layer_activations(paper("8b", f"--trainer.kernels {kernels}")) for kernels in ("torch", "liger")]
    assert f"{saved[1]:,} instead of {saved[0]:,} bytes a token" in (ROOT / "docs/running.md").read_text()


def test_they_are_for_gpus_and_for_all_weights(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="liger runs on CUDA GPUs, and this machine has none: leave it at torch"):
        check_gpus(TrainerConfig(kernels="liger"), "tiny")
    with pytest.raises(UserError, match=r"trainer\.kernels liger is not for policy\.lora_rank: adapters are merged"):
        check_settings(Config(policy=PolicyConfig(lora_rank=4), trainer=TrainerConfig(kernels="liger")))
