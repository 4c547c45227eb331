"""Where the page's numbers come from: versions, machine, data, seeds, settings. Nothing in here changes from one run of
the report to the next on the same machine, so that the same runs give the same page."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from replication.reporting.results import Arm
from replication.reporting.tables import Row, Table

PACKAGES = ("replication", "torch", "transformers", "lightning", "deepspeed", "peft", "math-verify", "numpy", "dvc")
PROCESSORS = Path("/proc/cpuinfo")


def processor() -> str:
    """The processor's name."""
    lines = PROCESSORS.read_text().splitlines() if PROCESSORS.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_table() -> Table:
    """The machine and the versions that wrote the page."""
    system = f"{platform.system()} {platform.machine()}"
    rows = [["processor", f"{processor()}, {os.cpu_count()} cores"], ["system", system]]
    rows += [["Python", platform.python_version()], *([name, version(name)] for name in PACKAGES)]
    return Table("machine", "Machine and versions of the process that wrote this page", ["what", "which"], _rows(rows))


def data_table(data: Mapping[str, Mapping[str, Any]]) -> Table:
    """The data of each model: the synthetic task and its seed, or each file's repository and revision.

    Args:
        data: model -> section `data` of params.yaml.
    """
    rows: list[Row] = []
    for model, section in data.items():
        sources = {"train": section.get("train"), **(section.get("benchmarks") or {})}
        found = {name: source for name, source in sources.items() if source}
        for name, source in found.items():
            revision = source.get("revision") or "not pinned"
            rows.append(Row([model, name, source.get("path", ""), revision], model))
        if not found:
            rows.append(
                Row([model, "all", f"made: {section.get('task', 'not named')}", f"seed {section.get('seed')}"], model)
            )
    columns = ["task", "part", "source", "revision or seed"]
    return Table("data", "Data", columns, rows)


def runs_table(models: Mapping[str, Sequence[Arm]]) -> Table:
    """The seeds of each arm, what it started from, and a hash of the settings that its runs record."""
    rows = [
        Row([model, arm.algorithm, ", ".join(arm.seeds), start(arm), settings_hash(arm)], model, arm.algorithm)
        for model, arms in models.items()
        for arm in arms
    ]
    columns = ["task", "algorithm", "seeds", "started from", "settings"]
    return Table("runs", "Runs", columns, rows)


def start(arm: Arm) -> str:
    """The weights that an arm's training began with."""
    found = sorted({f"{r.get('base')}{' @ ' + r['revision'] if r.get('revision') else ''}" for r in arm.records})
    return ", ".join(found) or "–"


def settings_hash(arm: Arm) -> str:
    """First digits of the SHA-256 of the settings, without the seed; one for each that differs."""
    texts = {json.dumps(record.get("settings"), sort_keys=True) for record in arm.records}
    return ", ".join(sorted(hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts)) or "–"


def _rows(rows: Sequence[Sequence[str]]) -> list[Row]:
    return [Row(row) for row in rows]
