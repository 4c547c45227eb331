"""`python -m replication.fit --model tiny|4b|8b|<folder or hub id> --algorithm e3rl`: train a policy, export it.

Killed at any moment, the same command goes on from the last checkpoint to the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from replication.cli import Run, load_run
from replication.config import RolloutConfig, TrainConfig, TrainerConfig
from replication.errors import UserError, run_command
from replication.outputs import EXPORT_MARK, check_output, locked

SECTIONS = ["policy", "rollout", "erasure", "credit", "objective", "train", "trainer"]  # what the numbers depend on
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--seed", {"type": int, "default": 0, "help": "seed of the samples and of the problems' order"}),
    ("--data", {"type": str | None, "default": None, "help": "prepared problems, data/<model> if not given"}),
    (
        "--out",
        {"type": str | None, "default": None, "help": "export, runs/train/<model>/<algorithm>/<seed> if not given"},
    ),
    ("--fresh", {"action": "store_true", "help": "drop the checkpoints of an unfinished run, and start anew"}),
]


def check_machine(trainer: TrainerConfig, train: TrainConfig, model: str, lora: int) -> None:
    """Refuse what this machine or these settings cannot run, before anything is loaded.

    Raises:
        UserError: too few GPUs, or GPUs too small; more processes than the strategy has; what ZeRO-3 cannot do;
            problems that do not divide.
    """
    import torch

    world = trainer.devices * trainer.nodes
    if trainer.gpu_gib:
        have = [torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(torch.cuda.device_count())]
        if len(have) < trainer.devices or min(have, default=0) < 0.95 * trainer.gpu_gib:
            found = f"{len(have)} with {min(have):.0f} GiB" if have else "none"
            raise UserError(
                f"--model {model} needs {trainer.devices} CUDA GPUs of {trainer.gpu_gib} GiB a node, and this "
                f"machine has {found}: run it where they are, set trainer.devices and trainer.gpu_gib to what fits "
                "your GPUs, or use --model tiny"
            )
    if trainer.strategy == "single" and world > 1:
        raise UserError(f"trainer.strategy single runs 1 process, not {world}: use ddp or deepspeed_zero2")
    if trainer.strategy == "deepspeed_zero3" and lora:
        raise UserError("policy.lora_rank is not merged under trainer.strategy deepspeed_zero3: use deepspeed_zero2")
    if train.prompts % (train.minibatches * world):
        raise UserError(
            f"train.prompts = {train.prompts} cannot be dealt evenly to {train.minibatches} minibatches x {world} "
            "processes: use a multiple"
        )


def check_sampling(rollout: RolloutConfig) -> None:
    """Raise a `UserError` for truncated sampling, whose draws are not from the distribution that is trained."""
    if rollout.top_k or rollout.top_p < 1:
        raise UserError(
            f"rollout.top_k = {rollout.top_k} and rollout.top_p = {rollout.top_p}: training draws from the whole "
            "distribution, 0 and 1; for an evaluation set evaluate.top_k and evaluate.top_p"
        )


def identity_of(run: Run, base: str, data: Path) -> dict[str, Any]:
    """All that a run's numbers depend on: settings, seed, problems, starting weights, code."""
    from replication.training.resume import identity

    package = Path(__file__).parent
    code = [path for path in sorted(package.rglob("*.py")) if "report" not in path.relative_to(package).parts[0]]
    weights = sorted(Path(base).glob("*.safetensors")) if Path(base).is_dir() else []
    about = {"algorithm": run.algorithm, "seed": run.options["seed"], "base": base}
    files = {"problems": [data / "train.jsonl"], "starting weights": weights, "code": code}
    return identity(run.config, SECTIONS, about, files)


def scratch_of(out: Path) -> Path:
    """Where a run keeps its checkpoints and logs until its export is written."""
    here = Path.cwd()
    whole = out.absolute()
    return Path(".scratch/train") / (whole.relative_to(here) if whole.is_relative_to(here) else str(whole).lstrip("/"))


