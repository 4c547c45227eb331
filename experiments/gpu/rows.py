"""What was measured: gpu.jsonl, a row as it comes, so that no crash takes it away, and gpu.json at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replication.errors import UserError
from replication.outputs import write_whole

ROWS, REPORT, LOG = "gpu.jsonl", "gpu.json", "gpu.log"
MEASURED, FAILED, SKIPPED = "measured", "failed", "skipped"

Row = dict[str, Any]


class Skipped(Exception):
    """What a group needs is not here, and why."""


class Rows:
    """Adds the rows of a group to a folder's.

    Args:
        folder: where gpu.jsonl lies.
        group: whose rows these are.
    """

    def __init__(self, folder: Path, group: str):
        self.folder, self.group = folder, group

    def add(self, name: str, value: float | str, unit: str = "", wanted: str = "", note: str = "") -> None:
        """Add what was measured; `wanted` is what the value should be, such as `>= 0.6`."""
        met = None
        if wanted:
            sign, bound = wanted.split()
            met = value >= float(bound) if sign == ">=" else value <= float(bound)  # type: ignore[operator]
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # JSON knows no nan
        self._write(MEASURED, name, value=value, unit=unit, wanted=wanted, met=met, note=note)

    def failed(self, reason: str) -> None:
        """The group did not come to its end."""
        self._write(FAILED, self.group, note=reason)

    def skipped(self, reason: str) -> None:
        """The group was not begun, or had nothing to do."""
        self._write(SKIPPED, self.group, note=reason)

    def value(self, name: str) -> float | None:
        """What a row of any group says, if there is one."""
        found = [row["value"] for row in read_rows(self.folder) if row["name"] == name and row["state"] == MEASURED]
        return float(found[-1]) if found else None

    def _write(self, state: str, name: str, **more: Any) -> None:
        blank = {"value": None, "unit": "", "wanted": "", "met": None, "note": ""}
        line = json.dumps({"group": self.group, "state": state, "name": name, **blank, **more})
        with (self.folder / ROWS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_rows(folder: Path) -> list[Row]:
    """The rows of a folder, in the order they came; a line that was cut as its process died is none."""
    path = folder / ROWS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def forget(folder: Path, group: str) -> None:
    """Drop a group's rows, which are to be measured anew."""
    rows = read_rows(folder)
    if kept := [row for row in rows if row["group"] != group]:
        write_whole(folder / ROWS, "".join(json.dumps(row) + "\n" for row in kept))
    else:
        (folder / ROWS).unlink(missing_ok=True)


def check_same(folder: Path, machine: Row) -> None:
    """Raise a `UserError` where a folder's rows are of another machine or other code."""
    path = folder / REPORT
    if not path.exists():
        return
    before = read_report(path)["machine"]
    differ = [key for key in {**before, **machine} if before.get(key) != machine.get(key)]
    if differ:
        key = differ[0]
        raise UserError(
            f"{path} is of another machine or other code ({key}: {before.get(key)}, here {machine.get(key)}): name "
            "another folder by --out"
        )


def write_report(folder: Path, machine: Row, date: str, order: Sequence[str]) -> Row:
    """Write gpu.json, the rows by group, and return it."""
    place = {group: number for number, group in enumerate(order)}
    rows = sorted(read_rows(folder), key=lambda row: place.get(row["group"], len(place)))
    report = {"machine": machine, "date": date, "rows": rows}
    write_whole(folder / REPORT, json.dumps(report, indent=1) + "\n")
    return report


def read_report(path: Path) -> Row:
    """A gpu.json.

    Raises:
        UserError: it is not one.
    """
    try:
        report: Row = json.loads(path.read_text(encoding="utf-8"))
        if {"machine", "date", "rows"} <= report.keys():
            return report
    except (ValueError, AttributeError):
        pass
    raise UserError(f"{path} is no report of `python -m experiments.gpu`: name the gpu.json of its --out")
