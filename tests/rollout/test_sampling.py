"""Hand-worked draws."""

import math

import torch

from replication.rollout.sampling import draw, tempered_logp


def test_logits_are_divided_by_the_temperature():
    logits = torch.tensor([[0.0, math.log(9)], [0.0, math.log(9)]])
    got = tempered_logp(logits, torch.tensor([[2.0], [0.5]])).exp()
    torch.testing.assert_close(got, torch.tensor([[1 / 4, 3 / 4], [1 / 82, 81 / 82]]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tempered_logp(logits, 2.0).exp()[1], torch.tensor([1 / 4, 3 / 4]), rtol=1e-5, atol=1e-6)


def test_a_uniform_number_picks_its_share_and_nothing_impossible():
    uniform = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 1 - 2**-53], dtype=torch.float64)
    logp = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0]).log().expand(6, 6)
    assert draw(logp, uniform).tolist() == [1, 1, 3, 3, 4, 4]
