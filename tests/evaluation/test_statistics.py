"""Bootstrap intervals."""

import numpy as np

from replication.evaluation.statistics import bootstrap


def test_interval_of_one_seed_matches_the_normal_one():
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 1.0, size=(1, 400))
    got = bootstrap(values, draws=4000)
    error = values.std() / 20
    assert got.mean == values.mean()
    assert abs(got.low - (got.mean - 1.96 * error)) < 0.01 and abs(got.high - (got.mean + 1.96 * error)) < 0.01


def test_seeds_that_differ_widen_the_interval():
    steady = np.full((3, 50), 0.5)
    jumpy = steady + np.array([[-0.3], [0.0], [0.3]])
    assert bootstrap(steady, 500).low == bootstrap(steady, 500).high == 0.5
    assert bootstrap(jumpy, 500).low < 0.3 and bootstrap(jumpy, 500).high > 0.7


def test_the_same_numbers_every_time():
    values = np.arange(12.0).reshape(2, 6)
    assert bootstrap(values, 200) == bootstrap(values, 200)
