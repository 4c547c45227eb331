"""A training step beside TRL's GRPOTrainer: GRPO on the same prompts, model, group, lengths, minibatches and machine.

    python -m experiments.training.step --trl .venv-oracle/bin/python [--smollm2 runs/smollm2] -> reports/training.json

What it should show: at least 1.5 times TRL's completion tokens a second; where not, the seconds of each part say why.
No token ends a completion, so that both make the same number; float32 on the CPU; the reward is trivial in both: ours
grades by the real grader first, and throws its verdicts away (the warm-started tiny model answers in plain numbers).
A rate is of the least time of a step after the first, over rounds in which the two take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from experiments.decoding.bench import Table
from experiments.training import measure
from experiments.training.clock import Clock, settle
from experiments.training.plan import SECTIONS
from experiments.training.table import store
from replication.cli import load_run
from replication.config import Config
from replication.data.template import INSTRUCTION, prompt_ids
from replication.errors import Parser, UserError, run_command
from replication.loading import load_policy
from replication.rollout.policy import Policy
from replication.rollout.trace import Rollout
from replication.training.module import E3RLModule
from replication.training.sampler import Sampler

FLAGS = "--algorithm grpo --trainer.logger none --grading.max_no_answer 1 --train.checkpoint_every 1000000"
SMOLLM2 = (
    "--train.prompts 2 --rollout.group_size 4 --rollout.segments 1 --rollout.segment_tokens 64 --rollout.max_rows 8 "
    "--train.minibatches 1 --train.micro_rows 8"
)
WANTED = ">= 1.5"


@dataclass
class Case:
    """A line of the comparison: a model and the settings beyond its own."""

    name: str
    model: str  # whose settings they are: a name of params.yaml, or a folder
    folder: Path  # of the checkpoint
    flags: str
    steps: int
    threads: int

    def config(self) -> Config:
        argv = f"--model {self.model} {FLAGS} --train.steps {self.steps} {self.flags}"
        return load_run(SECTIONS, argv.split()).config


def cases(tiny: Path, smollm2: Path | None, threads: Sequence[int]) -> list[Case]:
    """TRL scores the completions once more where there are several updates on them, and not where there is one."""
    found = [("tiny, 2 updates", "tiny", tiny, "", 5), ("tiny, 1 update", "tiny", tiny, "--train.minibatches 1", 5)]
    if smollm2 is not None:
        found.append(("SmolLM2-135M, 1 update", str(smollm2), smollm2, SMOLLM2, 3))
    return [Case(*case, count) for case in found for count in threads]


def longest(config: Config) -> int:
    return config.rollout.segments * config.rollout.segment_tokens


def parity(grade: Callable[..., Any], sampler: Any, rollout: Rollout, problems: Any, prefix: str = "") -> torch.Tensor:
    """The trivial reward, [P, G]; the completions are graded, and the verdicts thrown away."""
    grade(sampler, rollout, problems, prefix)
    return ((rollout.tokens * rollout.mask).sum(1) % 2).float().view(len(problems), -1)


def ours(config: Config, policy: Any, tokenizer: Any) -> dict[str, Any]:
    """Steps through Lightning, by the code that `fit` runs: seconds by step and part, tokens, losses."""
    clock, tokens, losses = Clock(settle), [], []
    roll_out, step = Policy.roll_out, E3RLModule.training_step

    def sample(*args: Any) -> Any:
        done = roll_out(*args)
        tokens.append(int(done.length.sum()))
        return done

    def stepped(module: Any, *args: Any) -> None:
        step(module, *args)
        losses.append(module.history[-1]["loss"])
        clock.tick()

    parts = [
        (Policy, "roll_out", "rollout", sample),
        (Sampler, "_grade", "grading", partial(parity, Sampler._grade)),
        (E3RLModule, "forward", "forward", E3RLModule.forward),
        (E3RLModule, "manual_backward", "backward", E3RLModule.manual_backward),
        (torch.optim.AdamW, "step", "optimizer", torch.optim.AdamW.step),
    ]
    with ExitStack() as patches:
        for owner, name, part, work in parts:
            patches.enter_context(mock.patch.object(owner, name, clock.wrap(part, work)))
        patches.enter_context(mock.patch.object(E3RLModule, "training_step", stepped))
        measure.run_steps(config, policy, tokenizer)
    return {"steps": clock.steps, "tokens": tokens, "losses": losses}


def setting(case: Case, config: Config, tokenizer: Any) -> dict[str, Any]:
    """What TRL is to do, in its own words."""
    t = config.train
    questions = [f"{problem.question}\n\n{INSTRUCTION}" for problem in measure.problems_of(config)]
    chat = tokenizer.chat_template is not None
    return {
        "model": str(case.folder.absolute()),
        "prompts": [[{"role": "user", "content": q}] if chat else f"{q}\n\n" for q in questions],
        "prompts_a_step": t.prompts,
        "group": config.rollout.group_size,
        "cap": longest(config),
        "updates": t.minibatches,
        "micro": t.micro_rows,
        "steps": t.steps,
        "lr": t.lr,
        "grad_clip": t.grad_clip,
        "threads": case.threads,
    }


def python_path(root: Path) -> str:
    """Where a command finds this checkout, and what this process finds."""
    return os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))


def theirs(python: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The same by TRL, in its own process and environment."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "setting.json"
        path.write_text(json.dumps(settings))
        env = {
            **os.environ,
            "PYTHONPATH": python_path(root),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(settings["threads"]),
        }
        command = [python, "-m", "experiments.training.trl_step", str(path)]
        done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def check(config: Config, tokenizer: Any, mine: dict[str, Any], trl: dict[str, Any]) -> None:
    """The two did the same work: prompts, tokens; and the first loss is that of ratio 1 in both, near 0."""
    prompts = sorted({tuple(prompt_ids(tokenizer, p.question)) for p in measure.problems_of(config)})
    tokens = config.train.prompts * config.rollout.group_size * longest(config)
    assert [tuple(p) for p in trl["prompts"]] == prompts, "TRL's prompts are others"
    assert mine["tokens"] == trl["tokens"] == [tokens] * config.train.steps, (mine["tokens"], trl["tokens"])
    assert len(mine["steps"]) == len(trl["steps"]) == config.train.steps
    assert trl["cache"] is not False
    assert abs(mine["losses"][0]) < 0.2 and abs(trl["losses"][0]) < 0.2, (mine["losses"], trl["losses"])


def spelled(step: dict[str, float]) -> str:
    """`rollout 1.20 forward 0.40 ...`, seconds."""
    return " ".join(f"{part} {seconds:.2f}" for part, seconds in step.items() if part != "step" and seconds >= 0.005)


def compare(table: Table, case: Case, python: str, rounds: int) -> None:
    """Add the row of a case."""
    config = case.config()
    tokens = config.train.prompts * config.rollout.group_size * longest(config)
    before, best = torch.get_num_threads(), {}
    for _ in range(rounds):
        policy, tokenizer = load_policy(str(case.folder))
        torch.set_num_threads(case.threads)
        mine = ours(config, policy, tokenizer)
        trl = theirs(python, setting(case, config, tokenizer))
        check(config, tokenizer, mine, trl)
        for who, found in (("ours", mine), ("TRL", trl)):
            later = found["steps"][1:] + ([best[who]] if who in best else [])
            best[who] = min(later, key=lambda step: step["step"])
    torch.set_num_threads(before)
    rates = [tokens / best[who]["step"] for who in ("ours", "TRL")]
    note = "; ".join(f"{who} {found['step']:.2f} s: {spelled(found)}" for who, found in best.items())
    name = f"step, {case.name}, {case.threads} thread{'s' * (case.threads > 1)}"
    table.add(name, *rates, "tokens/s", WANTED, f"{note}; first losses {mine['losses'][0]:.1e}, {trl['losses'][0]:.1e}")


def main() -> None:
    parser = Parser(prog="python -m experiments.training.step", description=__doc__)
    parser.add_argument(
        "--trl", required=True, help="Python of an environment with TRL 1.16.0, as make oracle makes it"
    )
    parser.add_argument("--tiny", type=Path, default=Path("runs/warmstart/tiny"), help="the warm-started tiny model")
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M, by experiments/smollm2.py")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="2 crawls where a core is busy")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--out", type=Path, default=Path("reports/training.json"), help="file whose rows are replaced")
    options = parser.parse_args()
    if not Path(options.trl).exists():
        raise UserError(f"--trl {options.trl} does not exist: make oracle makes .venv-oracle/bin/python")
    for folder, instead in (
        (options.tiny, "python -m replication.warmstart"),
        (options.smollm2, "experiments/smollm2.py"),
    ):
        if folder is not None and not (folder / "config.json").exists():
            raise UserError(f"{folder} holds no model: {instead} makes it")
    table = Table()
    print(f"{'':56s} {'ours':>11s} {'TRL':>11s} {'ratio':>7s}  wanted")
    for case in cases(options.tiny, options.smollm2, options.threads):
        if options.only in case.name:
            compare(table, case, options.trl, options.rounds)
            store(options.out, table.rows, trl="1.16.0")  # each as it comes: all take minutes
    print(f"-> {options.out}")


if __name__ == "__main__":
    run_command(main)
