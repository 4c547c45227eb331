"""DAPO's overlong penalty, worked by hand."""

import torch

from replication.credit.reward import overlong_penalty


def test_the_penalty_falls_linearly_over_the_buffer():
    got = overlong_penalty(torch.tensor([0, 80, 85, 100]), 100, 0.2, 1.0)
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0, -0.25, -1.0]))
    torch.testing.assert_close(overlong_penalty(torch.tensor([90]), 100, 0.2, 0.4), torch.tensor([-0.2]))


def test_no_buffer_is_no_penalty():
    assert overlong_penalty(torch.tensor([100]), 100, 0.0, 1.0).tolist() == [0.0]
