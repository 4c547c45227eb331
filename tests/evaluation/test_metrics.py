"""The metrics of an evaluation against counting by hand, and against scipy."""

from itertools import combinations

import pytest
import torch
from scipy import stats

from replication.evaluation.metrics import AccuracyAtTokens, AvgAtK, MajAtK, PassAtK, majority_at_k, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("c", range(6))
def test_pass_at_k_equals_enumeration(c, k):
    outcomes = [True] * c + [False] * (5 - c)
    subsets = list(combinations(outcomes, k))
    assert float(pass_at_k(torch.tensor([c]), 5, k)) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_is_hypergeometric():
    """The chance of drawing none of the c right ones in k draws of 32 without replacement."""
    c = torch.arange(33)
    for k in range(1, 33):
        want = 1 - stats.hypergeom.pmf(0, 32, c.numpy(), k)
        assert pass_at_k(c, 32, k).tolist() == pytest.approx(want.tolist(), abs=1e-12)


def test_pass_at_k_of_many_samples_does_not_overflow():
    assert float(pass_at_k(torch.tensor([1]), 2000, 1000)) == pytest.approx(0.5)


def test_pass_at_more_than_was_drawn_is_refused():
    with pytest.raises(ValueError, match="Pass@3"):
        pass_at_k(torch.tensor([1]), 2, 3)


def test_metrics_accumulate_over_batches():
    average, passed = AvgAtK(), PassAtK(2)
    for batch in ([[True, False], [False, False]], [[True, True]]):
        average.update(torch.tensor(batch))
        passed.update(torch.tensor(batch))
    assert float(average.compute()) == pytest.approx(0.5)
    assert float(passed.compute()) == pytest.approx(2 / 3)
    assert average.by_problem().tolist() == [0.5, 0.0, 1.0] and passed.by_problem().tolist() == [1.0, 0.0, 1.0]


ANSWERS = [["7", "7", "3", None], ["1", "2", "2", "2"], [None, None, None, None]]
CORRECT = torch.tensor([[True, True, False, False], [True, False, False, False], [False] * 4])


def test_majority_of_all_samples_is_exact():
    assert majority_at_k(ANSWERS, CORRECT, 4).tolist() == [1.0, 0.0, 0.0]
    tie = majority_at_k([["5", "8", "8", "5"]], torch.tensor([[True, False, False, True]]), 4)
    assert tie.tolist() == [0.5]


def test_majority_of_one_is_the_average():
    assert majority_at_k(ANSWERS, CORRECT, 1).tolist() == [0.5, 0.25, 0.0]


def test_majority_of_some_is_near_the_mean_over_all_subsets():
    """Two votes of 7 (right), 7, 3 and none."""
    pairs = list(combinations(range(4), 2))
    value = {(0, 1): 1.0, (0, 2): 0.5, (1, 2): 0.5, (0, 3): 1.0, (1, 3): 1.0, (2, 3): 0.0}
    want = sum(value[pair] for pair in pairs) / len(pairs)
    got = majority_at_k(ANSWERS[:1], CORRECT[:1], 2, draws=20_000)
    assert float(got) == pytest.approx(want, abs=0.01)


def test_majority_needs_as_many_samples():
    with pytest.raises(ValueError, match="Maj@5"):
        majority_at_k(ANSWERS, CORRECT, 5)


def test_majority_metric_keeps_problems():
    metric = MajAtK(4)
    metric.update(ANSWERS[:2], CORRECT[:2])
    metric.update(ANSWERS[2:], CORRECT[2:])
    assert metric.by_problem().tolist() == [1.0, 0.0, 0.0] and float(metric.compute()) == pytest.approx(1 / 3)


def test_accuracy_at_tokens():
    metric = AccuracyAtTokens([10, 20, 40])
    correct = torch.tensor([[True, True, False], [False, True, True]])
    metric.update(correct, torch.tensor([[10, 21, 5], [8, 20, 40]]))
    assert torch.allclose(metric.by_problem() * 3, torch.tensor([[1.0, 1, 2], [0, 1, 2]], dtype=torch.float64))
    assert metric.compute().tolist() == pytest.approx([1 / 6, 1 / 3, 2 / 3])
