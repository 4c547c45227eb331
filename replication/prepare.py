"""Prepare the problems of a model's settings: `python -m replication.prepare --model tiny [--data.key value]`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

from replication.cli import load_run, own_place
from replication.config import DataConfig, Source
from replication.data.clean import Removed, decontaminate, draw_subset, drop_duplicates
from replication.data.prepared import sha256_of, write_prepared
from replication.data.sources import EXAMPLES, Loaded, Problem, load_source, local_file
from replication.data.values import shown
from replication.errors import UserError, run_command


@dataclasses.dataclass
class Prepared:
    """What is to be written, and how it came about in one phrase."""

    train: list[Problem]
    benchmarks: dict[str, list[Problem]]
    manifest: dict[str, Any]
    removed: list[Removed]
    summary: str
    examples: list[str]
    """Lines for a person, who sees in them whether the right columns were taken"""


def prepare_files(data: DataConfig) -> Prepared:
    """Load the named sources, drop duplicates and benchmark problems, and draw the training subset."""
    if data.train is None:
        raise UserError("data.train is not set: name the training problems in params.yaml or by --data.train.path")
    loaded = {name: load_source(source, name) for name, source in data.benchmarks.items()}
    train = load_source(data.train, "train")
    read, benchmarks = train.problems, {name: each.problems for name, each in loaded.items()}
    unique, repeated = drop_duplicates(read)
    questions = {name: [problem.question for problem in problems] for name, problems in benchmarks.items()}
    clean, contaminated = decontaminate(unique, questions)
    if not clean:
        raise UserError(f"{data.train.path}: of {len(read)} problems none is left to train on: name another data.train")
    drawn = draw_subset(clean, data.train_problems, data.seed)

    reasons = Counter(removed.reason for removed in repeated)
    found = Counter(removed.match.rpartition("-")[0] for removed in contaminated)
    counts = {
        "read": len(read),
        "duplicate": reasons["duplicate"],
        "conflicting": reasons["conflicting"],
        "contaminated": {name: found[name] for name in benchmarks},
        "left": len(clean),
        "drawn": len(drawn),
        "benchmarks": {name: len(problems) for name, problems in benchmarks.items()},
    }
    manifest = {
        "task": data.task,
        "seed": data.seed,
        "train_problems": data.train_problems,
        "sources": {
            "train": _describe(data.train),
            "benchmarks": {name: _describe(source) for name, source in data.benchmarks.items()},
        },
        "counts": counts,
    }
    summary = (
        f"of {len(read)} read, less {reasons['duplicate']} duplicate, {reasons['conflicting']} conflicting"
        f" and {len(contaminated)} benchmark problems"
    )
    if len(clean) < data.train_problems:
        summary += f"; these are fewer than data.train_problems = {data.train_problems}, so all are kept"
    examples = [line for each in (train, *loaded.values()) for line in _examples(each)]
    return Prepared(drawn, benchmarks, manifest, [*repeated, *contaminated], summary, examples)


def _examples(loaded: Loaded) -> list[str]:
    """A line for each of a source's first problems: the question, the answer taken, and what it was taken out of."""
    lines = []
    for problem, published in zip(loaded.problems, loaded.published, strict=False):
        text = published if isinstance(published, str) else shown(published)
        start = max(text.rfind(problem.final_answer), 0)
        end = start + len(problem.final_answer)
        taken = "" if text.strip() == problem.final_answer else f", out of: {_part(text, start - 40, end + 10)}"
        lines.append(f"{problem.id}: {_part(problem.question, 0, 60)} -> {_part(problem.final_answer, 0, 40)}{taken}")
    return lines


def _part(text: str, start: int, end: int) -> str:
    """That part of a text on one line, with dots where there is more of it."""
    line = " ".join(text[max(start, 0) : end].split())
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    return f"{'...' if start > 0 else ''}{line}{'...' if end < len(text) else ''}"


def _describe(source: Source) -> dict[str, Any]:
    """A source for the manifest: its settings, and the SHA-256 of a local file."""
    path = local_file(source)
    if path is None:
        return dataclasses.asdict(source)
    return {"path": source.path, "columns": source.columns, "sha256": sha256_of(path)}


def prepare_synthetic(data: DataConfig) -> Prepared:
    """Problems of a synthetic task: the first are trained on, the following ones are the benchmark `heldout`."""
    from replication.data.tasks import TASKS

    count = data.train_problems + data.heldout_problems
    problems = TASKS[data.task].problems(count=count, seed=data.seed, steps=data.steps)
    train, heldout = problems[: data.train_problems], problems[data.train_problems :]
    manifest = {
        "task": data.task,
        "seed": data.seed,
        "steps": data.steps,
        "counts": {"drawn": len(train), "benchmarks": {"heldout": len(heldout)} if heldout else {}},
    }
    benchmarks = {"heldout": heldout} if heldout else {}
    first = [problem for part in (train, heldout) for problem in part[:EXAMPLES]]
    examples = _examples(Loaded(first, [problem.final_answer for problem in first]))
    return Prepared(train, benchmarks, manifest, [], f"of the task {data.task}", examples)


def main() -> None:
    run = load_run(
        ["data"],
        options=[("--out", {"default": None, "help": "folder to write (data/<model>)"})],
        description="Load, clean and write the problems to train on and to evaluate on.",
    )
    data = run.config.data
    out = Path(run.options["out"] or own_place(run, f"data/{run.model}"))
    prepared = prepare_files(data) if data.task == "files" else prepare_synthetic(data)
    write_prepared(out, prepared.train, prepared.benchmarks, prepared.manifest, prepared.removed)
    sizes = ", ".join(f"{name} {len(problems)}" for name, problems in prepared.benchmarks.items()) or "no benchmark"
    print(f"{out}: {len(prepared.train)} training problems ({prepared.summary}); {sizes}")
    for line in prepared.examples:
        print(f"  {line}")


if __name__ == "__main__":
    run_command(main)
