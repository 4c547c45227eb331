"""A real run: SmolLM2-135M on grade-school sums, as many steps of two algorithms as the time gives, by the package's
own commands; accuracy sampled plainly and with erasing, before and after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.gpu import sums
from experiments.gpu.device import free, place
from experiments.gpu.groups import Setting
from experiments.gpu.lesson import teach
from experiments.gpu.machine import ROOT
from experiments.gpu.rows import Rows, Skipped
from experiments.tiny_models import tiny_model
from experiments.training.step import python_path
from replication.cli import read_params
from replication.config import ErasureConfig, RolloutConfig
from replication.evaluation.run import uncertainties
from replication.loading import load_policy
from replication.policy import save_policy, small_tokenizer
from replication.rollout.policy import Policy
from replication.training.resume import last_checkpoint

LESSON = 10  # steps, after which it was right in 13 of 32 on a CPU
ALGORITHMS = "e3rl_contrastive_absolute", "grpo"
RULE = {"uncertainty": "surprisal", "window": 8, "baseline": "fixed", "growth": 0.0, "history": 0.0, "cap": 3}
SPARE = 20.0  # seconds for a last step, its checkpoint, and the policy that is made of it
STEP = "reward="  # what the progress bar says once a step is done


@dataclass(frozen=True)
class Size:
    """How much is sampled."""

    train: int
    heldout: int
    erased: float  # share of the untrained policy's segments that lie above the level
    sections: dict[str, Any]

    @property
    def rollout(self) -> RolloutConfig:
        return RolloutConfig(**self.sections["rollout"])


LARGE = Size(
    2048,
    128,
    0.25,
    {
        "rollout": {"group_size": 8, "segments": 5, "segment_tokens": 8, "max_rows": 512},
        "train": {"prompts": 16, "minibatches": 2, "micro_rows": 64, "lr": 2e-5, "steps": 100_000,
                  "checkpoint_every": 100_000, "max_silent_steps": 0},
        "evaluate": {"samples": 8},
    },
)  # fmt: skip
TINY = Size(
    8,
    4,
    0.5,
    {
        "rollout": {"group_size": 4, "segments": 2, "segment_tokens": 4, "max_rows": 8},
        "train": {"prompts": 2, "minibatches": 1, "micro_rows": 8, "lr": 1e-3, "steps": 100_000,
                  "checkpoint_every": 100_000, "max_silent_steps": 0},
        "evaluate": {"samples": 2},
        "grading": {"workers": 1, "max_no_answer": 1.0},
    },
)  # fmt: skip
MACHINE = {
    "policy": {"dtype": "float32"},
    "trainer": {"strategy": "single", "precision": "32", "logger": "none"},
    "grading": {"max_no_answer": 1.0, "max_timed_out": 1.0},
}


@dataclass(frozen=True)
class Work:
    """A folder in which the commands run, and what all of them are told."""

    folder: Path
    data: Path
    model: Path

    def command(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command of the package; what it prints goes to <name>.log."""
        told = ["--model", str(self.model), "--params", "params.yaml", "--data", str(self.data), *argv]
        with self.log(name).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"replication.{name}", *told],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": python_path(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, name: str) -> Path:
        """What a command has printed last."""
        return self.folder / f"{name}.log"

    def check(self, name: str, code: int, wanted: int) -> None:
        """Raise an error with a command's last words where it ended otherwise than it should."""
        if code != wanted:
            text = self.log(name).read_text(errors="replace").strip()
            print(text[-4000:])
            raise RuntimeError(f"replication.{name} ended with exit code {code}: {text.splitlines()[-1:]}")


def run(rows: Rows, setting: Setting) -> None:
    """Evaluate, train for half of the time each, evaluate."""
    size, ends = (TINY if setting.tiny else LARGE), time.monotonic() + setting.seconds
    work = Work(setting.scratch, setting.out / "sums", setting.scratch / "base")
    problems = sums.write(work.data, size.train, size.heldout)
    model, tokenizer = start(rows, setting, problems)
    save_policy(model, tokenizer, work.model)
    level = level_of(model, tokenizer, problems[:16], size)
    rows.add(
        "level of the erasure", level, "nats", note=f"{size.erased:.0%} of the untrained policy's segments lie above"
    )
    del model
    free()
    (work.folder / "params.yaml").write_text(yaml.safe_dump(settings(size, level)))
    began = time.monotonic()
    evaluated(rows, work, "untrained", None)
    evaluation = spent(began)
    each = (ends - time.monotonic()) / len(ALGORITHMS) - 1.2 * evaluation - SPARE
    for algorithm in ALGORITHMS:
        policy = trained(rows, work, algorithm, 0 if setting.tiny else each)
        evaluated(rows, work, algorithm, policy)


