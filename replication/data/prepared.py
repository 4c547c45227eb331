"""The folder that preparation writes and the later stages read.

- train.jsonl: problems to train on, one a line: id, question, final_answer, difficulty, topic
- benchmarks/<name>.jsonl: the same of each benchmark
- removed.jsonl: problems left out of training: id, reason, match
- manifest.json: where they came from, counts, seed, and the SHA-256 of each file
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.data.clean import Removed
from replication.data.sources import Problem
from replication.errors import UserError
from replication.outputs import output_folder

_COLUMNS = {field.name for field in dataclasses.fields(Problem)}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_prepared(
    folder: Path,
    train: Sequence[Problem],
    benchmarks: Mapping[str, Sequence[Problem]],
    manifest: Mapping[str, Any],
    removed: Sequence[Removed] = (),
) -> None:
    """Write a prepared folder whole, in place of an earlier one: it is made beside the target and then renamed.

    The manifest is completed by `files`: path in the folder -> SHA-256. The same arguments give the same bytes.

    Raises:
        UserError: the folder holds something else than prepared data, or cannot be written.
    """
    for name in benchmarks:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UserError(f"benchmark name {name!r} cannot name a file: use letters, digits, '.', '_' and '-'")
    with output_folder(folder, "manifest.json") as new:
        (new / "benchmarks").mkdir()
        _write_lines(new / "train.jsonl", [dataclasses.asdict(problem) for problem in train])
        for name, problems in benchmarks.items():
            _write_lines(new / "benchmarks" / f"{name}.jsonl", [dataclasses.asdict(p) for p in problems])
        rows = [{"id": r.problem.id, "reason": r.reason, "match": r.match} for r in removed]
        _write_lines(new / "removed.jsonl", rows)
        files = {path.relative_to(new).as_posix(): sha256_of(path) for path in sorted(new.rglob("*.jsonl"))}
        text = json.dumps({**manifest, "files": files}, indent=2, ensure_ascii=False)
        (new / "manifest.json").write_text(text + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_train(folder: Path) -> list[Problem]:
    """The training problems of a prepared folder."""
    return _read(folder / "train.jsonl", folder)


def read_benchmarks(folder: Path, names: Sequence[str] | None = None) -> dict[str, list[Problem]]:
    """Benchmark name -> problems; those named, in that order, or all if none is named.

    The order of all is the alphabetical one.
    """
    present = sorted(path.stem for path in (folder / "benchmarks").glob("*.jsonl"))
    if not present:
        raise _unprepared(folder / "benchmarks", folder)
    for name in names or ():
        if name not in present:
            raise UserError(f"{folder} has no benchmark {name!r}; there are {', '.join(present)}")
    return {name: _read(folder / "benchmarks" / f"{name}.jsonl", folder) for name in names or present}


def _unprepared(path: Path, folder: Path) -> UserError:
    return UserError(f"{path} does not exist: run `python -m replication.prepare --model {folder.name}`")


def _read(path: Path, folder: Path) -> list[Problem]:
    if not path.exists():
        raise _unprepared(path, folder)
    problems = []
    with path.open(encoding="utf-8") as file:
        for row, line in enumerate(file, 1):
            try:
                columns = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, row {row}: not valid JSON: {error}: prepare the data again") from None
            if not isinstance(columns, dict) or columns.keys() != _COLUMNS:
                raise UserError(f"{path}, row {row}: must hold {', '.join(sorted(_COLUMNS))}: prepare the data again")
            problems.append(Problem(**columns))
    return problems
