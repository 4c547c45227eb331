"""`python -m replication.fit --model tiny|4b|8b|<folder or hub id> --algorithm e3rl`: train a policy, export it.

Killed at any moment, the same command goes on from the last checkpoint, on a CPU to the same numbers. With `--plan` no
weights are read and none are trained: it says what the run would take.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from replication.cli import Run, check_start, data_of, load_run
from replication.depends import TRAINING, code_of, engine_version, files_of
from replication.errors import UserError, require, run_command
from replication.launch import global_rank, local_rank
from replication.outputs import EXPORT_MARK, check_output, locked, run_folder
from replication.training.machine import check_gpus, check_settings, training_dtype

SECTIONS = ["policy", "rollout", "erasure", "credit", "objective", "train", "trainer"]  # what the numbers depend on
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--seed", {"type": int, "default": 0, "help": "seed of the samples and of the problems' order"}),
    ("--data", {"type": str | None, "default": None, "help": "prepared problems, data/<model> if not given"}),
    (
        "--out",
        {
            "type": str | None,
            "default": None,
            "help": "export; if not given runs/train/<model>/<algorithm>/<seed>, and with other settings or data than "
            "params.yaml's runs/hand/train/<model>/<algorithm>/<seed>/<hash>, so that it is not the pipeline's",
        },
    ),
    ("--fresh", {"action": "store_true", "help": "drop the checkpoints of an unfinished run, and start anew"}),
    (
        "--accept",
        {
            "type": Literal["code"] | None,
            "default": None,
            "help": "`code`: go on from a checkpoint that other code of the package has made, and note it in run.json",
        },
    ),
    (
        "--plan",
        {
            "action": "store_true",
            "help": "only say what the run would take: memory by part, tokens, time; exit code 1 if it does not fit",
        },
    ),
    (
        "--devices",
        {"type": int | None, "default": None, "help": "with --plan: GPUs a node, trainer.devices if not given"},
    ),
    ("--json", {"action": "store_true", "help": "with --plan: for machines"}),
]


def identity_of(run: Run, base: str, data: Path) -> dict[str, Any]:
    """All that a run's numbers depend on: settings, seed, problems, starting weights, code."""
    import torch
    import transformers

    from replication.training.resume import identity

    about = {"algorithm": run.algorithm, "seed": run.options["seed"], "base": base}
    about |= {"torch": torch.__version__, "transformers": transformers.__version__}
    about |= engine_version(run.config.rollout.engine)
    problems = [
        data / "train.jsonl",
        *(sorted(data.glob("benchmarks/*.jsonl")) if run.config.train.validate_every else []),
    ]
    files = {"problems": problems, "starting policy": files_of(base), "code": code_of(TRAINING)}
    return identity(run.config, [*SECTIONS, "grading"], about, files)


def scratch_of(out: Path) -> Path:
    """Where a run keeps its checkpoints and logs until its export is written."""
    here = Path.cwd()
    whole = Path(os.path.normpath(out.absolute()))
    return Path(".scratch/train") / (whole.relative_to(here) if whole.is_relative_to(here) else str(whole).lstrip("/"))


def out_of(run: Run) -> Path:
    """Where the export goes: to --out, or by what the numbers depend on."""
    from replication.training.resume import counted

    if run.options["out"]:
        return Path(run.options["out"])
    data = f"data/{run.model}"
    made_with, filed = (counted(config, [*SECTIONS, "grading"]) for config in (run.config, run.filed))
    made_with |= {"data": os.path.relpath(run.options["data"] or data), "params": run.params}
    filed |= {"data": data, "params": "params.yaml"}
    return run_folder("train", f"{run.model}/{run.algorithm}/{run.options['seed']}", made_with, filed)


