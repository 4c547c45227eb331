"""The report's text: every number in it comes from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.evaluation.statistics import Interval, bootstrap
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
        modes = [mode for mode in ("plain", "erased") if any((benchmark, mode) in arm.correct for arm in arms)]
        first = arms[0].metrics[0][benchmark][modes[0]]
        k = f"{first['samples']:.0f}"
        header = ["algorithm", "training tokens"]
        header += [f"Avg@{k} {mode}" for mode in modes] + [f"Pass@{k} {mode}" for mode in modes]
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
    row += [str(bootstrap(arm.correct[cell])) for cell in cells]
    row += [str(bootstrap(arm.passed[cell])) for cell in cells]
    row += [f"{arm.tokens[cell].mean():.1f}" for cell in cells]
    return [*row, _seeds(arm.correct[cells[0]].mean(1).tolist())]


def difference(arm: Arm, other: Arm, cell: tuple[str, str], other_cell: tuple[str, str]) -> Interval:
    """Paired difference of Avg@k, arm minus other, with its interval. Seeds are paired in order, problems by name."""
    a, b = arm.correct[cell], other.correct[other_cell]
    return bootstrap(a - b) if a.shape == b.shape else bootstrap(a - b.mean(0, keepdims=True))


def _differences(arm: Arm, arms: Sequence[Arm], benchmark: str, modes: Sequence[str]) -> str:
    if not is_ours(arm):
        return ""
    parts = []
    for mode in modes:
        cell = benchmark, mode
        if (best := best_baseline(arms, cell)) is not None:
            parts.append(f"{mode}: {difference(arm, best, cell, cell)} against {best.algorithm}")
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
                "avg": bootstrap(arm.correct[cell])._asdict(),
                "pass": bootstrap(arm.passed[cell])._asdict(),
                "tokens": float(arm.tokens[cell].mean()),
                "seeds": arm.correct[cell].mean(1).tolist(),
            }
            if mode == "erased" and (benchmark, "plain") in arm.correct:
                entry["lift"] = difference(arm, arm, cell, (benchmark, "plain"))._asdict()
            best = best_baseline(arms, cell)
            if best is not None and is_ours(arm):
                entry["over_baseline"] = (over := difference(arm, best, cell, cell))._asdict()
                if base := float(best.correct[cell].mean()):
                    entry["gain_over_baseline"] = {key: value / base for key, value in over._asdict().items()}
            out.setdefault(arm.algorithm, {}).setdefault(benchmark, {})[mode] = entry
    return out


HEAD = """# Report

Written by `python -m replication.report` from the runs in `runs/`; rerun by `make repro`. Intervals are 95 % bootstrap
intervals over training seeds and problems; few seeds make them too narrow, and all share one warm start. *plain* has
erasure off, *erased* on; the weights are the same. Tokens count all that was generated, erased ones included. `e3rl`
is the letter of the paper as we reconstruct it; `e3rl_mixed` is an extension of ours. Names: docs/glossary.md."""


def head(models: Sequence[str]) -> str:
    """The page's opening, which says which of the paper's models are missing from it."""
    missing = [name for name in ("q4b", "q8b") if name not in models]
    return f"{HEAD}\n\n**Not run: the paper's {' and '.join(missing)}.**" if missing else HEAD
