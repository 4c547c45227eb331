"""`python -m replication.evaluate --model tiny --checkpoint runs/train/tiny/e3rl/0`: the metrics of any causal LM.

Killed at any moment, the same command goes on from the last chunks of problems to the same samples. With
`--trainer.devices N`, or started by torchrun or SLURM, several processes share the chunks out, to the same samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from replication.cli import Run, check_start, data_of, load_run
from replication.config.profiles import PROFILES
from replication.depends import EVALUATION, HANDED_ON, code_of, digest_of, engine_version, files_of
from replication.errors import UserError, run_command
from replication.launch import global_rank, launch_id, world_size
from replication.outputs import check_output, locked, output_folder, run_folder, write_whole

if TYPE_CHECKING:
    from replication.evaluation.queue import Making, Queue
    from replication.evaluation.run import Chunk

SECTIONS = ["policy", "rollout", "erasure", "evaluate"]  # what the samples depend on
MARK = "samples.jsonl"  # every evaluation holds it
FIRST = "first"  # the process that puts the results together
ACCEPTED = "accepted.json"  # which changes of the code its samples lived through
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
    ("--plan", {"action": "store_true", "help": "only say what it would take: tokens, memory, hours by devices"}),
    ("--json", {"action": "store_true", "help": "with --plan: for machines"}),
    (
        "--accept",
        {
            "type": Literal["code"] | None,
            "default": None,
            "help": "`code`: go on with samples that other code of the package has made, and note it in accepted.json",
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
    """Hash of all that the samples depend on but the code: settings, problems, weights, vLLM's version."""
    digest = hashlib.sha256(run.config.fingerprint(*SECTIONS).encode())
    digest.update(repr((path, revision, benchmarks, digest_of(files_of(path)))).encode())
    if versions := engine_version(run.config.rollout.engine):
        digest.update(repr(versions).encode())
    return digest.hexdigest()[:12]


def scratch_of(run: Run, path: str, revision: str | None, benchmarks: dict[str, Any]) -> Path:
    """Where the samples are kept until all are there; by the code that made them, and by all else that they depend on.

    With `--accept code` what other code has made there is taken over, and the folder notes it in accepted.json.
    """
    code = digest_of(code_of(EVALUATION))
    scratch = Path(".scratch/evaluate") / fingerprint(run, path, revision, benchmarks) / code
    if scratch.exists() or global_rank() > 0 or not scratch.parent.exists():
        return scratch
    others = sorted(scratch.parent.glob("*/*.jsonl"), key=lambda file: file.stat().st_mtime)
    if not others:
        return scratch
    before = others[-1].parent
    if run.options["accept"] != "code":
        print(f"begun anew: the code has changed since the samples in {before} were made; {HANDED_ON}")
        return scratch
    with locked(before):
        notes = before / ACCEPTED
        accepted = json.loads(notes.read_text()) if notes.exists() else []
        write_whole(notes, json.dumps([*accepted, {"from": before.name, "to": code}]) + "\n")
        before.rename(scratch)
    return scratch


def check_verdicts(run: Run, rows: Sequence[dict[str, Any]], where: str) -> None:
    """Stop where too many completions of a benchmark and mode have no answer or timed out."""
    from replication.grading.rates import check_rates

    unanswered, stopped = (
        sum(row["verdict"] == verdict for row in rows) / len(rows) for verdict in ("no answer", "timed out")
    )
    check_rates(run.config.grading, len(rows), unanswered, stopped, where)


