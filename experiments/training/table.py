"""reports/training.json, which two commands share: each replaces its own rows."""

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


def store(path: Path, own: str, rows: list[dict[str, Any]], **about: Any) -> None:
    """Put the rows in place of those whose names start with `own`."""
    found = json.loads(path.read_text()) if path.exists() else {"machine": {}, "rows": []}
    found["machine"][own] = {"torch": torch.__version__, "python": platform.python_version(), **about}
    found["rows"] = [row for row in found["rows"] if row["name"].split(", ")[0] != own] + rows
    path.write_text(json.dumps(found, indent=1) + "\n")
