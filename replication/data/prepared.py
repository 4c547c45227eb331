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
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.data.clean import Removed
from replication.data.sources import Problem
from replication.data.values import encodable, parse_json, shown
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
    """The training problems of a prepared folder.

    Raises:
        UserError: they, or the manifest that an export's card tells of, are not there or damaged.
    """
    problems = _read(folder / "train.jsonl", folder)
    read_manifest(folder)
    return problems


def read_manifest(folder: Path) -> dict[str, Any]:
    """Where the problems of a prepared folder came from; empty where it has no manifest."""
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        if not _is_manifest(manifest):
            raise ValueError("not what preparation wrote")
    except (OSError, ValueError) as error:
        raise _damaged(path, folder, error) from None
    return manifest


def _is_manifest(value: Any) -> bool:
    """Whether what an export's card reads in it is there as it was written, if at all."""
    if not isinstance(value, dict) or not all(isinstance(value.get(key, {}), dict) for key in ("sources", "counts")):
        return False
    return isinstance(value.get("sources", {}).get("train", {}), dict)


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


def _remedy(folder: Path) -> str:
    """The command that prepares a folder, which replaces nothing but what preparation wrote."""
    delete = f"delete {folder} and " if folder.is_dir() and not (folder / "manifest.json").exists() else ""
    if folder.parent.name == "data":
        return f"{delete}run `python -m replication.prepare --model {folder.name}`"
    return f"{delete}run `python -m replication.prepare --out {folder}` with the --model that it is for"


def _unprepared(path: Path, folder: Path) -> UserError:
    return UserError(f"{path} does not exist: {_remedy(folder)}")


def _damaged(where: str | Path, folder: Path, what: object) -> UserError:
    again = "(and the --data settings of before, if they were not params.yaml's)"
    return UserError(f"{where}: {what}: prepare the data again: {_remedy(folder)} {again}")


def _read(path: Path, folder: Path) -> list[Problem]:
    if not path.exists():
        raise _unprepared(path, folder)
    problems = []
    try:
        with path.open(encoding="utf-8") as file:
            for row, line in enumerate(file, 1):
                try:
                    problems.append(_problem(parse_json(line)))
                except ValueError as error:
                    raise _damaged(f"{path}, row {row}", folder, error) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, folder, error) from None
    if not problems:
        raise _damaged(path, folder, "holds no problems")
    return problems


def _problem(columns: Any) -> Problem:
    """A line as it was written.

    Raises:
        ValueError: it is not, and how.
    """
    if not isinstance(columns, dict) or columns.keys() != _COLUMNS:
        raise ValueError(f"must hold {', '.join(sorted(_COLUMNS))}")
    for name, value in columns.items():
        if name in ("difficulty", "tolerance"):
            is_right = value is None or (type(value) in (int, float) and math.isfinite(value))
        else:
            is_right = isinstance(value, str) and (bool(value.strip()) or name == "topic")
        if not is_right:
            raise ValueError(f"{name} is {shown(value)}")
        if isinstance(value, str):
            encodable(value)
    return Problem(**columns)
