"""`python -m replication.fit --model tiny|4b|8b|<folder or hub id> --algorithm e3rl`: train a policy, export it.

Killed at any moment, the same command goes on from the last checkpoint to the same numbers. With `--plan` nothing is
trained or loaded: it says what the run would take.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from replication.cli import Run, load_run
from replication.config import RolloutConfig, TrainConfig, TrainerConfig
from replication.errors import UserError, require, run_command
from replication.outputs import check_output, locked, output_folder

SECTIONS = ["policy", "rollout", "erasure", "credit", "objective", "train", "trainer"]  # what the numbers depend on
MARK = "run.json"  # every export holds it
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--seed", {"type": int, "default": 0, "help": "seed of the samples and of the problems' order"}),
    ("--data", {"type": str | None, "default": None, "help": "prepared problems, data/<model> if not given"}),
    (
        "--out",
        {"type": str | None, "default": None, "help": "export, runs/train/<model>/<algorithm>/<seed> if not given"},
    ),
    ("--plan", {"action": "store_true", "help": "only say what the run would take: memory by part, tokens, time"}),
    (
        "--devices",
        {"type": int | None, "default": None, "help": "with --plan: GPUs a node, trainer.devices if not given"},
    ),
    ("--json", {"action": "store_true", "help": "with --plan: for machines"}),
]


def check_machine(trainer: TrainerConfig, train: TrainConfig, model: str) -> None:
    """Refuse what this machine or these settings cannot run, before anything is loaded.

    Raises:
        UserError: too few GPUs, or GPUs too small; more processes than the strategy has; problems that do not divide.
    """
    import torch

    if trainer.gpu_gib:
        have = [torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(torch.cuda.device_count())]
        if len(have) < trainer.devices or min(have, default=0) < 0.95 * trainer.gpu_gib:
            found = f"{len(have)} with {min(have):.0f} GiB" if have else "none"
            raise UserError(
                f"--model {model} needs {trainer.devices} CUDA GPUs of {trainer.gpu_gib} GiB a node, and this "
                f"machine has {found}: run it where they are, set trainer.devices and trainer.gpu_gib to what fits "
                "your GPUs, or use --model tiny"
            )
    check_deal(trainer, train)


def check_deal(trainer: TrainerConfig, train: TrainConfig) -> None:
    """Raise a `UserError` for more processes than the strategy has, or problems that do not divide among them."""
    world = trainer.devices * trainer.nodes
    if trainer.strategy == "single" and world > 1:
        raise UserError(f"trainer.strategy single runs 1 process, not {world}: use ddp or deepspeed_zero2")
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


def fingerprint(run: Run, base: str, data: Path) -> str:
    """Hash of all that a run's numbers depend on: settings, seed, problems, starting weights, code."""
    digest = hashlib.sha256(run.config.fingerprint(*SECTIONS).encode())
    digest.update(f"{run.algorithm} {run.options['seed']} {base}".encode())
    package = Path(__file__).parent
    code = [path for path in sorted(package.rglob("*.py")) if "report" not in path.relative_to(package).parts[0]]
    weights = sorted(Path(base).glob("*.safetensors")) if Path(base).is_dir() else []
    for path in [data / "train.jsonl", *weights, *code]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def global_rank() -> int:
    """This process's rank, by whichever launcher started it: torchrun, SLURM, or Lightning itself."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((int(rank) for rank in ranks if rank is not None), 0)


def train(run: Run) -> Path:
    """Train and export; resumes by itself. Returns the export's folder."""
    config, seed = run.config, int(run.options["seed"])
    check_sampling(config.rollout)
    check_machine(config.trainer, config.train, run.model)
    data = Path(run.options["data"] or f"data/{run.model}")
    out = Path(run.options["out"] or f"runs/train/{run.model}/{run.algorithm}/{seed}")
    check_output(out, MARK)

    from replication.data.prepared import read_benchmarks, read_train

    problems = read_train(data)
    heldout = next(iter(read_benchmarks(data, None).values())) if config.train.validate_every else []

    from replication.policy import base_policy, load_policy, save_policy, use_machine

    base, revision = base_policy(config.policy, run.model)
    use_machine(config.policy)
    policy, tokenizer = load_policy(base, revision)

    import lightning.pytorch as L

    from replication.data.module import ProblemModule
    from replication.training.module import E3RLModule
    from replication.training.trainer import build_trainer, last_checkpoint

    if config.trainer.gradient_checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    print_ = fingerprint(run, base, data)
    scratch = Path(".scratch/train") / run.model / run.algorithm / f"{seed}-{print_}"
    with locked(scratch) if global_rank() == 0 else nullcontext():
        validation = heldout[: config.train.validate_problems]
        module = E3RLModule(config, policy.train(), tokenizer, problems, seed, validation)
        t = config.train
        stream = ProblemModule(len(problems), t.steps, t.prompts, t.minibatches, seed)
        trainer: L.Trainer = build_trainer(config, scratch)
        checkpoint = last_checkpoint(scratch)
        if checkpoint is not None and trainer.is_global_zero:
            print(f"resuming from {checkpoint}")
        trainer.fit(module, stream, ckpt_path=checkpoint, weights_only=False)
        if len(module.history) < t.steps:
            raise UserError(f"stopped after {len(module.history)} of {t.steps} steps: run the same command to go on")
        if trainer.is_global_zero:
            _export(run, module, out, base, revision, save_policy)
            shutil.rmtree(scratch / "checkpoints", ignore_errors=True)  # the logs stay
    return out


def plan(run: Run) -> str:
    """What the run would take, as text or JSON; needs no data, weights, GPU or network."""
    config, devices = run.config, run.options["devices"]
    if devices is not None:
        require(devices > 0, "devices", devices, "a positive whole number")
        config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, devices=devices))
    check_sampling(config.rollout)
    check_deal(config.trainer, config.train)

    from replication.policy import use_machine
    from replication.training.plan_page import findings, page, plan_of

    use_machine(config.policy)  # whose threads the CPU's speed is measured with
    planned = plan_of(config)
    found = findings(planned, run.model)
    return json.dumps(found, indent=2) if run.options["json"] else page(found, planned)


def _export(run: Run, module: Any, out: Path, base: str, revision: str | None, save_policy: Any) -> None:
    """The trained policy as a plain checkpoint, with the run's settings and history; complete or not there."""
    settings = {section: dataclasses.asdict(getattr(run.config, section)) for section in (*SECTIONS, "grading")}
    record = {
        "model": run.model,
        "algorithm": run.algorithm,
        "seed": run.options["seed"],
        "base": base,
        "revision": revision,
    }
    with output_folder(out, MARK) as new:
        save_policy(module.policy, module.tokenizer, new)
        (new / "run.json").write_text(json.dumps({**record, "settings": settings}, indent=2) + "\n")
        (new / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in module.history))


def main() -> None:
    run = load_run(
        [*SECTIONS, "grading"], options=OPTIONS, description="Train a policy and export it as a plain checkpoint."
    )
    if run.options["plan"]:
        return print(plan(run))
    for flag in ("devices", "json"):
        if run.options[flag]:
            raise UserError(
                f"--{flag} is for --plan" + (": a run takes --trainer.devices" if flag == "devices" else "")
            )
    out = train(run)
    if global_rank() == 0:
        rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
        last = rows[-5:]
        reward = sum(row["reward"] for row in last) / len(last)
        print(f"reward {reward:.3f} over the last {len(last)} of {len(rows)} steps -> {out}")


if __name__ == "__main__":
    run_command(main)
