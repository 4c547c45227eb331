"""How sure a mean or a difference is: bootstrap over problems and over seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from replication.seeds import seed_for


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: np.ndarray, draws: int = 10_000, seed: int = 0) -> Interval:
    """95 % percentile interval of the mean, resampling seeds and problems.

    Resampling both says how the mean would differ with other seeds and with other problems. For the paired difference
    of two runs on the same problems, pass the difference of their values.

    Args:
        values: [S, P] a value for each training seed and each problem (its share of correct samples, say).
        draws: bootstrap samples.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    seeds, problems = values.shape
    means = np.empty(draws)
    for i in range(draws):
        rows = rng.integers(seeds, size=seeds)
        weight = np.bincount(rng.integers(problems, size=problems), minlength=problems)
        means[i] = values[rows].mean(0) @ weight / problems
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))