def start(rows: Rows, setting: Setting, problems: list[Any]) -> tuple[Any, Any]:
    """The untrained policy, after its lesson; without SmolLM2 a tiny one, where the shapes are tiny."""
    if setting.smollm2 is not None:
        model, tokenizer = load_policy(str(setting.smollm2))
    elif setting.tiny:
        model, tokenizer = tiny_model("qwen3"), small_tokenizer()
    else:
        raise Skipped("no weights were given: --smollm2 names the folder that experiments/smollm2.py writes")
    steps = 2 if setting.tiny else LESSON
    losses = teach(model.to(place()), tokenizer, problems, steps)
    rows.add("lesson: loss", losses[-1], "nats", note=f"{losses[0]:.3g} before; {steps} steps on worked sums")
    return model, tokenizer


def level_of(model: Any, tokenizer: Any, problems: list[Any], size: Size) -> float:
    """The threshold that this share of the segments lies above, which the policy writes plainly."""
    rule, writer = ErasureConfig(**RULE), Policy.of(model, tokenizer)
    keys = list(range(len(problems) * size.rollout.group_size))
    done = writer.roll_out(problems, keys, size.rollout, replace(rule, fraction=0.0))
    return float(uncertainties(done, rule).nanquantile(1 - size.erased))


def settings(size: Size, level: float) -> dict[str, Any]:
    """A settings file: the algorithms as params.yaml has them, but for the level, which is the policy's."""
    known = read_params(ROOT / "params.yaml")["algorithms"]
    algorithms = {name: json.loads(json.dumps(known[name])) for name in ALGORITHMS}
    algorithms[ALGORITHMS[0]]["erasure"]["level"] = level
    custom = {**MACHINE, **size.sections, "erasure": {**RULE, "level": level}}
    return {"algorithms": algorithms, "models": {"custom": custom}}


def evaluated(rows: Rows, work: Work, name: str, policy: Path | None) -> None:
    """The accuracy on held-out sums, in both modes."""
    out = work.folder / f"{name}-samples"
    which = ["--checkpoint", str(policy)] if policy else []
    work.check("evaluate", work.command("evaluate", "--out", str(out), *which).wait(), 0)
    for mode, found in json.loads((out / "metrics.json").read_text())["heldout"].items():
        note = f"{found['problems']} problems x {found['samples']}; {found['tokens']:.0f} tokens a sample, "
        note += f"{found['erased_tokens']:.0f} of them erased; no answer in {found['no_answer']:.0%}"
        rows.add(f"{name}, {mode}: accuracy", found["avg"], "share", note=note)


def spent(began: float) -> float:
    """Seconds since then."""
    return time.monotonic() - began


def trained(rows: Rows, work: Work, algorithm: str, seconds: float) -> Path:
    """Train for so many seconds, but at least for a step, and save the policy; it is stopped as SLURM stops it."""
    began, log = time.monotonic(), work.log("fit")
    process = work.command("fit", "--algorithm", algorithm, "--out", algorithm)
    while process.poll() is None and (spent(began) < seconds or STEP not in log.read_text(errors="replace")):
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    work.check("fit", process.wait(), 128 + signal.SIGUSR1)
    note = f"in {spent(began):.0f} s with its start and a checkpoint; stopped by SIGUSR1"
    checkpoint = last_checkpoint(work.folder / ".scratch/train" / algorithm)
    assert checkpoint is not None
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    history = saved["history"]
    rows.add(f"{algorithm}: steps", len(history), note=note)
    rows.add(f"{algorithm}: reward of the first step", history[0]["reward"])
    last = history[-5:]
    rows.add(f"{algorithm}: reward of the last steps", sum(row["reward"] for row in last) / len(last))
    apart = max(row["mismatch"] for row in history)
    rows.add(f"{algorithm}: sampler against trainer", apart, "nats", "<= 1e-3", "the largest of the steps, float32")
    policy, tokenizer = load_policy(str(work.model))
    policy.load_state_dict({name.removeprefix("policy."): weight for name, weight in saved["state_dict"].items()})
    save_policy(policy, tokenizer, work.folder / f"{algorithm}-policy")
    return work.folder / f"{algorithm}-policy"
