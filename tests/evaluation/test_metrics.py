"""Avg@k and Pass@k against counting by hand."""

from itertools import combinations

import pytest
import torch

from replication.evaluation.metrics import AvgAtK, PassAtK, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("c", range(6))
def test_pass_at_k_equals_enumeration(c, k):
    outcomes = [True] * c + [False] * (5 - c)
    subsets = list(combinations(outcomes, k))
    assert float(pass_at_k(torch.tensor([c]), 5, k)) == pytest.approx(sum(map(any, subsets)) / len(subsets))


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
