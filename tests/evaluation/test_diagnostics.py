"""AUC within groups, counted by hand."""

import math

import torch

from replication.evaluation.diagnostics import group_auc

U = torch.tensor([[3.0, 1.0, 2.0, 2.0], [9.0, 9.0, 8.0, 7.0]])
WRONG = torch.tensor([[True, False, False, True], [False, False, False, True]])


def test_pairs_are_within_groups_and_ties_count_half():
    """Group 1: 3 > 1, 3 > 2, 2 > 1, 2 = 2: 3.5 of 4. Group 2: 7 is below all: 0 of 3."""
    assert group_auc(U, WRONG) == 3.5 / 7


def test_what_is_absent_does_not_count():
    present = torch.tensor([[True, True, False, True], [True, False, False, False]])
    assert group_auc(U, WRONG, present) == 1.0


def test_no_pair_is_no_number():
    assert math.isnan(group_auc(U, torch.zeros_like(WRONG)))
