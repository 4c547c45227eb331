"""Bootstrap intervals."""

import numpy as np

from replication.evaluation.statistics import Interval, bootstrap, seed_interval, verdict


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
    assert np.allclose(bootstrap(steady, 500), 0.5)
    assert bootstrap(jumpy, 500).low < 0.3 and bootstrap(jumpy, 500).high > 0.7


def test_the_same_numbers_every_time():
    values = np.arange(12.0).reshape(2, 6)
    assert bootstrap(values, 200) == bootstrap(values, 200)


def test_seed_interval_is_students():
    got = seed_interval(np.array([0.1, 0.2, 0.6]))
    half = 4.303 * np.sqrt(0.07) / np.sqrt(3)  # deviations -0.2, -0.1, 0.3: sample variance 0.14 / 2
    assert np.allclose(got, [0.3, 0.3 - half, 0.3 + half])


def test_seed_intervals_cover_what_they_claim():
    rng = np.random.default_rng(0)
    hits = sum(low <= 0 <= high for _, low, high in (seed_interval(rng.normal(size=5)) for _ in range(4000)))
    assert 0.93 < hits / 4000 < 0.97


def test_verdicts():
    assert verdict(Interval(0.05, 0.01, 0.09)) == "reproduced"
    assert verdict(Interval(0.0, -0.01, 0.01)) == "not reproduced"
    assert verdict(Interval(-0.2, -0.3, -0.1)) == "not reproduced"
    assert verdict(Interval(0.0, -0.05, 0.05)) == "underpowered"