def train(run: Run) -> tuple[Path, float]:
    """Train and export; resumes by itself.

    Returns:
        The export's folder, and how far it is from the trained policy in nats a token (nan but on the first process).
    """
    config, seed = run.config, int(run.options["seed"])
    check_settings(config)
    check_gpus(config.trainer, run.asked)
    out = out_of(run)
    check_output(out, EXPORT_MARK)
    data = data_of(run)
    check_start(run)

    from replication.data.prepared import read_benchmarks, read_train

    problems = read_train(data)
    heldout = []
    if config.train.validate_every:
        heldout = next(iter(read_benchmarks(data_of(run, "benchmarks/*.jsonl")).values()))
    validation = heldout[: config.train.validate_problems]
    if config.train.validate_every and len(validation) < config.trainer.devices * config.trainer.nodes:
        raise UserError(
            f"{len(validation)} problems of a validation are fewer than the processes: raise train.validate_problems"
        )

    import torch

    from replication.data.template import check_lengths, prompt_ids
    from replication.loading import eos_ids, load_policy
    from replication.policy import base_policy, recompute_activations, use_machine
    from replication.rollout.builtin.decoder import TorchEngine
    from replication.training.agreement import check_policy

    base, revision = base_policy(config.policy, run.model)
    use_machine(config.policy)
    policy, tokenizer = load_policy(base, revision, training_dtype(config.trainer))
    if config.trainer.kernels == "liger":
        from replication.training.kernels import use_liger  # its package is an extra

        use_liger(policy)
    check_lengths(tokenizer, [*problems, *validation], config.policy.thinking, TorchEngine(policy).room(config.rollout))
    prompt = prompt_ids(tokenizer, problems[0].question, config.policy.thinking)
    device = torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    check_policy(policy.to(device), config, prompt, eos_ids(policy, tokenizer), tokenizer.pad_token_id)
    policy.cpu()  # the strategy says where it goes

    import lightning.pytorch as L

    from replication.data.module import ProblemModule
    from replication.training import resume
    from replication.training.disk import check_disk
    from replication.training.export import export_run
    from replication.training.keep import BEST, chosen, clear, export_checkpoint
    from replication.training.module import E3RLModule
    from replication.training.trainer import build_trainer

    if config.policy.lora_rank:
        from replication.training.lora import add_adapters  # peft takes seconds to import

        add_adapters(policy, config.policy, seed)
    if config.trainer.gradient_checkpointing:
        recompute_activations(policy)
    scratch, fresh = scratch_of(out), run.options["fresh"]
    first, difference = global_rank() == 0, math.nan
    with locked(scratch) if first else nullcontext():
        if first:
            if fresh:
                shutil.rmtree(scratch / resume.CHECKPOINTS, ignore_errors=True)
            resume.begin(scratch, identity_of(run, base, data), accept=run.options["accept"])
            for name in resume.drop_damaged(scratch):
                print(f"{name} is no longer whole: it is dropped")
            check_disk(config, scratch, out, policy)
        checkpoint = None if fresh else resume.last_checkpoint(scratch)
        module = E3RLModule(config, policy, tokenizer, problems, seed, validation)
        t = config.train
        stream = ProblemModule(len(problems), t.steps, t.prompts, t.minibatches, seed)

        def export() -> None:
            nonlocal difference
            elsewhere = f"`mv {shlex.quote(str(scratch))} {scratch_of(Path('NAME'))}` and run it with --out NAME"
            remedy = f"its checkpoints stay: make room there and run the same command, or {elsewhere}"
            record = record_of(run, base, revision) | (resume.accepted(scratch) if first else {})
            difference = export_run(record, module, data, out, remedy)
            if t.keep == "best":
                export_checkpoint(chosen(scratch, "best"), record, config, module.history, data, out / BEST)
            clear(scratch, t.keep)  # the logs stay

        trainer: L.Trainer = build_trainer(config, scratch, export)
        if checkpoint is not None and trainer.is_global_zero:
            print(f"resuming from {checkpoint}")
        trainer.fit(module, stream, ckpt_path=checkpoint, weights_only=False)
        if len(module.history) < t.steps:
            raise UserError(f"stopped after {len(module.history)} of {t.steps} steps: run the same command to go on")
    return out, difference


def plan(run: Run) -> None:
    """Print what the run would take, as text or JSON, and leave with exit code 1 if it does not fit.

    Needs no data, weights, GPU or network.
    """
    config, devices = run.config, run.options["devices"]
    if devices is not None:
        require(devices > 0, "devices", devices, "a positive whole number")
        config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, devices=devices))
    check_settings(config)

    from replication.planning.page import findings, page, plan_of, times, times_page
    from replication.policy import use_machine

    use_machine(config.policy)  # whose threads the CPU's speed is measured with
    planned = plan_of(config)
    found = findings(planned, run.model)
    if run.options["json"]:
        print(json.dumps(found | times(planned, found["fits"]), indent=2))
    else:
        print(page(found, planned), flush=True)  # the time may take a while: a CPU is timed
        print(times_page(times(planned, found["fits"]), config.train.steps))
    if not found["fits"]:
        sys.exit(1)


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
    if run.options["plan"]:
        return plan(run)
    for flag, instead in (("devices", ": a run takes --trainer.devices"), ("json", "")):
        if run.options[flag]:
            raise UserError(f"--{flag} is for --plan{instead}")
    out, difference = train(run)
    if global_rank() == 0:
        from replication.training.card import last_reward
        from replication.training.keep import BEST, kept_checkpoint

        rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
        reward, last = last_reward(rows)
        print(
            f"reward {reward:.3f} over the last {last} of {len(rows)} steps, the export differs from the policy by "
            f"{difference:.1e} nats a token -> {out}"
        )
        if run.config.train.keep != "none":
            policy = f"; its policy: {out / BEST}" if run.config.train.keep == "best" else ""
            print(f"the {run.config.train.keep} checkpoint: {kept_checkpoint(scratch_of(out))}{policy}")


if __name__ == "__main__":
    run_command(main)
