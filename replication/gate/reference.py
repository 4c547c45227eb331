"""reports/reference.json: what the metrics are held against; its intervals and seal are written by `--record`.

- default: rows of the small default, each with its recorded interval, or with the sign that a difference must have
- paper: the values that the paper reports under each of their readings: the claim, the value, its source mark (A
  abstract, R reading), and the resolution: the half-width above which an interval that holds the value says nothing
- seal: SHA-256 of the rows, so that an edit shows
"""

from __future__ import annotations

import hashlib
import json
from math import hypot, isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from replication.errors import UserError
from replication.evaluation.statistics import student

KEYS = ("model", "algorithm", "benchmark", "mode", "metric")
TASKS = {"tiny": "recurrence", "selfcheck": "selfcheck"}  # models of the default -> tasks of the study
Row = dict[str, Any]


def read_json(path: Path) -> Any:
    """A JSON file, or a `UserError` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `make repro`") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): restore it with git, or run `make repro`") from None


def read_reference(path: Path) -> dict[str, Any]:
    """The reference, its rows checked for what they need; the seal is `is_sealed`'s matter."""
    reference = read_json(path)
    if not (isinstance(reference, dict) and reference.get("default") and reference.get("paper")):
        raise UserError(f"{path} lacks rows of the small default or of the paper: restore it with git")
    for group, needed in (("default", ()), ("paper", ("claim", "value", "source", "resolution"))):
        for index, row in enumerate(reference[group], 1):
            if not isinstance(row, dict) or not isinstance(row.get("claim", ""), str):
                raise UserError(f"{path}, {group} row {index}: is no row: restore it with git")
            missing = [key for key in ("what", *KEYS, *needed) if key not in row]
            if missing:
                raise UserError(f"{path}, {group} row {index}: no {missing[0]}: restore it with git")
    return dict(reference)


def seal_of(reference: dict[str, Any]) -> str:
    """SHA-256 of the rows."""
    rows = {group: reference[group] for group in ("default", "paper")}
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def is_sealed(reference: dict[str, Any]) -> bool:
    """Whether the rows are those that were sealed."""
    return reference.get("seal") == seal_of(reference)


def look_up(metrics: Any, row: Row) -> dict[str, float] | None:
    """The interval (mean, low, high) that a row speaks of, or None where it was not measured."""
    entry = metrics
    for key in KEYS:
        entry = entry.get(row[key]) if isinstance(entry, dict) else None
    numbers = [entry.get(key) for key in ("mean", "low", "high")] if isinstance(entry, dict) else [None]
    return entry if all(isinstance(number, int | float) and isfinite(number) for number in numbers) else None


def half_width_between_warm_starts(study: Path, row: Row) -> float:
    """95 % half-width of a policy's accuracy over warm starts, from the study's cells of that task, arm and mode.

    The default has one warm start, so its own interval does not hold this part. Another processor rounds otherwise and
    so makes another warm start of the same seed.
    """
    untrained = row["algorithm"] == "untrained"
    path = study / TASKS[row["model"]] / f"{'untrained_controls' if untrained else row['algorithm']}.json"
    cell = read_json(path)
    runs = [seed["settings"] if untrained else seed for seed in cell["seeds"]]
    accuracies = np.array([np.mean(run[row["mode"]]["correct"]) / cell["samples"] for run in runs])
    return float(student(len(accuracies) - 1) * accuracies.std(ddof=1))


def record(path: Path, reference: dict[str, Any], metrics: Any, study: Path) -> None:
    """Take the intervals of the small default from the metrics, and seal the rows.

    What is recorded is where the mean of a rerun with other seeds, or on another processor, is to be expected: the
    metric's interval and the spread between warm starts together, and both runs vary, hence the square root of two.
    """
    if "seal" in reference and not is_sealed(reference):
        raise UserError(f"{path} was edited: restore it with git; to change it on purpose, delete its `seal` as well")
    for row in reference["default"]:
        found = look_up(metrics, row)
        if found is None:
            raise UserError(f"{row['what']}: not in the metrics: run `make repro` before recording")
        if "sign" not in row:
            between = half_width_between_warm_starts(study, row)
            below = sqrt(2) * hypot(found["mean"] - found["low"], between)
            above = sqrt(2) * hypot(found["high"] - found["mean"], between)
            row["low"] = round(max(0.0, found["mean"] - below), 4)
            row["high"] = round(min(1.0, found["mean"] + above), 4)
    groups = [
        f'"{group}": [\n' + ",\n".join("  " + json.dumps(row) for row in reference[group]) + "\n]"
        for group in ("default", "paper")
    ]
    path.write_text("{\n" + ",\n".join([f'"seal": "{seal_of(reference)}"', *groups]) + "\n}\n")
