"""`python -m replication.evaluate --model tiny --checkpoint runs/train/tiny/e3rl/0`: the metrics of any causal LM.

Killed at any moment, the same command goes on from the last chunk of problems to the same samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replication.cli import Run, check_start, data_of, load_run
from replication.errors import UserError, run_command
from replication.outputs import GO_ON, check_output, locked, output_folder, run_folder, writing

SECTIONS = ["policy", "rollout", "erasure", "evaluate"]  # what the samples depend on
MARK = "samples.jsonl"  # every evaluation holds it
OPTIONS: list[tuple[str, dict[str, Any]]] = [
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
            "help": "folder; if not given runs/evaluate/<model>/<algorithm>/<seed>, and of what is not the "
            "pipeline's runs/hand/evaluate/<model>/<algorithm>/<seed>/<hash>",
        },
    ),
]


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
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{record} is not a record of `replication.fit`: restore it, or name --out as well") from None


def out_of(run: Run) -> Path:
    """Where the results go: to --out, or by the policy and all that they depend on."""
    if run.options["out"]:
        return Path(run.options["out"])
    checkpoint, data = run.options["checkpoint"], f"data/{run.model}"
    cell = f"{run.model}/{algorithm_and_seed(checkpoint)}"
    trained = f"runs/train/{cell}" if checkpoint else None
    made_with = [run.config.fingerprint(*SECTIONS, "grading"), run.params, os.path.relpath(run.options["data"] or data)]
    filed = [run.filed.fingerprint(*SECTIONS, "grading"), "params.yaml", data]
    policy = os.path.relpath(checkpoint) if checkpoint else None
    return run_folder("evaluate", cell, [*made_with, policy], [*filed, trained])


def fingerprint(run: Run, path: str, revision: str | None, benchmarks: dict[str, Any]) -> str:
    """Hash of all that the samples depend on: settings, problems, weights, code."""
    digest = hashlib.sha256(run.config.fingerprint(*SECTIONS).encode())
    digest.update(repr((path, revision, benchmarks)).encode())
    policy = sorted(file for file in Path(path).iterdir() if file.is_file()) if Path(path).is_dir() else []
    for source in [*policy, *sorted(Path(__file__).parent.rglob("*.py"))]:
        with source.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def finished_chunks(path: Path) -> list[list[dict[str, Any]]]:
    """What an interrupted evaluation had already sampled, a line a chunk; what follows a damaged line is dropped."""
    done = []
    with path.open("a+b") as file:
        file.seek(0)
        whole = 0
        for line in file:
            try:
                chunk = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                chunk = None
            if chunk is None:
                break
            done.append(chunk)
            whole += len(line)
        file.truncate(whole)
    return done


def check_verdicts(run: Run, rows: Sequence[dict[str, Any]], where: str) -> None:
    """Stop where too many completions of a benchmark and mode have no answer or timed out."""
    from replication.grading.rates import check_rates

    unanswered, stopped = (
        sum(row["verdict"] == verdict for row in rows) / len(rows) for verdict in ("no answer", "timed out")
    )
    check_rates(run.config.grading, len(rows), unanswered, stopped, where)


def evaluate(run: Run, out: Path) -> dict[str, Any]:
    """Sample, grade and write; resumes by itself. Returns benchmark -> mode -> metrics."""
    check_output(out, MARK)
    from replication.data.prepared import read_benchmarks

    config, checkpoint = run.config, run.options["checkpoint"]
    benchmarks = read_benchmarks(data_of(run, "benchmarks/*.jsonl"), config.evaluate.benchmarks or None)
    if config.evaluate.problems:
        benchmarks = {name: problems[: config.evaluate.problems] for name, problems in benchmarks.items()}

    from tqdm import tqdm

    from replication.data.template import prompt_ids
    from replication.evaluation.run import chunks, sample_chunk, sampling
    from replication.evaluation.samples import to_line, write_samples
    from replication.grading.pool import Grader
    from replication.loading import load_policy
    from replication.policy import base_policy, use_machine
    from replication.rollout.agreement import check_policy
    from replication.rollout.engine import check_settings
    from replication.rollout.policy import Policy

    if checkpoint is not None and not Path(checkpoint).is_dir():
        raise UserError(f"--checkpoint {checkpoint}: there is no such folder; train it with {run.command('fit')}")
    check_start(run)
    path, revision = (checkpoint, None) if checkpoint else base_policy(config.policy, run.model)
    model, tokenizer = load_policy(path, revision, config.policy.dtype, weights=config.rollout.engine != "server")
    device = use_machine(config.policy)
    if config.rollout.engine == "torch":  # another has weights of its own there
        model.to(device)
    asked = prompt_ids(tokenizer, next(iter(benchmarks.values()))[0].question, config.policy.thinking)
    every = [problem for problems in benchmarks.values() for problem in problems]
    most = dataclasses.replace(config.rollout, max_rows=max(config.rollout.max_rows, config.evaluate.samples))
    policy = Policy.of(model, tokenizer, config.policy.thinking, most, every)
    check_policy(policy.engine, model, asked, policy.ends, tokenizer.pad_token_id)
    for mode in config.evaluate.modes:  # before the hours of another
        check_settings(policy.engine, sampling(config.rollout, config.evaluate, mode), config.erasure)
    parts = chunks(benchmarks, config.rollout, config.evaluate)
    scratch = Path(".scratch/evaluate") / fingerprint(run, path, revision, benchmarks)
    chunks_file = scratch / "chunks.jsonl"
    with locked(scratch), Grader.of(config.grading) as grader:
        done = finished_chunks(chunks_file)
        if done:
            print(f"resuming after {len(done)} of {len(parts)} chunks in {scratch}")
        total = sum(len(part.problems) for part in parts) * config.evaluate.samples
        bar = tqdm(total=total, initial=sum(map(len, done)), desc="evaluate", unit="sample", mininterval=2)
        with bar:
            for index, part in enumerate(parts):
                if index >= len(done):
                    samples = sample_chunk(policy, part, config.rollout, config.erasure, config.evaluate, grader)
                    line = "[" + ",".join(to_line(sample).rstrip("\n") for sample in samples) + "]\n"
                    with writing(chunks_file, GO_ON), chunks_file.open("a", encoding="utf-8") as file:
                        file.write(line)
                    done.append(json.loads(line))
                    bar.update(len(samples))
                if [following.cell for following in parts[index + 1 : index + 2]] != [part.cell]:
                    cell = [row for p, rows in zip(parts, done, strict=False) if p.cell == part.cell for row in rows]
                    check_verdicts(run, cell, f"{part.benchmark}, {part.mode}")
        with output_folder(out, MARK) as new:
            metrics = write_samples(new, [row for rows in done for row in rows])
        shutil.rmtree(scratch, ignore_errors=True)
    return metrics


def main() -> None:
    run = load_run(
        [*SECTIONS, "grading"],
        options=OPTIONS,
        description="Sample a policy on the benchmarks, erasure off and on, and grade it.",
    )
    out = out_of(run)
    for name, modes in evaluate(run, out).items():
        for mode, m in modes.items():
            auc = "undefined" if m["auc"] is None else f"{m['auc']:.2f}"
            k = m["samples"]
            print(
                f"{name} {mode}: Avg@{k} {m['avg']:.3f}, Pass@{k} {m['pass']:.3f}, Maj@{k} {m['maj']:.3f}, "
                f"{m['tokens']:.1f} tokens a sample of which {m['erased_tokens']:.1f} erased, "
                f"AUC of U for wrong samples {auc}"
            )
    print(f"-> {out}")


if __name__ == "__main__":
    run_command(main)
