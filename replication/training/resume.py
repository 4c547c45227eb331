"""Which checkpoint a run goes on from, and when it must not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.config import Config
from replication.errors import UserError
from replication.outputs import write_whole

CHECKPOINTS = "checkpoints"  # folder in that of a run
RECORD = "run.json"  # beside the checkpoints: what they are of
Identity = dict[str, Any]
LIMITS = {"train.max_silent_steps", "train.max_mismatch", "train.max_truncated"}  # a run that met one may go on
LIMITS |= {"grading.max_no_answer", "grading.max_timed_out"}
MEMORY = {"train.micro_rows", "rollout.max_rows", "rollout.lanes", "trainer.gradient_checkpointing"}
FREE = LIMITS | MEMORY | {"train.checkpoint_every", "train.keep_checkpoints", "trainer.logger", "trainer.gpu_gib"}
"""Settings that no number of a run depends on but by rounding"""


def identity(
    config: Config, sections: Sequence[str], about: dict[str, Any], files: Mapping[str, Iterable[Path]]
) -> Identity:
    """All that the numbers of a run depend on, by name.

    Args:
        config: its settings.
        sections: names of those that count.
        about: further settings.
        files: by name, files whose contents count, such as the problems, the starting weights and the code.
    """
    contents = {}
    for name, paths in files.items():
        digest = hashlib.sha256()
        for path in paths:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        contents[name] = digest.hexdigest()[:16]
    found: Identity = json.loads(
        json.dumps({**about, **counted(config, sections), **contents})
    )  # as it will be read again
    return found


def counted(config: Config, sections: Sequence[str]) -> dict[str, Any]:
    """The settings that the numbers of a run depend on, by name."""
    settings = {f"{s}.{k}": v for s in sections for k, v in dataclasses.asdict(getattr(config, s)).items()}
    free = FREE - ({"rollout.max_rows"} if config.erasure.baseline == "batch" else set())  # whose mean is of them
    return {key: value for key, value in settings.items() if key not in free}


def begin(folder: Path, mine: Identity) -> None:
    """Note what the folder's checkpoints will be of.

    Raises:
        UserError: it has some already, of other settings, data, code, or number of processes.
    """
    record = folder / RECORD
    if complete(folder / CHECKPOINTS):
        theirs = json.loads(record.read_text()) if record.exists() else {}
        differ = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        if differ:
            shown = ", ".join(f"{key} {theirs.get(key)} -> {mine.get(key)}" for key in differ[:3])
            more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
            raise UserError(
                f"{folder} holds checkpoints of an unfinished run that differs ({shown}{more}): set that back to go "
                "on, choose another --out, or start anew with --fresh"
            )
    write_whole(record, json.dumps(mine, indent=2) + "\n")


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint of an earlier, interrupted run, or None."""
    found = complete(folder / CHECKPOINTS)
    return str(folder / CHECKPOINTS / f"rollout={max(found)}.ckpt") if found else None


def complete(checkpoints: Path) -> dict[int, float]:
    """The complete checkpoints of a folder: rollouts done, and the score that tells the best one."""
    marks = checkpoints.glob("rollout=*.complete")
    return {int(mark.stem.split("=")[1]): float(mark.read_text()) for mark in marks}
