"""The study's cells as arrays, and the comparisons that the page makes of them. S seeds, P problems."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from replication.errors import UserError
from replication.evaluation.metrics import pass_at_k
from replication.evaluation.statistics import Interval, seed_interval


@dataclass
class Arm:
    """All seeds of one algorithm on one task."""

    name: str
    plain: np.ndarray  # [S] accuracy with erasure off, after the training
    erased: np.ndarray  # [S] with erasure on
    curves: list[np.ndarray]  # a seed's [V, 2]: tokens generated so far, plain held-out accuracy
    silent: float  # share of groups without signal, mean over steps and seeds
    erasure_rate: float  # erased over all attempts at segments, mean over steps and seeds

    @property
    def tokens(self) -> np.ndarray:
        """[S] tokens that the training generated: kept, erased, and put aside by dynamic sampling."""
        return np.array([curve[-1, 0] for curve in self.curves])


@dataclass
class Task:
    """One task: its trained arms, and what the untrained policies do under other sampling."""

    name: str
    arms: dict[str, Arm]
    settings: list[dict[str, Any]]  # a seed's sampling settings; empty where the controls were not run
    auc: dict[str, np.ndarray]  # reading -> [S] AUC of U for the first wrong segment, mean over segments
    samples: int  # of each problem

    def untrained(self, setting: str, key: str = "accuracy") -> np.ndarray:
        """[S] accuracy or tokens a sample of a sampling setting."""
        if key == "accuracy":
            return np.array([np.mean(seed[setting]["correct"]) / self.samples for seed in self.settings])
        return np.array([seed[setting][key] for seed in self.settings])


def read(folder: Path) -> list[Task]:
    """Every task of which there is a cell.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    tasks = []
    for path in sorted(p for p in folder.glob("*") if any(p.glob("*.json"))):
        try:
            cells = {cell.stem: json.loads(cell.read_text()) for cell in sorted(path.glob("*.json"))}
            samples = next(iter(cells.values()))["samples"]
            seeds = {name: len(cell["seeds"]) for name, cell in cells.items()}
            fewest = min(seeds, key=seeds.__getitem__)
            if seeds[fewest] < max(2, *seeds.values()):
                raise UserError(
                    f"{path}/{fewest}.json holds {seeds[fewest]} seeds, the task's others up to {max(seeds.values())}: "
                    "rerun it with as many --seeds, 2 or more"
                )
            inference = _sampled(cells)
            task = Task(path.name, {}, [seed["settings"] for seed in inference], _auc(inference), samples)
            start = task.untrained("plain") if inference else None
            task.arms = {name: _arm(name, cell["seeds"], start, samples) for name, cell in cells.items()}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: a cell of the study cannot be read ({error!r}): remove it, `make study`"
            ) from None
        tasks.append(task)
    if not tasks:
        raise UserError(f"{folder} holds no cells of the study: run `make study`")
    return tasks


def _sampled(cells: dict[str, Any]) -> list[dict[str, Any]]:
    """The untrained policies' seeds with the settings of every part; takes their cells out."""
    parts = [cells.pop(name)["seeds"] for name in sorted(cells) if name.startswith("untrained_")]
    seeds: dict[int, dict[str, Any]] = {}
    for found in (found for part in parts for found in part):
        seed = seeds.setdefault(found["seed"], {"settings": {}, "auc": {}})
        seed["settings"] |= found["settings"]
        seed["auc"] |= found.get("auc", {})
    whole = [seeds[number] for number in sorted(seeds)]
    return whole if all("plain" in seed["settings"] for seed in whole) else []


def _auc(inference: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    readings = inference[0]["auc"] if inference else {}
    return {r: np.array([np.mean([x for x in s["auc"][r] if x is not None]) for s in inference]) for r in readings}


def _arm(name: str, seeds: list[dict[str, Any]], start: np.ndarray | None, samples: int) -> Arm:
    curves = []
    for i, seed in enumerate(seeds):
        spent = np.cumsum([row["generated_tokens"] for row in seed["history"]])
        points = [(0.0, start[i])] if start is not None else []
        points += [(t, row["heldout"]) for t, row in zip(spent, seed["history"], strict=True) if "heldout" in row]
        points = [point for point in points if point[0] < spent[-1]]
        curves.append(np.array([*points, (spent[-1], np.mean(seed["plain"]["correct"]) / samples)]))
    rows = [row for seed in seeds for row in seed["history"]]
    return Arm(
        name,
        plain=np.array([np.mean(seed["plain"]["correct"]) / samples for seed in seeds]),
        erased=np.array([np.mean(seed["erased"]["correct"]) / samples for seed in seeds]),
        curves=curves,
        silent=float(np.mean([row["groups_without_signal"] for row in rows])),
        erasure_rate=float(np.mean([row["erasure_rate"] for row in rows])),
    )


def at_equal_steps(arm: Arm, other: Arm, mode: str = "plain") -> Interval:
    """Accuracy of one arm minus another's after the same number of steps, paired by seed (and so by warm start)."""
    return seed_interval(getattr(arm, mode) - getattr(other, mode))


def at_equal_tokens(arm: Arm, other: Arm) -> Interval:
    """Plain held-out accuracy of one arm minus another's when both have generated as many tokens, paired by seed: the
    curves, linear between the validated steps, at the total of whoever generated less."""
    differences = []
    for mine, theirs in zip(arm.curves, other.curves, strict=True):
        budget = min(mine[-1, 0], theirs[-1, 0])
        differences.append(np.interp(budget, *mine.T) - np.interp(budget, *theirs.T))
    return seed_interval(np.array(differences))


def of_several(task: Task, setting: str, kind: str, tokens: np.ndarray) -> np.ndarray:
    """[S] majority vote (`majority`) or best-of-n (`best`) of a setting for so many tokens a problem.

    Best-of-n: a budget between n and n + 1 samples is met by drawing one or the other at random, linear in between.
    Majority was counted for 1, 2, 4, 8 and 16 samples: the budget is rounded up to the next of these.

    Args:
        tokens: [S] budget of each seed.
    """
    out = []
    for seed, budget in zip(task.settings, tokens, strict=True):
        found = seed[setting]
        n = min(max(1, budget / found["tokens"]), task.samples)
        if kind == "best":
            right = torch.tensor(found["correct"])
            low, high = (float(pass_at_k(right, task.samples, k).mean()) for k in (floor(n), ceil(n)))
            out.append(low + (n - floor(n)) * (high - low))
        else:
            votes = sorted(int(k) for k in found[kind])
            out.append(found[kind][str(min((k for k in votes if k >= n), default=votes[-1]))])
    return np.array(out)


def best_of_several(task: Task, kind: str, tokens: np.ndarray) -> tuple[str, np.ndarray]:
    """The plain sampling, of all temperatures, whose majority vote or best-of-n is highest for so many tokens, and its
    [S] accuracies."""
    found = {name: of_several(task, name, kind, tokens) for name in plain_settings(task)}
    best = max(found, key=lambda name: float(found[name].mean()))
    return best, found[best]


def plain_settings(task: Task) -> list[str]:
    """Every sampling setting without erasure: `plain`, at temperature 1, and the others."""
    return [name for name in task.settings[0] if name == "plain" or name.startswith("temperature")]


def best_temperature(task: Task) -> str:
    """The sampling temperature with the highest accuracy, 1 (`plain`) included."""
    return max(plain_settings(task), key=lambda name: float(task.untrained(name).mean()))
