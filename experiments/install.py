"""What each install takes: a fresh environment without pip's cache, one after the other.

    python -m experiments.install -> reports/install.json

What it should show: who only erases needs about half of what everything takes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from replication.errors import Parser, UserError, run_command
from replication.outputs import write_whole
from replication.reporting.provenance import processor

ROOT = Path(__file__).parents[1]
INSTALLS = (".", ".[train]", ".[dev]")


def size_of(folder: Path) -> int:
    """Bytes on the disk of a folder's files."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def measured(install: str) -> dict[str, float]:
    """Megabytes of the environment, and seconds of the processor, those of making it among them."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python = Path(folder, "bin/python")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", install]
        for argv in ([sys.executable, "-m", "venv", folder], pip):
            done = subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{install} could not be installed: {done.stderr.strip().splitlines()[-1]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"megabytes": round(size_of(Path(folder)) / 1e6), "processor seconds": round(seconds)}


def main() -> None:
    parser = Parser(prog="python -m experiments.install", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports/install.json"))
    args = parser.parse_args()
    found: dict[str, Any] = {"date": date.today().isoformat(), "processor": processor(), "installs": {}}
    for install in INSTALLS:
        found["installs"][install] = measured(install)
        print(install, found["installs"][install], flush=True)
    write_whole(args.out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
