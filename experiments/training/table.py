"""reports/training.json, which two commands share: each replaces rows of its own, by name."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

GIB = 2**30


def available() -> int:
    """Bytes that a process can take without driving others out."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def store(path: Path, rows: list[dict[str, Any]], **about: Any) -> None:
    """Put the rows, each with what it was measured with, in place of those of the same names."""
    found = json.loads(path.read_text()) if path.exists() else {"rows": []}
    machine = {"torch": torch.__version__, "python": platform.python_version(), **about}
    names = {row["name"] for row in rows}
    found["rows"] = [row for row in found["rows"] if row["name"] not in names] + [{**row, **machine} for row in rows]
    path.write_text(json.dumps(found, indent=1) + "\n")
