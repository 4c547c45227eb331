"""The report's text: every number in it comes from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from replication.evaluation.statistics import Interval, crossed_interval, verdict
from replication.reporting.figures import training_tokens
from replication.reporting.results import Arm


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _seeds(values: Sequence[float]) -> str:
    return " / ".join(f"{v:.3f}" for v in values)


def model_section(model: str, arms: Sequence[Arm], curves: str | None) -> str:
    """The results of one model."""
    parts = [f"## {model}"]
    for benchmark in sorted({cell[0] for arm in arms for cell in arm.cells()}):
        found = {mode for arm in arms for name, mode in arm.cells() if name == benchmark}
        modes = sorted(found, key=lambda mode: (not mode.startswith("plain"), mode))
        first = arms[0].metrics[0][benchmark][modes[0]]
        k = f"{first['samples']:.0f}"
        header = ["algorithm", "training tokens"]
        header += [f"Avg@{k} {mode}" for mode in modes] + [f"Pass@{k} {mode}" for mode in modes]
        header += [f"Maj@{k} {mode}" for mode in modes]
        header += [f"tokens a sample {mode}" for mode in modes] + [f"Avg@{k} {modes[0]}, by seed"]
        rows = [_row(arm, benchmark, modes) for arm in arms]
        parts.append(f"### {benchmark}: {first['problems']:.0f} problems x {k} samples")
        parts.append(markdown_table(header, rows))
        parts += [text for arm in arms[1:] if (text := _differences(arm, arms, benchmark, modes))]
    if curves:
        parts.append(f"![Learning curves of {model}]({curves})")
    return "\n\n".join(parts)


def _row(arm: Arm, benchmark: str, modes: Sequence[str]) -> list[str]:
    cells = [(benchmark, mode) for mode in modes]
    spent = f"{training_tokens(arm)[:, -1].mean() / 1e6:.2f} M" if arm.history else "0"
    row = [arm.algorithm, spent]
    row += [str(share(arm.correct[cell])) for cell in cells]
    row += [str(share(arm.passed[cell])) for cell in cells]
    row += [f"{arm.majority[cell].mean():.3f}" for cell in cells]
    row += [f"{arm.tokens[cell].mean():.1f}" for cell in cells]
    return [*row, _seeds(arm.correct[cells[0]].mean(1).tolist())]


def share(values: np.ndarray) -> Interval:
    """Mean of [S, P] shares, with its interval."""
    return crossed_interval(values).within(0.0, 1.0)


def difference(arm: Arm, other: Arm, cell: tuple[str, str], other_cell: tuple[str, str]) -> Interval:
    """Paired difference of Avg@k, arm minus other, with its interval. Seeds are paired in order, problems by name."""
    a, b = arm.correct[cell], other.correct[other_cell]
    return crossed_interval(a - b if a.shape == b.shape else a - b.mean(0, keepdims=True))


def _differences(arm: Arm, arms: Sequence[Arm], benchmark: str, modes: Sequence[str]) -> str:
    if not is_ours(arm):
        return ""
    parts = []
    for mode in modes:
        cell = benchmark, mode
        if (best := best_baseline(arms, cell)) is not None:
            gain = difference(arm, best, cell, cell)
            parts.append(f"{mode}: {gain} against {best.algorithm}, a gain is {verdict(gain)}")
    return (
        f"{arm.algorithm} minus the best baseline, Avg@k, paired over problems: " + "; ".join(parts) + "."
        if parts
        else ""
    )


def is_ours(arm: Arm) -> bool:
    """E3RL or an extension of it; everything else that is trained is a baseline."""
    return arm.algorithm.startswith("e3rl")


def best_baseline(arms: Sequence[Arm], cell: tuple[str, str]) -> Arm | None:
    """The trained baseline with the highest Avg@k in a benchmark and mode."""
    rivals = [arm for arm in arms if arm.history and not is_ours(arm) and cell in arm.correct]
    return max(rivals, key=lambda arm: float(arm.correct[cell].mean()), default=None)


def model_metrics(arms: Sequence[Arm]) -> dict[str, Any]:
    """algorithm -> benchmark -> mode -> metrics of one model, as intervals over seeds and problems.

    `lift` is erased minus plain sampling of the same weights; `over_baseline` this algorithm minus the best baseline in
    the same mode, and `gain_over_baseline` the same as a share of that baseline's mean.
    """
    out: dict[str, Any] = {}
    for arm in arms:
        for benchmark, mode in arm.cells():
            cell = benchmark, mode
            entry: dict[str, Any] = {
                "avg": share(arm.correct[cell])._asdict(),
                "pass": share(arm.passed[cell])._asdict(),
                "maj": share(arm.majority[cell])._asdict(),
                "tokens": float(arm.tokens[cell].mean()),
                "seeds": arm.correct[cell].mean(1).tolist(),
            }
            if mode == "erased" and (benchmark, "plain") in arm.correct:
                entry["lift"] = difference(arm, arm, cell, (benchmark, "plain"))._asdict()
            best = best_baseline(arms, cell)
            if best is not None and is_ours(arm):
                over = difference(arm, best, cell, cell)
                entry["over_baseline"] = {**over._asdict(), "gain": verdict(over)}
                if base := float(best.correct[cell].mean()):
                    entry["gain_over_baseline"] = {key: value / base for key, value in over._asdict().items()}
            out.setdefault(arm.algorithm, {}).setdefault(benchmark, {})[mode] = entry
    for arm in arms:
        if is_ours(arm) and arm.cells():
            out[arm.algorithm]["average"] = average_gain(arm, arms)
    return out


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
        out[mode] = {"over_baseline": {**over._asdict(), "gain": verdict(over)}}
        if base := level[best.algorithm]:
            out[mode]["gain_over_baseline"] = {key: value / base for key, value in over._asdict().items()}
    return out


HEAD = """# Report

Written by `python -m replication.report` from the runs in `runs/`; rerun by `make repro`. Intervals are 95 %, over
training seeds and problems as if both had been drawn anew (over problems alone where there is one seed); all seeds
share one warm start. A gain is *reproduced* where its interval lies above 0, *not reproduced* where it rules out
0.02, else *underpowered*. *plain* has erasure off, *erased* on; the weights are the same. Tokens count all that was
generated, erased ones included. `e3rl` is the letter of the paper as we reconstruct it; `e3rl_mixed` is an extension
of ours. Names: docs/glossary.md."""


def head(models: Sequence[str]) -> str:
    """The page's opening, which says which of the paper's models are missing from it."""
    missing = [name for name in ("q4b", "q8b") if name not in models]
    return f"{HEAD}\n\n**Not run: the paper's {' and '.join(missing)}.**" if missing else HEAD
