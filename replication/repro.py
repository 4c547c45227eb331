"""`python -m replication.repro`: rerun what has changed of a pipeline, several stages at a time; `make repro` is this.

A stage runs as soon as those are done that it waits for, by `dvc repro --single-item`. When one fails, the others are
stopped and nothing is left running; the same command goes on where it was.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from replication.cli import read_matrix
from replication.errors import Parser, Stopped, UserError, run_command
from replication.outputs import locked
from replication.pipeline.processes import StageFailed, run_stages
from replication.pipeline.progress import Progress, duration, forecast, last_words
from replication.pipeline.stages import Stage, due, read_stages, take_in, use_git_or_not

DEFAULT = Path("dvc.yaml")  # whose report says the figures of the default
METRICS, REPORT = Path("reports/metrics.json"), Path("reports/report.md")


def summary(stages: list[Stage], left: list[Stage]) -> str:
    """What would run and why, a line a kind of stage."""
    lines = [f"{len(left)} of {len(stages)} stages would run"]
    for kind in dict.fromkeys(stage.kind for stage in stages):
        cells = [stage for stage in stages if stage.kind == kind]
        run = [stage for stage in left if stage.kind == kind]
        reasons = list(dict.fromkeys(reason for stage in run for reason in stage.changes))
        reasons = reasons or (["a stage before it runs"] if run else ["up to date"])
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        lines.append(f"  {kind:20s} {len(run):3d} of {len(cells):3d}   {', '.join(reasons[:3])}{more}")
    return "\n".join(lines)


def figures() -> str:
    """The figures that matter, a line each: the untrained policy plain and erased, and each algorithm plain."""
    from replication.evaluation.statistics import Interval
    from replication.reporting.results import UNTRAINED

    metrics, models = json.loads(METRICS.read_text()), read_matrix(Path("params.yaml")).models
    lines = []
    for model in models:
        arms = [(UNTRAINED, "plain"), (UNTRAINED, "erased")]
        arms += [(algorithm, "plain") for algorithm in metrics[model] if algorithm != UNTRAINED]
        for benchmark in metrics[model][UNTRAINED]:
            lines.append(f"Avg@k of {model} on {benchmark}, with 95 % intervals:")
            for algorithm, mode in arms:
                found = metrics[model][algorithm].get(benchmark, {}).get(mode)
                if found:
                    lines.append(f"  {algorithm + ', ' + mode:32s} {Interval(**found['avg'])}")
    return "\n".join([*lines, f"the report: {REPORT}"])


def rerun(pipeline: Path, jobs: int, logs: Path) -> None:
    """Run what has changed, one run at a time in this folder.

    Raises:
        UserError: another run is at work here.
        StageFailed, Stopped: nothing is left running.
    """
    with locked(logs) as lock:
        if count := take_in(pipeline):
            print(f"{count} outputs are whole but were gone from DVC's cache: it has them again")
        stages = read_stages(pipeline)
        left = due(stages)
        if not left:
            return print(f"{len(stages)} stages, nothing to rerun")
        expected = forecast(left, jobs)
        about = f", about {duration(expected)} at the pace of {pipeline}'s own figures" if expected else ""
        print(f"{len(left)} of {len(stages)} stages to run, {jobs} at a time{about}; what they say: {logs}", flush=True)
        progress, began = Progress(left, logs), time.monotonic()
        try:
            run_stages(left, jobs, logs, lock, progress.show)
        finally:
            progress.clear()
        print(f"{len(left)} stages in {duration(time.monotonic() - began)}")


def main() -> None:
    parser = Parser(prog="python -m replication.repro", description="Rerun what has changed, several stages at a time.")
    parser.add_argument("--pipeline", type=Path, default=DEFAULT, help="whose stages, dvc.yaml if not given")
    parser.add_argument("--jobs", type=int, default=1, help="stages at a time")
    parser.add_argument("--dry", action="store_true", help="only say what would run, and why")
    arguments = parser.parse_args()
    pipeline, jobs = arguments.pipeline, arguments.jobs
    if jobs < 1:
        raise UserError(f"--jobs {jobs} is not a positive whole number")
    if not pipeline.is_file():
        raise UserError(f"{pipeline} does not exist: run from the repository's root, or name another by --pipeline")
    if not pipeline.resolve().is_relative_to(Path.cwd()):
        raise UserError(f"{pipeline} is not below {Path.cwd()}: run from the repository that has it")
    pipeline = pipeline.resolve().relative_to(Path.cwd())
    if pipeline == DEFAULT:
        read_matrix(Path("params.yaml"))
    use_git_or_not(Path.cwd())
    if arguments.dry:
        stages = read_stages(pipeline)
        return print(summary(stages, due(stages)))
    logs = Path(".scratch/repro") / pipeline.parent
    try:
        rerun(pipeline, jobs, logs)
    except StageFailed as failure:
        log = logs / f"{failure.stage}.log"
        others = f", and {len(failure.stopped)} beside it stopped" if failure.stopped else ""
        print(f"error: {failure.stage} failed{others}; the last it said, all of it in {log}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in last_words(log)), file=sys.stderr)
        print("the same command goes on where it was", file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:
        print("stopped: the same command goes on where it was", file=sys.stderr)
        sys.exit(stopped.code)
    if pipeline == DEFAULT:
        print(figures())


if __name__ == "__main__":
    run_command(main)
