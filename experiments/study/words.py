"""Intervals and verdicts as text."""

from __future__ import annotations

import numpy as np

from replication.evaluation.statistics import Interval, seed_interval, verdict


def signed(gain: Interval) -> str:
    """An interval of a difference."""
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def accuracy(values: np.ndarray) -> str:
    """An accuracy with its interval over the seeds, within 0 and 1."""
    mean, low, high = seed_interval(values)
    return str(Interval(mean, max(0.0, low), min(1.0, high)))


def answer(gain: Interval) -> str:
    """Whether something pays, by its interval."""
    return "yes" if gain.low > 0 else "no" if gain.high < 0 else "undecided"


def in_direction(gain: Interval) -> str:
    """The verdict on a claim of a gain; at this scale what is reproduced is the direction."""
    return "reproduced in direction" if gain.low > 0 else verdict(gain)
