"""The warm start's schedule."""

import pytest

from replication.config import WarmstartConfig
from replication.warmstart import learning_rate


def test_the_learning_rate_rises_stays_and_falls():
    """20 steps up from a twentieth, constant over the 50 clean ones, then down to 0.1 in 5 steps of 0.18."""
    settings = WarmstartConfig(clean_steps=50, noisy_steps=5, lr_end=0.1)
    for step, want in ((0, 0.05), (10, 0.525), (20, 1.0), (49, 1.0), (50, 0.82), (52, 0.46), (54, 0.1)):
        assert learning_rate(step, settings) == pytest.approx(want)


def test_without_noisy_steps_it_does_not_fall():
    assert learning_rate(59, WarmstartConfig(clean_steps=60, noisy_steps=0)) == 1.0