def evaluate(run: Run, out: Path) -> dict[str, Any] | None:
    """Sample, grade and write, with the other processes that do the same; resumes by itself.

    Returns:
        benchmark -> mode -> metrics; None but on the first process.
    """
    check_output(out, MARK)
    from replication.data.prepared import read_benchmarks

    config, checkpoint = run.config, run.options["checkpoint"]
    benchmarks = read_benchmarks(data_of(run, "benchmarks/*.jsonl"), config.evaluate.benchmarks or None)
    if config.evaluate.problems:
        benchmarks = {name: problems[: config.evaluate.problems] for name, problems in benchmarks.items()}
    if checkpoint is not None and not Path(checkpoint).is_dir():
        raise UserError(f"--checkpoint {checkpoint}: there is no such folder; train it with {run.command('fit')}")
    check_start(run)

    from replication.evaluation.presence import forget, is_present, present, wait_for_first, wait_for_others
    from replication.evaluation.queue import Queue
    from replication.evaluation.run import chunks
    from replication.evaluation.samples import write_metrics
    from replication.evaluation.workers import end_with_parent, helped, helpers_wanted, use_own_gpu
    from replication.policy import base_policy

    end_with_parent()
    use_own_gpu()
    path, revision = (checkpoint, None) if checkpoint else base_policy(config.policy, run.model)
    parts = chunks(benchmarks, config.rollout, config.evaluate)
    scratch = scratch_of(run, path, revision, benchmarks)
    if global_rank() > 0:
        wait_for_first(scratch, FIRST)  # it may be about to take the folder over from other code
        with present(scratch, f"{launch_id()}-{global_rank()}"):
            if not is_present(scratch, FIRST):  # it has just left, with all that was to be done
                return None
            queue = Queue(scratch, len(parts))
            work = sample(run, queue, parts, path, revision)
            while len(queue.done()) < len(parts):
                next(work)
        return None
    others = [f"{launch_id()}-{rank}" for rank in range(1, world_size())]
    forget(scratch, others)
    helpers = helpers_wanted(config.trainer)
    with locked(scratch), present(scratch, FIRST), helped(helpers, sys.argv[1:], scratch):
        queue = Queue(scratch, len(parts))
        rows = watched(run, queue, parts, sample(run, queue, parts, path, revision))
        with output_folder(out, MARK) as new:
            queue.write_all(new / MARK)
            how = {"profile": config.profile_label(), "thinking": config.policy.thinking}
            metrics = write_metrics(new, rows, how)
            if (scratch / ACCEPTED).exists():
                shutil.copy(scratch / ACCEPTED, new / ACCEPTED)
        if absent := wait_for_others(scratch, others):
            print(f"{len(absent)} of {world_size()} processes never came: the others did their part", file=sys.stderr)
    shutil.rmtree(scratch.parent, ignore_errors=True)
    return metrics


def sample(run: Run, queue: Queue, parts: Sequence[Chunk], path: str, revision: str | None) -> Iterator[None]:
    """Sample and grade a chunk at each step, or wait a little where the others have all that are left."""
    from replication.data.template import prompt_ids
    from replication.evaluation.run import sample_chunk, sampling
    from replication.evaluation.samples import to_line
    from replication.grading.pool import Grader
    from replication.loading import load_policy
    from replication.policy import use_machine
    from replication.rollout.agreement import check_policy
    from replication.rollout.engine import check_settings
    from replication.rollout.policy import Policy

    config = run.config
    model, tokenizer = load_policy(path, revision, config.policy.dtype, weights=config.rollout.engine != "server")
    device = use_machine(config.policy)
    if config.rollout.engine == "torch":  # another has weights of its own there
        model.to(device)
    thinking, wording = config.policy.thinking, config.evaluate.wording
    asked = prompt_ids(tokenizer, parts[0].problems[0].question, thinking, wording)
    most = dataclasses.replace(config.rollout, max_rows=max(config.rollout.max_rows, config.evaluate.samples))
    every = [problem for part in parts for problem in part.problems]
    policy = Policy.of(model, tokenizer, thinking, most, every, wording)
    check_policy(policy.engine, model, asked, policy.ends, tokenizer.pad_token_id)
    for mode in config.evaluate.modes:  # before the hours of another
        check_settings(policy.engine, sampling(config.rollout, config.evaluate, mode), config.erasure)
    with Grader.of(config.grading) as grader:

        def making(index: int) -> Making:
            part, how = parts[index], (config.rollout, config.erasure, config.evaluate)
            samples = yield from sample_chunk(policy, part, *how, grader)
            return map(to_line, samples)

        yield from queue.work(making, 1 if config.rollout.engine == "torch" else 2)


