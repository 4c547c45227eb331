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
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds  # [draws, S]
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws) / problems  # [draws, P]
    means = np.einsum("dp,dp->d", of_seeds @ values, of_problems)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


# 97.5 % quantiles of Student's t for 1, 2, 3, ... degrees of freedom
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]


def seed_interval(values: np.ndarray) -> Interval:
    """95 % interval of the mean over few seeds, by Student's t; a bootstrap of five values is a third too narrow.

    Args:
        values: [S] a value for each seed, 2 <= S <= 11: an accuracy, or a paired difference of two runs.

    Raises:
        ValueError: there are fewer or more seeds.
    """
    if not 2 <= len(values) <= 11:
        raise ValueError(f"an interval over {len(values)} seeds: give 2 to 11")
    half = STUDENT[len(values) - 2] * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def verdict(gain: Interval, margin: float = 0.02) -> str:
    """What an interval says of a claim that something gains.

    Args:
        gain: of the measured gain.
        margin: the smallest gain that would matter.

    Returns:
        `reproduced` where the gain is above 0, `not reproduced` where one of `margin` is ruled out, or `underpowered`.
    """
    if gain.low > 0:
        return "reproduced"
    return "not reproduced" if gain.high < margin else "underpowered"
