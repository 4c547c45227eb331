"""Held-out accuracy while training."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments.study.arms import BASELINES, CONTROLS, EXTENSIONS
from experiments.study.compare import Task


def curves(task: Task, path: Path) -> None:
    """Plain held-out accuracy by generated tokens: algorithms and controls, mean over seeds, a band of one std."""
    figure, axis = plt.subplots(figsize=(7.5, 4.5))
    for name in [n for n in (*BASELINES, *CONTROLS, "e3rl", *EXTENSIONS) if n in task.arms]:
        seeds = np.array(task.arms[name].curves)  # [S, V, 2]
        x, y, spread = seeds[..., 0].mean(0) / 1e6, seeds[..., 1].mean(0), seeds[..., 1].std(0)
        (line,) = axis.plot(x, y, "-" if name.startswith("e3rl") else "--", marker=".", label=name)
        axis.fill_between(x, y - spread, y + spread, color=line.get_color(), alpha=0.1)
    axis.set(xlabel="million generated tokens, erased ones included", ylabel="plain held-out accuracy", title=task.name)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
