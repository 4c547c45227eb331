"""The study's numbers (reports/study.json) as rows: algorithms, ablations and controls, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from replication.evaluation.statistics import Interval
from replication.reporting.tables import Row, Table

PREFIX = "study "  # of a task of the study; the models of the matrix have no prefix
UNTRAINED = "untrained_"
LETTER, RIVALS = "e3rl", ("grpo", "grpo_cool", "dapo")
TOKENS, STEPS = "equal tokens", "equal steps"
Study = dict[str, dict[str, dict[str, dict[str, float]]]]  # task -> arm -> metric -> mean, low, high


def tasks(study: Study) -> list[str]:
    """The study's tasks as the page names them."""
    return [f"{PREFIX}{task}" for task in study]


def arms(study: Study) -> Iterator[tuple[str, str, dict[str, Interval]]]:
    """Task, name and intervals of each trained arm."""
    for task, found in study.items():
        for name, metrics in found.items():
            if not name.startswith(UNTRAINED):
                yield f"{PREFIX}{task}", name, {key: Interval(**value) for key, value in metrics.items()}


def against_letter(study: Study) -> list[dict[str, Any]]:
    """Each variant of the letter minus the letter: what an ablation or an extension changes."""
    return [
        _point(task, name, measure, metrics[key])
        for task, name, metrics in arms(study)
        for measure in (TOKENS, STEPS)
        if name.startswith(LETTER) and (key := f"minus_{LETTER}_{measure.replace(' ', '_')}") in metrics
    ]


def against_rivals(study: Study) -> list[dict[str, Any]]:
    """Each arm minus the baselines, at equal tokens."""
    return [
        _point(task, name, f"minus {rival}", metrics[key])
        for task, name, metrics in arms(study)
        for rival in RIVALS
        if (key := f"minus_{rival}_equal_tokens") in metrics
    ]


def controls(study: Study) -> list[dict[str, Any]]:
    """Accuracy of the untrained policies by sampling setting."""
    return [
        _point(
            f"{PREFIX}{task}",
            name.removeprefix(UNTRAINED).replace("_", " "),
            "Avg@16",
            Interval(**metrics["avg"]).within(0, 1),
        )
        for task, found in study.items()
        for name, metrics in found.items()
        if name.startswith(UNTRAINED)
    ]


def _point(task: str, arm: str, measure: str, found: Interval) -> dict[str, Any]:
    return {"task": task, "algorithm": arm, "measure": measure, **found._asdict()}


def _shares(metrics: dict[str, Interval]) -> list[Interval]:
    return [metrics[name].within(0, 1) for name in ("plain", "erased")]


def training_table(study: Study) -> Table:
    """The trained arms with all their comparisons."""
    compared = [f"minus_{rival}_{what}" for rival in (*RIVALS, LETTER) for what in ("equal_tokens", "equal_steps")]
    rows = [
        Row([task, name, *_shares(metrics), *(metrics.get(key) for key in ("tokens", *compared))], task, name)
        for task, name, metrics in arms(study)
    ]
    names = [f"minus {rival}, {what}" for rival in (*RIVALS, LETTER) for what in (TOKENS, STEPS)]
    columns = ["task", "algorithm", "Avg@16 plain", "Avg@16 erased", "tokens of the training", *names]
    return Table("study-training", "The study: trained arms and their differences", columns, rows)


def controls_table(study: Study) -> Table:
    """The untrained policies under every sampling setting."""
    rows = [
        Row([at["task"], at["algorithm"], Interval(at["mean"], at["low"], at["high"])], at["task"], "untrained")
        for at in controls(study)
    ]
    return Table(
        "study-sampling", "The study: untrained policies by sampling setting", ["task", "sampling", "Avg@16"], rows
    )
