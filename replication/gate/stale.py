"""Are the metrics those of the code and settings that lie here? dvc.lock says what they came from."""

from __future__ import annotations

from pathlib import Path

from replication.errors import UserError
from replication.pipeline.stages import changes, dvc_repo

REMEDIES = {Path("dvc.yaml"): "make repro", Path("experiments/study/dvc.yaml"): "make study"}


def remedy(pipeline: Path) -> str:
    """The command that reruns what has changed of a pipeline."""
    return REMEDIES.get(pipeline, f"python -m replication.repro --pipeline {pipeline}")


def stale_stages(metrics: Path, pipeline: Path) -> list[str]:
    """What differs from what the metrics were made of, a line a cause: code, settings, commands, or the file itself.

    Data, weights and samples that are not on this machine do not count: git does not carry them. A run left over in the
    folders of the runs does, though the report does not read it: DVC, which knows a folder by one hash, cannot tell it
    from a changed run. Rerunning the report alone takes seconds, and gives the same bytes.

    Raises:
        UserError: the metrics are no output of the pipeline, or DVC cannot tell.
    """
    with dvc_repo(pipeline) as repo:
        stages = repo.stage.collect(str(pipeline))
        outs = {out.fs_path: out for stage in stages for out in stage.outs}
        if str(metrics.resolve()) not in outs:
            raise UserError(f"{metrics} is no output of {pipeline}: name the pipeline's, or pass --any-age")
        not_carried = [Path(path) for path, out in outs.items() if out.use_cache]  # git has the others
        status = repo.status(targets=[str(pipeline)])
        root = Path(repo.root_dir)
    causes: dict[str, set[str]] = {}
    for stage, entries in status.items():
        for path, what in changes(entries):
            absent = what in ("deleted", "not in cache")
            full = (root / path).resolve()  # an output, a file of one, or a folder of several
            elsewhere = any(full.is_relative_to(out) or out.is_relative_to(full) for out in not_carried)
            if not (absent and elsewhere):
                causes.setdefault(f"{path} {what}".strip(), set()).add(stage.rpartition(":")[2].partition("@")[0])
    return [f"{cause} since {', '.join(sorted(stages))} ran" for cause, stages in sorted(causes.items())]
