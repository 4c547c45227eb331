"""How sure a mean or a difference is, and what that says of a claim."""

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

    def within(self, least: float, most: float) -> Interval:
        """The same where values can only lie between two bounds."""
        return Interval(self.mean, max(least, self.low), min(most, self.high))


# 97.5 % quantiles of Student's t for 1, 2, 3, ... degrees of freedom
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]


def student(degrees: int) -> float:
    """97.5 % quantile of Student's t; above ten degrees of freedom by expansion (Abramowitz & Stegun 26.7.5)."""
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1]
    z, v = 1.959964, degrees
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2) + third


def bootstrap(values: np.ndarray, draws: int = 10_000, seed: int = 0) -> Interval:
    """95 % interval of the mean over problems by the percentile bootstrap, widened for few problems.

    For the paired difference of two runs on the same problems, pass the difference of their values. The percentile
    interval of P values is too narrow by the factor sqrt((P - 1) / P) and by Student's t over the normal quantile; the
    deviations are stretched by both (Hesterberg 2015, section 5.3), which tests/evaluation/test_statistics.py checks.

    Args:
        values: [P] a value for each problem, P >= 2.
        draws: bootstrap samples.
        seed: of the resampling.
    """
    problems = len(values)
    if problems < 2:
        raise ValueError("an interval over problems needs at least two")
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws) / problems  # [draws, P]
    stretch = np.sqrt(problems / (problems - 1)) * student(problems - 1) / 1.959964
    deviations = (weights @ values - values.mean()) * stretch
    low, high = values.mean() + np.quantile(deviations, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def crossed_interval(values: np.ndarray) -> Interval:
    """95 % interval of the mean over seeds and problems both, as if each had been drawn anew.

    The variances of the mean over seeds and over problems, each with its own quantile of Student's t (as Cochran 1964
    has it for two samples). One seed: problems alone.

    Args:
        values: [S, P] a value for each training seed and each problem, P >= 2.
    """
    seeds, problems = values.shape
    if seeds == 1:
        return bootstrap(values[0])
    of_seeds = student(seeds - 1) ** 2 * values.mean(1).var(ddof=1) / seeds
    of_problems = student(problems - 1) ** 2 * values.mean(0).var(ddof=1) / problems
    half = np.sqrt(of_seeds + of_problems)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def seed_interval(values: np.ndarray) -> Interval:
    """95 % interval of the mean over few seeds, by Student's t; a bootstrap of five values is a third too narrow.

    Args:
        values: [S] a value for each seed, 2 <= S <= 11: an accuracy, or a paired difference of two runs.

    Raises:
        ValueError: there are fewer or more seeds.
    """
    if not 2 <= len(values) <= 11:
        raise ValueError(f"an interval over {len(values)} seeds: give 2 to 11")
    half = student(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def share_interval(share: float, draws: int) -> Interval:
    """95 % interval of a share that is known with the number of its draws alone (Wilson 1927).

    A published accuracy is such a share, of samples x problems draws. Where the same problems are sampled again it is
    too wide rather than too narrow: their rates differ, which leaves less to chance.

    Args:
        share: between 0 and 1.
        draws: that it is the mean of.
    """
    z2 = 1.959964**2 / draws
    middle = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return Interval(share, float(middle - half), float(middle + half))


def verdict(gain: Interval, margin: float = 0.02, room: float = 1.0) -> str:
    """What an interval says of a claim that something gains.

    Args:
        gain: of the measured gain.
        margin: the smallest gain that would matter.
        room: the largest gain that is possible, 1 less the accuracy of what it is a gain over.

    Returns:
        `out of reach` where a gain of `margin` is not possible, `not reproduced` where it is ruled out, `reproduced`
        where the gain is above 0, or `underpowered`; that too where nothing varies, which is evidence of nothing.
    """
    if room < margin:
        return "out of reach"
    if gain.low == gain.high:
        return "underpowered"
    if gain.high < margin:
        return "not reproduced"
    return "reproduced" if gain.low > 0 else "underpowered"


def claim_verdict(found: Interval, claimed: float, resolution: float) -> str:
    """What an interval says of a reported value.

    Args:
        found: of the measured value.
        claimed: the reported one.
        resolution: half-width above which an interval that holds the value says nothing: it would hold too much.

    Returns:
        `not reproduced` where the value lies outside, `underpowered` where the interval is too wide or holds 0 as well,
        or `reproduced`.
    """
    if not found.low <= claimed <= found.high:
        return "not reproduced"
    too_wide = (found.high - found.low) / 2 > resolution or found.low <= 0 <= found.high
    return "underpowered" if too_wide else "reproduced"
