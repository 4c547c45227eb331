"""A GRPO step beside TRL's, by the comparison of experiments/training/step.py."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from experiments.gpu.device import RUN, free, made, place
from experiments.gpu.groups import Setting
from experiments.gpu.machine import ROOT
from experiments.gpu.rows import Rows, Skipped
from experiments.gpu.training import tokenizer_of
from experiments.training import step as beside
from experiments.training.plan import SECTIONS
from replication.cli import load_run
from replication.config import Config
from replication.policy import save_policy

STEPS = 3
SHAPE = "--train.prompts 4 --rollout.group_size 8 --rollout.max_rows 32 --rollout.segments 1 --train.minibatches 1"


@dataclass
class Case(beside.Case):
    """A comparison by this package's settings, wherever the command is run."""

    def config(self) -> Config:
        about = f"--params {ROOT / 'params.yaml'} --model {self.model} --algorithm grpo {RUN} {self.flags}"
        return load_run(SECTIONS, f"{about} --train.steps {self.steps}".split()).config


def step(rows: Rows, setting: Setting) -> None:
    """Tokens a second of a whole step in float32, ours and TRL's."""
    python = setting.trl or (sys.executable if find_spec("trl") else None)
    if python is None:
        raise Skipped("TRL is not installed: --trl names the Python of an environment that has it")
    folder = setting.scratch / "model"
    tokenizer = tokenizer_of(512 if setting.tiny else 151936)
    model: Any = made("0.6B", setting, torch.float32)
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    save_policy(model, tokenizer, folder)
    tokens, micro = (8, 8) if setting.tiny else (128, 16)
    flags = f"{SHAPE} --rollout.segment_tokens {tokens} --train.micro_rows {micro} --trainer.strategy single"
    case = Case("", "tiny", folder, flags, STEPS, torch.get_num_threads())
    config = case.config()
    mine = beside.ours(config, model.to(place()), tokenizer)
    del model
    free()
    theirs = beside.theirs(python, beside.setting(case, config, tokenizer))
    beside.check(config, tokenizer, mine, theirs)
    made_tokens = config.train.prompts * config.rollout.group_size * tokens
    best = {who: min(found["steps"][1:], key=lambda s: s["step"]) for who, found in (("ours", mine), ("TRL", theirs))}
    for who, spent in best.items():
        rows.add(f"a step, {who}", made_tokens / spent["step"], "tokens/s", note=f"seconds: {beside.spelled(spent)}")
    rows.add("a step, ours over TRL's", best["TRL"]["step"] / best["ours"]["step"], "", beside.WANTED)
