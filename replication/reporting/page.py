"""The report's text: every number in it comes from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.evaluation.statistics import Interval, bootstrap
from replication.reporting.figures import training_tokens
from replication.reporting.results import UNTRAINED, Arm


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
    base = next((a for a in arms if a.algorithm == "grpo"), None)
    if base is None or arm is base or arm.algorithm == UNTRAINED:
        return ""
    parts = [f"{mode}: {difference(arm, base, (benchmark, mode), (benchmark, mode))}" for mode in modes]
    return f"{arm.algorithm} minus grpo, Avg@k, paired over problems: " + "; ".join(parts) + "."


def model_metrics(arms: Sequence[Arm]) -> dict[str, Any]:
    """algorithm -> benchmark -> mode -> metrics of one model, as intervals over seeds and problems.

    `lift` is erased minus plain sampling of the same weights; `over_grpo` this algorithm minus GRPO in the same mode,
    and `gain_over_grpo` the same as a share of GRPO's mean.
    """
    grpo = next((arm for arm in arms if arm.algorithm == "grpo"), None)
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
            if grpo is not None and arm is not grpo and cell in grpo.correct:
                entry["over_grpo"] = (over := difference(arm, grpo, cell, cell))._asdict()
                base = float(grpo.correct[cell].mean())
                entry["gain_over_grpo"] = {key: value / base for key, value in over._asdict().items()} if base else None
            out.setdefault(arm.algorithm, {}).setdefault(benchmark, {})[mode] = entry
    return out


HEAD = """# Report

Written by `python -m replication.report` from the runs in `runs/`; rerun by `make repro`. Intervals are 95 % bootstrap
intervals over training seeds and problems. *plain* samples with erasure off, *erased* with erasure on; the weights are
the same. Tokens count everything that was generated, erased segments included. `e3rl` is the letter of the paper as we
reconstruct it; `e3rl_mixed` is an extension of ours. The paper's own rows (4B, 8B) are not run here."""
