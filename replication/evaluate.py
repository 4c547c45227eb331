"""`python -m replication.evaluate --model tiny --checkpoint runs/train/tiny/e3rl/0`: Avg@k and Pass@k of a policy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from replication.cli import load_run
from replication.errors import UserError, run_command
from replication.outputs import check_output, output_folder

MARK = "samples.jsonl"  # every evaluation holds it


def algorithm_and_seed(checkpoint: str | None) -> str:
    """Where the results of a policy belong: `<algorithm>/<seed>` of the run that exported it."""
    if checkpoint is None:
        return "untrained/0"
    record = Path(checkpoint) / "run.json"
    if not record.exists():
        raise UserError(f"--checkpoint {checkpoint} holds no run.json of `replication.fit`: name --out as well")
    try:
        run = json.loads(record.read_text())
        return f"{run['algorithm']}/{run['seed']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"{record} is not a record of `replication.fit`: restore it, or name --out as well") from None


def main() -> None:
    run = load_run(
        ["policy", "rollout", "erasure", "evaluate"],
        options=[
            (
                "--checkpoint",
                {"type": str | None, "default": None, "help": "policy to evaluate, the untrained one if not given"},
            ),
            ("--data", {"type": str | None, "default": None, "help": "prepared problems, data/<model> if not given"}),
            (
                "--out",
                {
                    "type": str | None,
                    "default": None,
                    "help": "folder, by model, algorithm and seed if not given",
                },
            ),
        ],
        description="Sample a policy on the benchmarks, erasure off and on, and grade it.",
    )
    config = run.config
    out = Path(run.options["out"] or f"runs/evaluate/{run.model}/{algorithm_and_seed(run.options['checkpoint'])}")
    check_output(out, MARK)
    from replication.data.prepared import read_benchmarks

    names = config.evaluate.benchmarks or None
    benchmarks = read_benchmarks(Path(run.options["data"] or f"data/{run.model}"), names)

    from tqdm import tqdm

    from replication.evaluation.run import evaluate_benchmark
    from replication.evaluation.samples import summarise
    from replication.grading.pool import Grader
    from replication.policy import base_policy, load_policy, use_machine

    if run.options["checkpoint"] is not None:
        path, revision = run.options["checkpoint"], None
        if not Path(path).is_dir():
            raise UserError(f"--checkpoint {path}: there is no such folder; train it with `python -m replication.fit`")
    else:
        path, revision = base_policy(config.policy, run.model)
    model, tokenizer = load_policy(path, revision, config.policy.dtype)
    model.to(use_machine(config.policy))
    if config.evaluate.problems:
        benchmarks = {name: problems[: config.evaluate.problems] for name, problems in benchmarks.items()}
    total = sum(map(len, benchmarks.values())) * config.evaluate.samples * len(config.evaluate.modes)
    samples = []
    with Grader() as grader, tqdm(total=total, desc="evaluate", unit="sample", mininterval=2) as bar:
        for name, problems in benchmarks.items():
            settings = (config.rollout, config.erasure, config.evaluate, config.policy.thinking)
            samples += evaluate_benchmark(model, tokenizer, name, problems, *settings, grader, bar.update)
    rows = [dataclasses.asdict(sample) for sample in samples]
    metrics = summarise(rows)
    with output_folder(out, MARK) as new:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (new / "samples.jsonl").write_text(text, encoding="utf-8")
        (new / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    for name, modes in metrics.items():
        for mode, m in modes.items():
            auc = "undefined" if m["auc"] is None else f"{m['auc']:.2f}"
            print(
                f"{name} {mode}: Avg@{m['samples']:.0f} {m['avg']:.3f}, Pass@{m['samples']:.0f} {m['pass']:.3f}, "
                f"{m['tokens']:.1f} tokens a sample of which {m['erased_tokens']:.1f} erased, "
                f"AUC of U for wrong samples {auc}"
            )
    print(f"-> {out}")


if __name__ == "__main__":
    run_command(main)