def watched(run: Run, queue: Queue, parts: Sequence[Chunk], work: Iterator[None]) -> list[dict[str, Any]]:
    """Do the work, show how far all processes are, and stop where a benchmark's verdicts say that something is wrong.

    Returns:
        The samples, in order, without texts.
    """
    from tqdm import tqdm

    from replication.evaluation.samples import spent

    found: dict[int, list[dict[str, Any]]] = {}
    checked: set[tuple[str, str]] = set()
    fresh = dict(queue.fresh(found))
    if fresh:
        print(f"resuming after {len(fresh)} of {len(parts)} chunks in {queue.folder}")
    total = sum(len(part.problems) for part in parts) * run.config.evaluate.samples
    begun, tokens = time.monotonic(), 0
    before = sum(map(len, fresh.values()))
    with tqdm(total=total, initial=before, desc="evaluate", unit="sample", mininterval=2) as bar:
        while True:
            found |= fresh
            for cell in {part.cell for part in parts} - checked:
                mine = [index for index, part in enumerate(parts) if part.cell == cell]
                if all(index in found for index in mine):
                    check_verdicts(run, [row for index in mine for row in found[index]], ", ".join(cell))
                    checked.add(cell)
            if len(found) == len(parts):
                return [row for index in range(len(parts)) for row in found[index]]
            next(work)
            fresh = dict(queue.fresh(found))
            tokens += sum(spent(row) for rows in fresh.values() for row in rows)
            bar.set_postfix_str(f"{tokens / (time.monotonic() - begun):.0f} tokens/s", refresh=False)
            bar.update(sum(map(len, fresh.values())))


def plan(run: Run) -> None:
    """Print what the evaluation would take, and leave with exit code 1 if it does not fit. Needs no weights or data."""
    from replication.data.prepared import read_benchmarks
    from replication.planning.evaluation import PUBLISHED, findings, page
    from replication.policy import use_machine

    config = run.config
    if config.rollout.engine == "server":
        raise UserError(
            "--plan tells what the GPUs here take, and servers have others: give --rollout.engine vllm, too"
        )
    folder = Path(run.options["data"] or f"data/{run.model}")
    if any(folder.glob("benchmarks/*.jsonl")):
        sizes = {name: len(rows) for name, rows in read_benchmarks(folder, config.evaluate.benchmarks or None).items()}
    else:
        names = config.evaluate.benchmarks or list(run.problems.benchmarks) or ["heldout"]
        known = {**PUBLISHED, "heldout": run.problems.heldout_problems}
        if unknown := [name for name in names if not known.get(name)]:
            raise UserError(f"how many problems {unknown[0]} has is not known: {run.command('prepare')} first")
        sizes = {name: known[name] for name in names}
    if config.evaluate.problems:
        sizes = {name: min(count, config.evaluate.problems) for name, count in sizes.items()}
    use_machine(config.policy)  # whose threads the CPU's speed is measured with
    found = findings(config, sizes, run.model)
    unit = "GPU" if config.trainer.gpu_gib else "process"
    print(json.dumps(found, indent=2) if run.options["json"] else page(found, unit))
    if not found["fits"]:
        sys.exit(1)


def main() -> None:
    run = load_run(
        [*SECTIONS, "grading", "trainer"],
        options=OPTIONS,
        description="Sample a policy on the benchmarks, erasure off and on, and grade it. The profiles of "
        f"--evaluate.profile: {', '.join(PROFILES)}.",
    )
    if run.options["plan"]:
        return plan(run)
    if run.options["json"]:
        raise UserError("--json is for --plan")
    out = out_of(run)
    metrics = evaluate(run, out)
    if metrics is None:
        return
    for name, modes in metrics.items():
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
