"""reports/reference.json: what the metrics are held against; `--record` (record.py) writes all but claims, paper and
published.

- claims: what the README says of the small default: differences, and the sign that each has beyond its interval
- default: every metric of the small default, with the range that its mean must lie in
- study: the verdicts of the study's comparisons
- paper: the values that the paper reports under each of their readings: the claim, the value, its source mark (A
  abstract, R reading), and the resolution: the half-width above which an interval that holds the value says nothing
- published: what cards and papers state of the untrained models: the value, the source, the profile and the thinking
  mode that it is of, its problems, and the samples of each (null: not stated); nothing passes or fails by them
- seal: SHA-256 of the rows, so that an edit shows
"""

from __future__ import annotations

import hashlib
import json
from math import isfinite
from pathlib import Path
from typing import Any

from replication.errors import UserError

KEYS = ("model", "algorithm", "benchmark", "mode", "metric")
GROUPS = {  # group -> what each of its rows needs beside a name
    "claims": (*KEYS, "sign"),
    "default": (*KEYS, "low", "high", "widest"),
    "study": ("task", "arm", "metric", "verdict"),
    "paper": (*KEYS, "claim", "value", "source", "resolution"),
    "published": (*KEYS, "value", "source", "profile", "thinking", "problems", "samples", "note"),
}
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
    if not (isinstance(reference, dict) and all(isinstance(reference.get(group), list) for group in GROUPS)):
        raise UserError(f"{path} lacks one of the groups {', '.join(GROUPS)}: restore it with git")
    for group, needed in GROUPS.items():
        for index, row in enumerate(reference[group], 1):
            if not isinstance(row, dict) or not isinstance(row.get("claim", ""), str):
                raise UserError(f"{path}, {group} row {index}: is no row: restore it with git")
            missing = [key for key in ("what", *needed) if key not in row]
            if missing:
                raise UserError(f"{path}, {group} row {index}: no {missing[0]}: restore it with git")
    return dict(reference)


def seal_of(reference: dict[str, Any]) -> str:
    """SHA-256 of the rows."""
    return hashlib.sha256(
        json.dumps({group: reference[group] for group in GROUPS}, sort_keys=True).encode()
    ).hexdigest()


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
