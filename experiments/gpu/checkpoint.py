"""A checkpoint written and resumed: seconds, and whether the run goes on to the same numbers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

from experiments.gpu.device import free, made, planned
from experiments.gpu.groups import Setting
from experiments.gpu.rows import Rows
from experiments.gpu.training import tokenizer_of
from experiments.training import measure
from experiments.training.clock import Clock, settle
from experiments.training.step import parity
from replication.policy import small_model
from replication.rollout.policy import Policy
from replication.training.checkpoint import CheckpointFile
from replication.training.resume import CHECKPOINTS
from replication.training.sampler import Sampler

FLAGS = "--algorithm e3rl --trainer.strategy single --trainer.precision 32 --train.steps 2 --train.prompts 4 "
FLAGS += "--train.minibatches 2 --train.micro_rows 8 --rollout.group_size 8 --rollout.max_rows 32 --rollout.segments 3 "
FLAGS += "--train.checkpoint_every 1 --train.lr 1.0e-4"


def resumed(rows: Rows, setting: Setting) -> None:
    """Two steps of all weights in float32, saved after each; then the second one once more, from the first's file."""
    _, config = planned("tiny", f"{FLAGS} --rollout.segment_tokens {4 if setting.tiny else 32}", setting)
    words = 64 if setting.tiny else 151936
    clock, sampled = Clock(settle), list[torch.Tensor]()
    roll_out, grade = Policy.roll_out, Sampler._grade

    def noted(*args: Any) -> Any:
        done = roll_out(*args)
        sampled.append(done.tokens.cpu())
        return done

    def graded(*args: Any) -> torch.Tensor:
        return parity(grade, *args)

    def trained(**how: Any) -> dict[str, float]:
        tokenizer = tokenizer_of(words)
        free()
        policy = small_model(config.policy, tokenizer, 0) if setting.tiny else made("0.3B", setting, torch.float32)
        return measure.run_steps(config, policy, tokenizer, **how).history[-1]

    with ExitStack() as patches:
        for name, part in (("save_checkpoint", "saved"), ("load_checkpoint", "read")):
            wrapped = clock.wrap(part, getattr(CheckpointFile, name))
            patches.enter_context(mock.patch.object(CheckpointFile, name, wrapped))
        patches.enter_context(mock.patch.object(Policy, "roll_out", noted))
        patches.enter_context(mock.patch.object(Sampler, "_grade", graded))
        straight = trained(keep=setting.scratch / "straight")
        file = setting.scratch / "straight" / CHECKPOINTS / "rollout=1.ckpt"
        size, saved = file.stat().st_size / 1e9, clock.parts["saved"] / 2
        rows.add("saved", saved, "s", note=f"{size:.3g} GB, {size / saved:.2f} GB/s: weights, Adam's moments")
        again = trained(keep=setting.scratch / "again", checkpoint=file)
        rows.add("read", clock.parts["read"], "s")
    note = "else nothing is learned, and going on to the same numbers is easy"
    rows.add("deviation of the rewards in a group", straight["reward_std"], "", ">= 0.01", note)
    same = float((sampled[1] == sampled[2]).float().mean())
    rows.add("resumed: same ids", same, "share", ">= 0.99", "float32; on a CPU it is 1")
    worst = max(straight, key=lambda name: abs(straight[name] - again[name]))
    apart = abs(straight[worst] - again[worst])
    rows.add(
        "resumed: largest difference of a metric", apart, "", note=f"{worst}: {straight[worst]:.6g}, {again[worst]:.6g}"
    )
