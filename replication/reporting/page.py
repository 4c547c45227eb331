"""The report's text: every number in it comes from the runs."""

from __future__ import annotations

from collections.abc import Sequence

from replication.evaluation.statistics import verdict
from replication.reporting.default import mode_of
from replication.reporting.metrics import best_baseline, conditions, difference, is_ours, share, training_metrics
from replication.reporting.results import Arm, Cell
from replication.reporting.tables import shown


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
        header = ["algorithm", "sampling", f"Avg@{k}", f"Pass@{k}", f"Maj@{k}", "tokens a sample", f"Avg@{k} by seed"]
        header += ["profile", "thinking", "cut off"]
        rows = [_row(arm, (benchmark, mode)) for mode in modes for arm in arms]
        parts.append(f"### {benchmark}: {first['problems']:.0f} problems x {k} samples")
        parts.append(markdown_table(header, rows))
        parts += [text for arm in arms[1:] if (text := _differences(arm, arms, benchmark, modes))]
    if trained := [arm for arm in arms if arm.history]:
        parts += [f"### Training of {model}", markdown_table(TRAINING_HEADER, [_training_row(arm) for arm in trained])]
    if curves:
        parts.append(f"![Learning curves of {model}]({curves})")
    return "\n\n".join(parts)


def _row(arm: Arm, cell: Cell) -> list[str]:
    row = [arm.algorithm, cell[1], str(share(arm.correct[cell])), str(share(arm.passed[cell]))]
    row += [f"{arm.majority[cell].mean():.3f}", f"{arm.tokens[cell].mean():.1f}"]
    how = conditions(arm, cell)
    known = [shown(value) for value in (how["profile"], mode_of(how["thinking"]), how["truncated"])]
    return [*row, _seeds(arm.correct[cell].mean(1).tolist()), *known]


TRAINING_HEADER = ["algorithm", "tokens", "reward", "erasure rate", "groups without signal", "allocation spread"]


def _training_row(arm: Arm) -> list[str]:
    found = training_metrics(arm)
    names = ("reward", "erasure_rate", "groups_without_signal", "allocation_spread")
    numbers = [f"{found[name]['mean']:.3f}" if name in found else "-" for name in names]
    return [arm.algorithm, f"{found['tokens']['mean'] / 1e6:.2f} M", *numbers]


def _differences(arm: Arm, arms: Sequence[Arm], benchmark: str, modes: Sequence[str]) -> str:
    if not is_ours(arm):
        return ""
    parts = []
    for mode in modes:
        cell = benchmark, mode
        if "@" not in mode and (best := best_baseline(arms, cell)) is not None:
            gain = difference(arm, best, cell, cell)
            word = verdict(gain, room=1 - float(best.correct[cell].mean()))
            parts.append(f"{mode}: {gain} against {best.algorithm}, a gain is {word}")
    return (
        f"{arm.algorithm} minus the best baseline, Avg@k, paired over problems: " + "; ".join(parts) + "."
        if parts
        else ""
    )


HEAD = """# Report

Written by `python -m replication.report` from the runs in `runs/` that params.yaml's matrix names; `make repro` reruns
it. Intervals are 95 %, over training seeds and problems as if both had been drawn anew (over problems alone where there
is one seed). Where every sample is right, or none is, the interval is that of as many problems passed. All seeds share
one warm start, and another seed of it would give other numbers. A gain is *out of reach* where the baseline is above
0.98. It is *underpowered* where nothing varies; else it is *not reproduced* where its interval rules out 0.02,
*reproduced* where the interval lies above 0, and *underpowered* elsewhere. *plain* has erasure off, *erased* on,
*plain@0.3* is plain at temperature 0.3; the weights are the same. Tokens count all that was generated, erased ones
included; *cut off* is the share of samples that did not end. A *profile* is a named set of sampling settings, *own*
those of params.yaml (docs/profiles.md); *thinking* is Qwen3's mode. `e3rl` is the letter of the paper as we reconstruct
it; `e3rl_mixed` is an extension of ours. Names: docs/glossary.md."""


def head(models: Sequence[str]) -> str:
    """The page's opening, which says which of the paper's models are missing from it."""
    missing = [name for name in ("q4b", "q8b") if name not in models]
    return f"{HEAD}\n\n**Not run: the paper's {' and '.join(missing)}.**" if missing else HEAD
