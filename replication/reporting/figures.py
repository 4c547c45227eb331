"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from replication.reporting.metrics import training_tokens
from replication.reporting.results import Arm


def learning_curves(arms: Sequence[Arm], path: Path) -> None:
    """Reward of the plain and of the erased rollouts by step and by generated tokens; a thin line a seed."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for color, arm in zip(cycle(plt.rcParams["axes.prop_cycle"].by_key()["color"]), arms, strict=False):
        for key, style in (("reward_plain", "-"), ("reward_erasable", "--")):
            if key not in arm.history[0][0]:
                continue
            reward = np.array([[row[key] for row in rows] for rows in arm.history])  # [S, steps]
            steps, tokens = np.arange(1, reward.shape[1] + 1), training_tokens(arm) / 1e6
            label = f"{arm.algorithm}, {'plain' if style == '-' else 'erased'} rollouts"
            for axis, xs in ((axes[0], [steps] * len(reward)), (axes[1], tokens)):
                for x, y in zip(xs, reward, strict=True):
                    axis.plot(x, y, style, color=color, alpha=0.25, linewidth=0.8)
                axis.plot(np.mean(xs, axis=0), reward.mean(0), style, color=color, linewidth=1.8, label=label)
    axes[0].set(xlabel="training step", ylabel="mean reward of the rollouts", ylim=(0, 1))
    axes[1].set(xlabel="million generated tokens, erased ones included")
    axes[0].legend(fontsize=8, loc="lower right")
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
