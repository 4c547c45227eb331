"""Are the metrics those of the code and settings that lie here? dvc.lock says what they came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from replication.errors import UserError


def stale_stages(metrics: Path, pipeline: Path) -> list[str]:
    """What differs from what the metrics were made of, a line a cause: code, settings, commands, or the file itself.

    Data, weights and samples that are not on this machine do not count: git does not carry them.

    Raises:
        UserError: the metrics are no output of the pipeline, or DVC cannot tell.
    """
    os.environ.setdefault("DVC_SITE_CACHE_DIR", str((pipeline.parent / ".scratch/dvc").resolve()))  # not in /var/tmp
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(pipeline.parent)) as repo:
            stages = repo.stage.collect(str(pipeline))
            outs = {out.fs_path: out for stage in stages for out in stage.outs}
            if str(metrics.resolve()) not in outs:
                raise UserError(f"{metrics} is no output of {pipeline}: name the pipeline's, or pass --any-age")
            carried = {path for path, out in outs.items() if not out.use_cache}  # by git
            status = repo.status(targets=[str(pipeline)])
    except DvcException as error:
        raise UserError(f"DVC cannot compare {metrics} with {pipeline}: {error}") from None
    causes: dict[str, set[str]] = {}
    for stage, changes in status.items():
        for path, what in _changes(changes):
            absent = what in ("deleted", "not in cache")
            full = str((pipeline.parent / path).resolve())
            elsewhere = any(out == full or out.startswith(f"{full}/") for out in outs if out not in carried)
            if not (absent and elsewhere):
                causes.setdefault(f"{path} {what}", set()).add(stage.partition("@")[0])
    return [f"{cause} since {', '.join(sorted(stages))} ran" for cause, stages in sorted(causes.items())]


def _changes(changes: list[Any]) -> list[tuple[str, str]]:
    """(path or key, what happened) of one stage of DVC's status."""
    found = []
    for change in changes:
        if not isinstance(change, dict):
            found.append((str(change), ""))  # "changed command"
            continue
        for entries in change.values():
            for path, what in entries.items():
                keys = what.items() if isinstance(what, dict) else [("", what)]  # the keys of params.yaml
                found += [(f"{path}: {key}" if key else path, str(word)) for key, word in keys]
    return found
