"""Which checkpoint a run goes on from, and when it must not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.config import Config
from replication.depends import digest_of
from replication.errors import UserError
from replication.outputs import write_whole

CHECKPOINTS = "checkpoints"  # folder in that of a run
RECORD = "run.json"  # beside the checkpoints: what they are of
ACCEPTED = "accepted"  # in it: what has changed since, and was let through
Identity = dict[str, Any]
LIMITS = {"train.max_silent_steps", "train.max_mismatch", "train.max_truncated"}  # a run that met one may go on
LIMITS |= {"grading.max_no_answer", "grading.max_timed_out"}
MEMORY = {"train.micro_rows", "train.width_multiple", "rollout.max_rows", "rollout.lanes", "rollout.gpu_share"}
MEMORY |= {"trainer.gradient_checkpointing", "trainer.kernels"}
FREE = LIMITS | MEMORY | {"train.checkpoint_every", "train.keep_checkpoints", "trainer.logger", "trainer.gpu_gib"}
FREE |= {"trainer.silence", "trainer.max_wait", "train.keep"}
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
    contents = {name: digest_of(paths) for name, paths in files.items()}
    found: Identity = json.loads(
        json.dumps({**about, **counted(config, sections), **contents})
    )  # as it will be read again
    return found


def counted(config: Config, sections: Sequence[str]) -> dict[str, Any]:
    """The settings that the numbers of a run depend on, by name."""
    settings = {f"{s}.{k}": v for s in sections for k, v in dataclasses.asdict(getattr(config, s)).items()}
    free = FREE - ({"rollout.max_rows"} if config.erasure.baseline == "batch" else set())  # whose mean is of them
    return {key: value for key, value in settings.items() if key not in free}


def begin(folder: Path, mine: Identity, accept: str | None = None) -> None:
    """Note what the folder's checkpoints will be of.

    Args:
        folder: of the run's checkpoints.
        mine: all that the run's numbers depend on.
        accept: a name in it that may have changed since the last checkpoint; the record keeps both values.

    Raises:
        UserError: it has some already, of other settings, data, code, or number of processes.
    """
    record = folder / RECORD
    if done := complete(folder / CHECKPOINTS):
        theirs = {key: value for key, value in read_record(record).items() if key in mine or key not in FREE}
        changes = theirs.pop(ACCEPTED, [])
        differ = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        if accept is not None and differ == [accept]:
            changes.append({"what": accept, "from": theirs[accept], "to": mine[accept], "rollouts": max(done)})
        elif differ:
            shown = ", ".join(f"{key} {theirs.get(key)} -> {mine.get(key)}" for key in differ[:3])
            more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
            way = "go on by --accept code" if differ == ["code"] else "set that back to go on"
            raise UserError(
                f"{folder} holds checkpoints of an unfinished run that differs ({shown}{more}): {way}, choose another "
                "--out, or start anew with --fresh"
            )
        mine = mine | ({ACCEPTED: changes} if changes else {})
    write_whole(record, json.dumps(mine, indent=2) + "\n")


def accepted(folder: Path) -> Identity:
    """What a run's record says of changes that it lived through; nothing where there were none."""
    return {key: value for key, value in read_record(folder / RECORD).items() if key == ACCEPTED}


def read_record(record: Path) -> Identity:
    """What the checkpoints beside a record are of."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (FileNotFoundError, ValueError):
        pass
    raise UserError(f"{record} is damaged or gone, which said what its checkpoints are of: start anew with --fresh")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of an earlier, interrupted run, or None.

    Raises:
        UserError: it has some, and none of them is whole.
    """
    checkpoints = folder / CHECKPOINTS
    found = complete(checkpoints)
    if not found and marks(checkpoints):
        raise UserError(f"no checkpoint in {checkpoints} is whole, they were cut or deleted: start anew with --fresh")
    return checkpoints / f"rollout={max(found)}.ckpt" if found else None


def best_of(scores: Mapping[int, float]) -> int:
    """The best of some checkpoints, by rollouts done: the later one of two that are as good."""
    return max(scores, key=lambda done: (scores[done], done))


def drop_damaged(folder: Path) -> list[str]:
    """Take the marks of checkpoints that are no longer whole away, if others are; returns the checkpoints' names."""
    found = complete(folder / CHECKPOINTS)
    damaged = [path for done, path in marks(folder / CHECKPOINTS).items() if found and done not in found]
    for path in damaged:
        path.unlink()
    return [path.with_suffix(".ckpt").name for path in damaged]


def mark(checkpoint: Path, score: float) -> None:
    """Note that a checkpoint is saved, how large it is, and how good."""
    write_whole(checkpoint.with_suffix(".complete"), json.dumps({"score": score, "bytes": size_of(checkpoint)}) + "\n")


def marks(checkpoints: Path) -> dict[int, Path]:
    """The marks of a folder's checkpoints, by rollouts done."""
    return {int(path.stem.split("=")[1]): path for path in checkpoints.glob("rollout=*.complete")}


def size_of(checkpoint: Path) -> int:
    """Bytes of a checkpoint, which is a file or a folder."""
    files = checkpoint.rglob("*") if checkpoint.is_dir() else [checkpoint]
    return sum(path.stat().st_size for path in files if path.is_file())


def complete(checkpoints: Path) -> dict[int, float]:
    """The whole checkpoints of a folder, as large as when they were saved: rollouts done, and the score that tells
    the best one."""
    found = {}
    for done, path in marks(checkpoints).items():
        with contextlib.suppress(ValueError, TypeError, KeyError, FileNotFoundError):  # of a damaged mark
            noted = json.loads(path.read_text())
            if noted["bytes"] == size_of(path.with_suffix(".ckpt")):
                found[done] = float(noted["score"])
    return found
