"""Intervals against scipy and by simulation, and what they say."""

import numpy as np
import pytest
from scipy import stats

from replication.evaluation.statistics import (
    Interval,
    bootstrap,
    claim_verdict,
    crossed_interval,
    seed_interval,
    share_interval,
    student,
    verdict,
)


def covered(interval_of, truth, draws):
    """Share of the drawn data sets whose interval holds the truth."""
    intervals = [interval_of(values) for values in draws]
    return np.mean([low <= truth <= high for _, low, high in intervals])


@pytest.mark.parametrize("degrees", [1, 2, 7, 10, 11, 29, 271, 10_000])
def test_quantiles_are_scipys(degrees):
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=6e-4)


def test_bootstrap_is_scipys_percentile_interval_stretched():
    rng = np.random.default_rng(0)
    values = rng.beta(0.5, 0.7, size=40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="percentile", rng=rng).confidence_interval
    stretch = np.sqrt(40 / 39) * stats.t.ppf(0.975, 39) / stats.norm.ppf(0.975)
    got = bootstrap(values, draws=40_000)
    want = [values.mean() + stretch * (bound - values.mean()) for bound in theirs]
    assert got.mean == values.mean() and np.allclose(got[1:], want, atol=2e-3)


@pytest.mark.parametrize("problems", [15, 30, 272])
def test_bootstrap_covers_a_paired_gain(problems):
    """Two runs of 32 samples a problem, of problems whose difficulty differs: a gain of a tenth."""
    rng = np.random.default_rng(1)

    def runs():
        p = rng.beta(0.5, 0.7, size=problems)
        return (rng.binomial(32, p) - rng.binomial(32, 0.9 * p)) / 32

    truth = 0.1 * 0.5 / 1.2
    assert 0.93 <= covered(lambda v: bootstrap(v, draws=1000), truth, (runs() for _ in range(2000))) <= 0.97


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.05), (3, 0.0), (3, 0.03), (3, 0.3), (5, 0.05)])
def test_crossed_intervals_cover_at_least_what_they_claim(seeds, spread):
    rng = np.random.default_rng(2)

    def runs():
        noise = 0.1 * rng.normal(size=(seeds, 40))
        return spread * rng.normal(size=(seeds, 1)) + 0.3 * rng.normal(size=(1, 40)) + noise

    assert covered(crossed_interval, 0.0, (runs() for _ in range(3000))) >= 0.94


def test_crossed_interval_by_hand():
    got = crossed_interval(np.array([[0.0, 0.4], [0.2, 1.0]]))
    # seed means 0.2, 0.6: variance 0.08 / 2; problem means 0.1, 0.7: variance 0.18 / 2; t of one degree is 12.706
    assert np.allclose(got, [0.4, 0.4 - 12.706 * np.sqrt(0.13), 0.4 + 12.706 * np.sqrt(0.13)])
    one = np.array([[0.1, 0.5, 0.3]])
    assert crossed_interval(one) == bootstrap(one[0])


def test_the_same_numbers_every_time():
    values = np.arange(12.0)
    assert bootstrap(values, 200) == bootstrap(values, 200) != bootstrap(values, 200, seed=1)


def test_one_problem_has_no_interval():
    with pytest.raises(ValueError, match="at least two"):
        bootstrap(np.array([0.5]))


def test_bounds_of_a_share():
    assert Interval(0.9, 0.7, 1.1).within(0.0, 1.0) == (0.9, 0.7, 1.0)


def test_seed_interval_is_students():
    got = seed_interval(np.array([0.1, 0.2, 0.6]))
    half = 4.303 * np.sqrt(0.07) / np.sqrt(3)  # deviations -0.2, -0.1, 0.3: sample variance 0.14 / 2
    assert np.allclose(got, [0.3, 0.3 - half, 0.3 + half])


def test_seed_intervals_cover_what_they_claim():
    rng = np.random.default_rng(0)
    assert 0.93 < covered(seed_interval, 0.0, (rng.normal(size=5) for _ in range(4000))) < 0.97


def test_verdicts():
    assert verdict(Interval(0.05, 0.01, 0.09)) == "reproduced"
    assert verdict(Interval(0.0, -0.01, 0.01)) == "not reproduced"
    assert verdict(Interval(-0.2, -0.3, -0.1)) == "not reproduced"
    assert verdict(Interval(0.0, -0.05, 0.05)) == "underpowered"
    assert verdict(Interval(0.002, 0.001, 0.003), 0.05) == "not reproduced"  # beyond 0, and a claimed 0.05 is ruled out
    assert verdict(Interval(0.0, 0.0, 0.0)) == "underpowered"  # nothing varied
    assert verdict(Interval(0.0, -0.01, 0.03), room=0.015) == verdict(Interval(0, 0, 0), room=0.0) == "out of reach"
    assert verdict(Interval(0.03, 0.01, 0.05), room=0.03) == "reproduced"


def test_verdicts_on_a_reported_value():
    assert claim_verdict(Interval(0.50, 0.48, 0.52), 0.506, 0.05) == "reproduced"
    assert claim_verdict(Interval(0.50, 0.40, 0.60), 0.506, 0.05) == "underpowered"
    assert claim_verdict(Interval(0.052, -0.001, 0.105), 0.05349, 0.06) == "underpowered"  # no gain is possible too
    assert claim_verdict(Interval(0.45, 0.40, 0.50), 0.506, 0.05) == "not reproduced"
    assert claim_verdict(Interval(0.60, 0.55, 0.65), 0.506, 0.05) == "not reproduced"


@pytest.mark.parametrize(("right", "draws"), [(1417, 1920), (0, 30), (424, 500)])
def test_share_interval_is_scipys(right, draws):
    want = stats.binomtest(right, draws).proportion_ci(method="wilson")
    assert share_interval(right / draws, draws) == pytest.approx((right / draws, want.low, want.high))