def global_rank() -> int:
    """This process's rank, by whichever launcher started it: torchrun, SLURM, or Lightning itself."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((int(rank) for rank in ranks if rank is not None), 0)


def train(run: Run) -> tuple[Path, float]:
    """Train and export; resumes by itself.

    Returns:
        The export's folder, and how far it is from the trained policy in nats a token (nan but on the first process).
    """
    config, seed = run.config, int(run.options["seed"])
    check_sampling(config.rollout)
    check_machine(config.trainer, config.train, run.model, config.policy.lora_rank)
    data = Path(run.options["data"] or f"data/{run.model}")
    out = Path(run.options["out"] or f"runs/train/{run.model}/{run.algorithm}/{seed}")
    check_output(out, EXPORT_MARK)

    from replication.data.prepared import read_benchmarks, read_train

    problems = read_train(data)
    heldout = next(iter(read_benchmarks(data, None).values())) if config.train.validate_every else []

    from replication.policy import base_policy, load_policy, use_machine

    base, revision = base_policy(config.policy, run.model)
    use_machine(config.policy)
    policy, tokenizer = load_policy(base, revision)

    import lightning.pytorch as L

    from replication.data.module import ProblemModule
    from replication.training import resume
    from replication.training.export import export_run
    from replication.training.module import E3RLModule
    from replication.training.trainer import build_trainer

    if config.policy.lora_rank:
        from replication.training.lora import add_adapters  # peft takes seconds to import

        add_adapters(policy, config.policy, seed)
    if config.trainer.gradient_checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    mine, scratch = identity_of(run, base, data), scratch_of(out)
    first, difference = global_rank() == 0, math.nan
    with locked(scratch) if first else nullcontext():
        if first:
            if run.options["fresh"]:
                shutil.rmtree(scratch / resume.CHECKPOINTS, ignore_errors=True)
            resume.begin(scratch, mine)
        validation = heldout[: config.train.validate_problems]
        module = E3RLModule(config, policy.train(), tokenizer, problems, seed, validation)
        t = config.train
        stream = ProblemModule(len(problems), t.steps, t.prompts, t.minibatches, seed)

        def export() -> None:
            nonlocal difference
            difference = export_run(record_of(run, base, revision), module, data, out)
            shutil.rmtree(scratch / resume.CHECKPOINTS, ignore_errors=True)  # the logs stay

        trainer: L.Trainer = build_trainer(config, scratch, export)
        checkpoint = resume.last_checkpoint(scratch)
        if checkpoint is not None and trainer.is_global_zero:
            print(f"resuming from {checkpoint}")
        trainer.fit(module, stream, ckpt_path=checkpoint, weights_only=False)
        if len(module.history) < t.steps:
            raise UserError(f"stopped after {len(module.history)} of {t.steps} steps: run the same command to go on")
    return out, difference


def record_of(run: Run, base: str, revision: str | None) -> dict[str, Any]:
    """What run.json keeps of a run: where it started and all its settings."""
    return {
        "model": run.model,
        "algorithm": run.algorithm,
        "seed": run.options["seed"],
        "base": base,
        "revision": revision,
        "settings": {section: dataclasses.asdict(getattr(run.config, section)) for section in (*SECTIONS, "grading")},
    }


def main() -> None:
    run = load_run(
        [*SECTIONS, "grading"], options=OPTIONS, description="Train a policy and export it as a plain checkpoint."
    )
    out, difference = train(run)
    if global_rank() == 0:
        from replication.training.card import last_reward

        rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
        reward, last = last_reward(rows)
        print(
            f"reward {reward:.3f} over the last {last} of {len(rows)} steps, the export differs from the policy by "
            f"{difference:.1e} nats a token -> {out}"
        )


if __name__ == "__main__":
    run_command(main)
