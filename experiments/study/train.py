"""`python -m experiments.study.train --model study_recurrence --algorithm e3rl`: one cell of the study.

Trains the algorithm once a seed, each from a warm start of its own, and samples the result on all held-out problems
with erasure off and on, under the algorithm's own erasure settings. What it finds goes to
reports/study/<task>/<algorithm>.json. Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from experiments.study.cells import (
    SCRATCH,
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
from replication.errors import Parser, run_command

KEPT = ["generated_tokens", "groups", "reward", "reward_plain", "reward_erasable", "groups_without_signal"]
KEPT += ["erasure_rate", "entropy", "kl_step", "heldout"]


def train_seed(model: str, algorithm: str, seed: int) -> dict[str, Any]:
    """Train and sample one seed, unless an earlier, interrupted run of this command already did."""
    from replication.cli import load_run
    from replication.data.prepared import read_benchmarks
    from replication.fit import OPTIONS, SECTIONS, identity_of, train
    from replication.loading import load_policy

    run = load_run([*SECTIONS, "evaluate"], ["--model", model, "--algorithm", algorithm], OPTIONS)
    data, start, out = data_folder(model), warm_start(model, seed), SCRATCH / "exports" / model / algorithm / str(seed)
    run.config.policy.pretrained = start
    run.options.update(seed=seed, data=str(data), out=str(out))
    name = f"{model}-{algorithm}-{seed}"
    mark = code_mark(__file__, json.dumps(identity_of(run, start, data)), run.config.fingerprint("evaluate"))
    if (known := remembered(name, mark)) is not None:
        return known
    train(run)
    policy, tokenizer = load_policy(str(out))
    problems = read_benchmarks(data)["heldout"]
    found = {mode: counts(draw(policy, tokenizer, run.config, problems, mode)) for mode in ("plain", "erased")}
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    rows = [{key: round(row[key], 5) for key in ["step", *KEPT] if key in row} for row in history]
    shutil.rmtree(out)
    return remember(name, mark, {"seed": seed, "history": rows, **found})


def main() -> None:
    parser = Parser(description="Train one algorithm of the study on one task, all seeds.")
    parser.add_argument("--model", required=True, help="study_recurrence, or another study_ model of params.yaml")
    parser.add_argument("--algorithm", required=True, help="section of `algorithms` in params.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("reports/study"))
    arguments = parser.parse_args()
    model, algorithm = arguments.model, arguments.algorithm
    task = model.removeprefix("study_")
    path = arguments.out / task / f"{algorithm}.json"
    check_seeds(path, arguments.seeds)
    seeds = [train_seed(model, algorithm, seed) for seed in range(arguments.seeds)]
    write(path, {"task": task, "arm": algorithm, "samples": 16, "problems": 256, "seeds": seeds})
    plain, erased = (sum(sum(s[m]["correct"]) for s in seeds) / len(seeds) / 16 / 256 for m in ("plain", "erased"))
    print(f"{model} {algorithm}: Avg@16 plain {plain:.3f}, erased {erased:.3f}")


if __name__ == "__main__":
    run_command(main)
