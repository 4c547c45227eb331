"""The runs of the matrix as rows: results, trainings, learning curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from replication.evaluation.statistics import Interval
from replication.reporting.metrics import TRAINING, training_tokens
from replication.reporting.results import Arm
from replication.reporting.tables import Row, Table

DRAWN = 100  # steps of a curve that are drawn at most
ROLLOUTS = {"reward_plain": "plain rollouts", "reward_erasable": "erased rollouts"}
MEAN = "mean"


def interval(found: Mapping[str, float] | None) -> Interval | None:
    """An interval of reports/metrics.json."""
    return Interval(found["mean"], found["low"], found["high"]) if found else None


def entries(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Model, algorithm, benchmark, mode and metrics of every evaluation in reports/metrics.json."""
    for model, algorithms in metrics.items():
        for algorithm, benchmarks in algorithms.items():
            for benchmark, modes in benchmarks.items():
                for mode, entry in sorted(modes.items(), key=lambda pair: (not pair[0].startswith("plain"), pair[0])):
                    if "avg" in entry:
                        yield model, algorithm, benchmark, mode, entry


def mode_of(thinking: bool | str | None) -> str | None:
    """Qwen3's thinking mode in words; None where it was not kept."""
    return ("on" if thinking else "off") if isinstance(thinking, bool) else thinking


def results_table(metrics: Mapping[str, Any]) -> Table:
    """Accuracy and tokens of every evaluation, and its difference to the best baseline."""
    rows = []
    for model, algorithm, benchmark, mode, entry in entries(metrics):
        numbers = [interval(entry[name]) for name in ("avg", "pass", "maj", "tokens")]
        over = entry.get("over_baseline")
        gains = [interval(over), over["gain"] if over else None]
        how = [entry["profile"], mode_of(entry["thinking"]), entry["truncated"]]
        rows.append(Row([model, algorithm, benchmark, mode, *how, *numbers, *gains], model, algorithm))
    columns = ["task", "algorithm", "benchmark", "sampling", "profile", "thinking", "cut off"]
    columns += ["Avg@k", "Pass@k", "Maj@k", "tokens a sample"]
    columns += ["minus the best baseline", "a gain is"]
    return Table("results", "Results of the runs", columns, rows)


def training_table(metrics: Mapping[str, Any]) -> Table:
    """What the trainings report, means over their steps."""
    names = ("tokens", *TRAINING)
    rows = []
    for model, algorithms in metrics.items():
        for algorithm, found in algorithms.items():
            if "training" in found:
                rollouts = found["training"]["rollouts"]
                numbers = [interval(rollouts.get(name)) for name in names]
                rows.append(Row([model, algorithm, *numbers], model, algorithm))
    columns = ["task", "algorithm", "tokens generated", *(name.replace("_", " ") for name in TRAINING)]
    return Table("training", "Trainings", columns, rows)


def curves(model: str, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Mean reward of the plain and of the erased rollouts by step and by generated tokens, of each seed and of all."""
    rows = []
    for arm in arms:
        for key, name in ROLLOUTS.items():
            if not arm.history or key not in arm.history[0][0]:
                continue
            reward = np.array([[row[key] for row in seed] for seed in arm.history])  # [S, steps]
            tokens = training_tokens(arm)
            lines = [*zip(arm.seeds, tokens, reward, strict=True), (MEAN, tokens.mean(0), reward.mean(0))]
            every = math.ceil(reward.shape[1] / DRAWN)
            rows += [
                {
                    "task": model,
                    "algorithm": arm.algorithm,
                    "rollouts": name,
                    "seed": seed,
                    "step": step + 1,
                    "tokens": round(float(spent[step])),
                    "reward": round(float(line[step]), 4),
                }
                for seed, spent, line in lines
                for step in range(0, reward.shape[1], every)
            ]
    return rows


def curves_table(models: Mapping[str, Sequence[Arm]]) -> Table:
    """The numbers of the learning curves, as they are drawn."""
    names = ["task", "algorithm", "rollouts", "seed", "step", "tokens", "reward"]
    rows = [
        Row([row[name] for name in names], row["task"], row["algorithm"])
        for model, arms in models.items()
        for row in curves(model, arms)
    ]
    return Table("curves", "Learning curves, a row a step", names, rows)


def costs(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy and tokens of every evaluation, to be drawn."""
    return [
        {
            "task": model,
            "algorithm": algorithm,
            "benchmark": benchmark,
            "sampling": mode,
            "tokens": entry["tokens"]["mean"],
            **entry["avg"],
        }
        for model, algorithm, benchmark, mode, entry in entries(metrics)
    ]
