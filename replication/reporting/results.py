"""What the finished runs hold, read from runs/."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from replication.errors import UserError

UNTRAINED = "untrained"
Cell = tuple[str, str]  # benchmark, mode


@dataclass
class Arm:
    """All seeds of one algorithm on one model; S seeds, P problems."""

    model: str
    algorithm: str
    seeds: list[str]
    metrics: list[dict[str, Any]]  # a seed's metrics.json: benchmark -> mode -> metrics
    correct: dict[Cell, np.ndarray]  # [S, P] share of correct samples
    passed: dict[Cell, np.ndarray]  # [S, P] whether one of the samples is correct
    majority: dict[Cell, np.ndarray]  # [S, P] chance that the majority of the samples is right
    tokens: dict[Cell, np.ndarray]  # [S, P] tokens a sample, erased ones included
    history: list[list[dict[str, float]]]  # a seed's training steps; none for the untrained policy
    records: list[dict[str, Any]]  # a seed's run.json: the settings it trained with; none for the untrained policy
    anatomies: list[dict[str, Any]]  # a seed's anatomy.json: benchmark -> mode -> anatomy; none where it was not kept

    def cells(self) -> list[Cell]:
        """The benchmarks and modes that every seed was evaluated on."""
        return sorted(self.correct)


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete {path.parent} and run `make repro`") from None


def _object(path: Path) -> dict[str, Any]:
    return dict(_parsed(path, path.read_text(encoding="utf-8")))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [_parsed(path, line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_arm(runs: Path, model: str, algorithm: str, seeds: Sequence[str]) -> Arm:
    """Read one arm from runs/evaluate and runs/train.

    Raises:
        UserError: one of its seeds was not trained, or not evaluated.
    """
    folders = [runs / "evaluate" / model / algorithm / seed for seed in seeds]
    trained = [runs / "train" / model / algorithm / seed for seed in seeds if algorithm != UNTRAINED]
    for folder in trained:
        flags = f"--model {model} --algorithm {algorithm} --seed {folder.name}"
        for name in ("history.jsonl", "run.json"):
            _require(folder / name, f"training: `make repro`, or `python -m replication.fit {flags}`")
    for folder in folders:
        which = "" if algorithm == UNTRAINED else f" --checkpoint runs/train/{model}/{algorithm}/{folder.name}"
        remedy = f"`make repro`, or `python -m replication.evaluate --model {model}{which}`"
        for name in ("metrics.json", "problems.jsonl"):
            _require(folder / name, f"evaluation: {remedy}")
    per_cell: dict[Cell, list[list[tuple[float, ...]]]] = {}
    for folder in folders:
        problems = sorted(_lines(folder / "problems.jsonl"), key=lambda row: str(row["problem"]))
        for cell in {(row["benchmark"], row["mode"]) for row in problems}:
            rows = [row for row in problems if (row["benchmark"], row["mode"]) == cell]
            per_cell.setdefault(cell, []).append(
                [(r["correct"] / r["samples"], float(r["correct"] > 0), r["tokens"], r["maj"]) for r in rows]
            )
    columns = {cell: np.array(values) for cell, values in per_cell.items()}  # [S, P, 4]
    return Arm(
        model=model,
        algorithm=algorithm,
        seeds=list(seeds),
        metrics=[_object(folder / "metrics.json") for folder in folders],
        correct={cell: v[..., 0] for cell, v in columns.items()},
        passed={cell: v[..., 1] for cell, v in columns.items()},
        tokens={cell: v[..., 2] for cell, v in columns.items()},
        majority={cell: v[..., 3] for cell, v in columns.items()},
        history=[_lines(folder / "history.jsonl") for folder in trained],
        records=[_object(folder / "run.json") for folder in trained],
        anatomies=[_object(path) for f in folders if (path := f / "anatomy.json").exists()],
    )


def _require(path: Path, what: str) -> None:
    if not path.exists():
        raise UserError(f"{path} is missing, though the matrix of params.yaml has this {what}")


def read_arms(runs: Path, wanted: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, list[Arm]]:
    """Model -> its arms, the untrained policy first; what else lies in the folder is left alone.

    Args:
        runs: folder of the runs.
        wanted: model -> algorithm -> seeds.

    Raises:
        UserError: one of these runs is missing, or a model's were evaluated on different problems.
    """
    found = {}
    for model in sorted(wanted):
        algorithms = sorted(wanted[model], key=lambda name: (name != UNTRAINED, name))
        found[model] = [read_arm(runs, model, algorithm, wanted[model][algorithm]) for algorithm in algorithms]
    for model, arms in found.items():
        shapes = {arm.algorithm: {cell: values.shape[1] for cell, values in arm.correct.items()} for arm in arms}
        if len({str(sorted(shape.items())) for shape in shapes.values()}) > 1:
            raise UserError(f"{runs}/evaluate/{model}: evaluated on different problems, evaluate them alike: {shapes}")
    return found
