"""How often segments of the small default are erased, before and after its training: what the plan's AGAIN rests on.

    python -m experiments.training.erasures -> reports/erasures.json, after `make repro`

What it should show: the means are AGAIN, to a hundredth.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from experiments.training.plan import settings
from replication.data import recurrence
from replication.errors import Parser, run_command
from replication.loading import load_policy
from replication.planning.plan import AGAIN
from replication.policy import use_machine
from replication.rollout.policy import Policy
from replication.seeds import seed_for

POLICIES = "runs/warmstart/tiny", "runs/train/tiny/e3rl/0"
PROBLEMS = 64


def shares(folder: str) -> list[float]:
    """Of the segments of a policy's completions, those erased at least once, twice, three times."""
    config = settings("tiny")
    use_machine(config.policy)
    model, tokenizer = load_policy(folder)
    keys = [seed_for(0, "erasures", i) for i in range(PROBLEMS * config.rollout.group_size)]
    problems = recurrence.problems(PROBLEMS, seed=5, steps=8)
    done = Policy.of(model, tokenizer).roll_out(problems, keys, config.rollout, config.erasure)
    spent = done.erasures[torch.arange(done.erasures.shape[1]) < done.segments[:, None]]
    return [float((spent > i).float().mean()) for i in range(len(AGAIN))]


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports/erasures.json"))
    args = parser.parse_args()
    found = {folder: shares(folder) for folder in POLICIES}
    means = [sum(values) / len(values) for values in zip(*found.values(), strict=True)]
    args.out.write_text(json.dumps({**found, "mean": means, "assumed": AGAIN}, indent=2) + "\n")
    for name, values in {**found, "mean": means, "assumed": AGAIN}.items():
        print(f"{name:<26}" + "".join(f"{value:>8.3f}" for value in values))


if __name__ == "__main__":
    run_command(main)
