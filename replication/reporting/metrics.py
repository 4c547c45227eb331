"""The numbers of reports/metrics.json: every one with an interval, so that the gate can hold it against others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from replication.evaluation.statistics import Interval, crossed_interval, seed_interval, verdict
from replication.reporting.results import Arm, Cell

OWN = "own"  # no profile, as config.profiles has it: imported, it would make the study's report depend on all settings

# means over a training's steps, see docs/glossary.md
TRAINING = ("reward", "erasure_rate", "groups_without_signal", "allocation_spread", "mismatch")


def training_tokens(arm: Arm) -> np.ndarray:
    """[S, steps] tokens generated up to and with each step: kept, erased, and put aside by dynamic sampling."""
    return np.cumsum(np.array([[row["generated_tokens"] for row in rows] for rows in arm.history]), axis=1)


def share(values: np.ndarray) -> Interval:
    """Mean of [S, P] shares, with its interval: exact (Clopper and Pearson) where all are 0, or all are 1."""
    least = 0.025 ** (1 / values.shape[1])
    if (values == 1).all():
        return Interval(1.0, least, 1.0)
    if (values == 0).all():
        return Interval(0.0, 0.0, 1 - least)
    return crossed_interval(values).within(0.0, 1.0)


def difference(arm: Arm, other: Arm, cell: Cell, other_cell: Cell) -> Interval:
    """Paired difference of Avg@k, arm minus other, with its interval. Seeds are paired in order, problems by name."""
    a, b = arm.correct[cell], other.correct[other_cell]
    return crossed_interval(a - b if a.shape == b.shape else a - b.mean(0, keepdims=True))


def is_ours(arm: Arm) -> bool:
    """E3RL or an extension of it; everything else that is trained is a baseline."""
    return arm.algorithm.startswith("e3rl")


def best_baseline(arms: Sequence[Arm], cell: Cell) -> Arm | None:
    """The trained baseline with the highest Avg@k in a benchmark and mode."""
    rivals = [arm for arm in arms if arm.history and not is_ours(arm) and cell in arm.correct]
    return max(rivals, key=lambda arm: float(arm.correct[cell].mean()), default=None)


def best_temperature(arm: Arm, benchmark: str) -> Cell | None:
    """The plain mode at a temperature of its own that has the highest Avg@k."""
    tried = [cell for cell in arm.cells() if cell[0] == benchmark and cell[1].startswith("plain@")]
    return max(tried, key=lambda cell: float(arm.correct[cell].mean()), default=None)


def conditions(arm: Arm, cell: Cell) -> dict[str, Any]:
    """How an arm was sampled, by its evaluations' metrics: profile, thinking mode and share cut off, the mean over
    seeds. None where they are older than what they would say."""
    rows = [seed.get(cell[0], {}).get(cell[1], {}) for seed in arm.metrics]
    modes = {row.get("thinking") for row in rows}
    cut = [row["truncated"] for row in rows if "truncated" in row]
    return {
        "profile": " / ".join(sorted({row.get("profile", OWN) for row in rows})),
        "thinking": modes.pop() if len(modes) == 1 else None,
        "truncated": float(np.mean(cut)) if cut else None,
    }


def model_metrics(arms: Sequence[Arm]) -> dict[str, Any]:
    """algorithm -> benchmark -> mode -> metrics of one model, as intervals over seeds and problems.

    What the training reports stands under `training` -> `rollouts`. `lift` is erased minus plain sampling of the same
    weights, `over_temperature` erased minus plain sampling at the best of the temperatures tried; `over_baseline` this
    algorithm minus the best baseline in the same mode, and `gain_over_baseline` the same as a share of that baseline's
    mean.
    """
    out: dict[str, Any] = {}
    for arm in arms:
        for benchmark, mode in arm.cells():
            cell = benchmark, mode
            entry: dict[str, Any] = {
                **conditions(arm, cell),
                "avg": share(arm.correct[cell])._asdict(),
                "pass": share(arm.passed[cell])._asdict(),
                "maj": share(arm.majority[cell])._asdict(),
                "tokens": crossed_interval(arm.tokens[cell])._asdict(),
                "seeds": arm.correct[cell].mean(1).tolist(),
            }
            if mode == "erased" and (benchmark, "plain") in arm.correct:
                entry["lift"] = difference(arm, arm, cell, (benchmark, "plain"))._asdict()
            if mode == "erased" and (rival := best_temperature(arm, benchmark)):
                entry["over_temperature"] = difference(arm, arm, cell, rival)._asdict()
            best = best_baseline(arms, cell)
            if best is not None and is_ours(arm):
                over = difference(arm, best, cell, cell)
                base = float(best.correct[cell].mean())
                entry["over_baseline"] = {**over._asdict(), "gain": verdict(over, room=1 - base)}
                if base:
                    entry["gain_over_baseline"] = {key: value / base for key, value in over._asdict().items()}
            out.setdefault(arm.algorithm, {}).setdefault(benchmark, {})[mode] = entry
    for arm in arms:
        if is_ours(arm) and arm.cells():
            out[arm.algorithm]["average"] = average_gain(arm, arms)
        if arm.history:
            out[arm.algorithm]["training"] = {"rollouts": training_metrics(arm)}
    return out


def training_metrics(arm: Arm) -> dict[str, Any]:
    """Means over an arm's training steps, and the tokens generated in all, as intervals over seeds."""
    found = {"tokens": training_tokens(arm)[:, -1]}
    for name in TRAINING:
        if all(name in row for rows in arm.history for row in rows):
            found[name] = np.array([np.mean([row[name] for row in rows]) for rows in arm.history])
    return {name: over_seeds(values)._asdict() for name, values in found.items()}


def over_seeds(values: np.ndarray) -> Interval:
    """Mean of [S] values with its interval; one seed has none."""
    mean = float(values.mean())
    return seed_interval(values) if len(values) > 1 else Interval(mean, mean, mean)


def average_gain(arm: Arm, arms: Sequence[Arm]) -> dict[str, Any]:
    """mode -> `over_baseline` and `gain_over_baseline` of the mean over benchmarks, against the baseline that is best
    there; the benchmarks' problems differ, so their variances add."""
    out: dict[str, Any] = {}
    for mode in sorted({mode for _, mode in arm.cells()}):
        cells = [cell for cell in arm.cells() if cell[1] == mode]
        rivals = [other for other in arms if other.history and not is_ours(other) and {*cells} <= {*other.cells()}]
        if not rivals:
            continue
        level = {other.algorithm: float(np.mean([other.correct[cell].mean() for cell in cells])) for other in rivals}
        best = max(rivals, key=lambda other: level[other.algorithm])
        gains = [difference(arm, best, cell, cell) for cell in cells]
        mean = float(np.mean([gain.mean for gain in gains]))
        half = float(np.sqrt(np.sum([((gain.high - gain.low) / 2) ** 2 for gain in gains])) / len(gains))
        over = Interval(mean, mean - half, mean + half)
        base = level[best.algorithm]
        out[mode] = {"over_baseline": {**over._asdict(), "gain": verdict(over, room=1 - base)}}
        if base:
            out[mode]["gain_over_baseline"] = {key: value / base for key, value in over._asdict().items()}
    return out
