"""reports/reference.json: what the metrics are held against; its intervals and seal are written by `--record`.

- default: rows of the small default, each with its recorded interval, or with the sign that a difference must have
- paper: the values that the paper reports under each of their readings: the claim, the value, its source mark (A
  abstract, R reading), and the resolution: the half-width above which an interval that holds the value says nothing
- seal: SHA-256 of the rows, so that an edit shows
"""

from __future__ import annotations

import hashlib
import json
from math import sqrt
from pathlib import Path
from typing import Any

from replication.errors import UserError

KEYS = ("model", "algorithm", "benchmark", "mode", "metric")
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
    return entry if isinstance(entry, dict) and {"mean", "low", "high"} <= entry.keys() else None


def record(path: Path, reference: dict[str, Any], metrics: Any) -> None:
    """Take the intervals of the small default from the metrics, and seal the rows.

    What is recorded is where the mean of a rerun is to be expected: both runs vary, so the metric's interval is widened
    by the square root of two.
    """
    for row in reference["default"]:
        found = look_up(metrics, row)
        if found is None:
            raise UserError(f"{row['what']}: not in the metrics: run `make repro` before recording")
        if "sign" not in row:
            row["low"] = round(found["mean"] - sqrt(2) * (found["mean"] - found["low"]), 4)
            row["high"] = round(found["mean"] + sqrt(2) * (found["high"] - found["mean"]), 4)
    groups = [
        f'"{group}": [\n' + ",\n".join("  " + json.dumps(row) for row in reference[group]) + "\n]"
        for group in ("default", "paper")
    ]
    path.write_text("{\n" + ",\n".join([f'"seal": "{seal_of(reference)}"', *groups]) + "\n}\n")
