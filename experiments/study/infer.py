"""`python -m experiments.study.infer --model study_recurrence --part controls`: the untrained policies, sampled.

The controls are what a sceptic asks for: lower temperatures, best-of-n and majority, beside erasing by the letter, by
the other reading of the uncertainty and by an absolute threshold. `temperatures` goes lower and higher, and erases at
low temperatures: does erasing add anything to them? The ablations are the paper's; `choices` are other values of what
the paper leaves open (docs/ledger.md). Writes
reports/study/<task>/untrained_<part>.json. Killed at any moment, the same command goes on with the next seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.study.cells import (
    check_seeds,
    code_mark,
    counts,
    data_folder,
    draw,
    remember,
    remembered,
    warm_start,
    write,
)
from replication.cli import load_run
from replication.config import Config
from replication.data.prepared import read_benchmarks
from replication.data.sources import Problem
from replication.data.tasks import TASKS
from replication.errors import Parser, run_command
from replication.evaluation.diagnostics import group_auc
from replication.evaluation.metrics import majority_at_k, pass_at_k
from replication.evaluation.samples import Sample
from replication.loading import load_policy
from replication.policy import use_machine
from replication.rollout.policy import Policy
from replication.rollout.uncertainty import segment_uncertainties
from replication.seeds import seed_for

TEMPERATURES = (0.7, 0.5, 0.3)
EXTREMES = (0.1, 1.3)
VOTES = (1, 2, 4, 8, 16)
ERASURES: dict[str, dict[str, Any]] = {  # setting -> what it changes of the letter; None takes the other reading
    "erased": {},
    "erased_other_uncertainty": {"uncertainty": None},
    "erased_no_base": {"w_base": 0.0},
    "erased_max_only": {"w_base": 0.0, "w_rise": 0.0},
    "erased_rise_only": {"w_base": 0.0, "w_max": 0.0},
    "erased_fixed": {"baseline": "fixed"},
    "erased_frequency_only": {"baseline": "fixed", "history": 0.0},
    "erased_cap_1": {"cap": 1},
    "erased_cap_3": {"cap": 3},
    "erased_batch_baseline": {"baseline": "batch"},
    "erased_floor": {"floor": 1.0},
    "erased_absolute": {"baseline": "fixed", "level": 1.5, "growth": 0.0, "history": 0.0},
}
SPLITS = {"erased_segments_short": (42, 3), "erased_segments_long": (14, 9), "erased_segments_longest": (6, 21)}
CONTROLS = ("erased", "erased_other_uncertainty", "erased_absolute")  # the other erasures are ablations
CHOICES: dict[str, dict[str, Any]] = {  # other values of what the paper leaves open, named as in arms.py
    "erased_kappa_1": {"kappa": 1.0},
    "erased_growth_0": {"growth": 0.0},
    "erased_growth_0.6": {"growth": 0.6},
    "erased_history_0": {"history": 0.0},
    "erased_history_0.3": {"history": 0.3},
    "erased_window_1": {"window": 1},
    "erased_window_8": {"window": 8},
    "erased_weights_1": {"w_max": 1.0, "w_rise": 1.0},
}


def at_temperature(config: Config, temperature: float) -> Config:
    """The settings with another sampling temperature."""
    return replace(config, evaluate=replace(config.evaluate, temperature=temperature))


def settings_of(config: Config, part: str) -> dict[str, tuple[str, Config]]:
    """Name -> (mode, settings) of everything that is sampled in a part."""
    if part == "choices":
        return {k: ("erased", replace(config, erasure=replace(config.erasure, **v))) for k, v in CHOICES.items()}
    other = "entropy" if config.erasure.uncertainty == "surprisal" else "surprisal"
    out = {"plain": ("plain", config)}
    for t in TEMPERATURES:
        out[f"temperature_{t}"] = "plain", at_temperature(config, t)
    for name, changes in ERASURES.items():
        erasure = replace(config.erasure, **{k: other if v is None else v for k, v in changes.items()})
        out[name] = "erased", replace(config, erasure=erasure)
    for name, (segments, tokens) in SPLITS.items():
        rollout = replace(config.rollout, segments=segments, segment_tokens=tokens)
        out[name] = "erased", replace(config, rollout=rollout)
    if part == "temperatures":
        return {f"temperature_{t}": ("plain", at_temperature(config, t)) for t in EXTREMES} | {
            f"{name}_temperature_{t}": ("erased", at_temperature(out[name][1], t))
            for name in ("erased", "erased_absolute")
            for t in TEMPERATURES[1:]
        }
    return {
        name: found for name, found in out.items() if (part == "controls") == (name in CONTROLS or found[0] == "plain")
    }


def votes(samples: Sequence[Sample]) -> dict[str, Any]:
    """Majority vote and best-of-n of n of the samples, means over problems."""
    answers: dict[str, list[str | None]] = {}
    right: dict[str, list[bool]] = {}
    for s in samples:
        answers.setdefault(s.problem, []).append(s.answer)
        right.setdefault(s.problem, []).append(s.verdict == "correct")
    total = torch.tensor([sum(hits) for hits in right.values()])
    drawn = len(samples) // len(total)
    rows = list(answers.values())
    majority = {
        str(k): round(float(majority_at_k(rows, torch.tensor(list(right.values())), k).mean()), 5) for k in VOTES
    }
    best = {str(k): round(float(pass_at_k(total, drawn, k).mean()), 5) for k in VOTES}
    return {"majority": majority, "best": best}


def auc(policy: Any, tokenizer: Any, config: Config, problems: Sequence[Problem], seed: int) -> dict[str, list[Any]]:
    """AUC of U for the first wrong segment, within groups of plain samples, for both readings of the uncertainty.

    Right is the worked solution, token for token: in these tasks there is one.
    """
    g, task = 16, TASKS[config.data.task]
    solutions = [tokenizer(task.solution(p.question, 0.0, random.Random(0))).input_ids for p in problems]
    keys = [seed_for(seed, "auc", p.id, i) for p in problems for i in range(g)]
    rollout = replace(config.rollout, group_size=g, max_rows=g * len(problems))
    plain = replace(config.erasure, fraction=0.0)
    done = Policy.of(policy, tokenizer).roll_out(problems, keys, rollout, plain)
    n, t = done.erasures.shape[1], done.tokens.shape[1]
    right = torch.full((len(problems), t), tokenizer.eos_token_id)
    for row, ids in enumerate(solutions):
        right[row, : len(ids)] = torch.tensor(ids)
    differs = ((done.tokens != right.repeat_interleave(g, 0)) & done.mask).float()
    segment_of = done.segment_of
    faults = torch.stack([(differs * (segment_of == i)).sum(1) for i in range(n)], 1) > 0  # [R, N]
    before = faults.cumsum(1) - faults.long()
    present = (torch.arange(n) < done.segments[:, None]) & (before == 0)
    out: dict[str, list[Any]] = {}
    for reading in ("surprisal", "entropy"):
        h, e = done.uncertainty(reading), config.erasure
        u = segment_uncertainties(h, done.start, done.segments, e.window, e.w_base, e.w_max, e.w_rise)
        found = [group_auc(u[:, i].view(-1, g), faults[:, i].view(-1, g), present[:, i].view(-1, g)) for i in range(n)]
        out[reading] = [None if value != value else round(value, 4) for value in found]
    return out


def infer_seed(model: str, part: str, seed: int) -> dict[str, Any]:
    """All settings of a part on one seed's warm start, unless an interrupted run of this command already did."""
    sections = ["data", "policy", "rollout", "erasure", "evaluate"]
    config = load_run(sections, ["--model", model]).config
    name, mark = f"{model}-untrained-{part}-{seed}", code_mark(__file__, config.fingerprint(*sections), str(seed))
    if (known := remembered(name, mark)) is not None:
        return known
    use_machine(config.policy)
    policy, tokenizer = load_policy(warm_start(model, seed))
    problems = read_benchmarks(data_folder(model))["heldout"]
    settings: dict[str, Any] = {}
    for setting, (mode, chosen) in settings_of(config, part).items():
        samples = draw(policy, tokenizer, chosen, problems, mode)
        settings[setting] = counts(samples)
        if setting == "erased" or mode == "plain":
            settings[setting] |= votes(samples)
        print(f"{model} seed {seed} {setting}: {np.mean(settings[setting]['correct']) / 16:.3f}", flush=True)
    found = {"seed": seed, "settings": settings}
    if part == "controls":
        found["auc"] = auc(policy, tokenizer, config, problems, seed)
    return remember(name, mark, found)


def main() -> None:
    parser = Parser(description="Sample the untrained policies of the study under many settings.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--part", required=True, choices=["controls", "temperatures", "ablations", "choices"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("reports/study"))
    arguments = parser.parse_args()
    task = arguments.model.removeprefix("study_")
    path = arguments.out / task / f"untrained_{arguments.part}.json"
    check_seeds(path, arguments.seeds)
    seeds = [infer_seed(arguments.model, arguments.part, seed) for seed in range(arguments.seeds)]
    write(path, {"task": task, "samples": 16, "problems": 256, "seeds": seeds})


if __name__ == "__main__":
    run_command(main)
