"""Settings to advantages, on a hand-made rollout."""

import torch

from replication.config import CreditConfig
from replication.credit.assign import assign_credit
from replication.rollout.trace import Rollout


def rollout() -> Rollout:
    """One group of three; two segments of two tokens, of which the third member has one."""
    erasures = torch.tensor([[1, 0], [0, 0], [2, 0]])
    return Rollout(
        group_size=3,
        prompts=[[5]],
        tokens=torch.zeros(3, 4, dtype=torch.long),
        logp=torch.zeros(3, 4),
        measured={},
        length=torch.tensor([4, 4, 2]),
        ended=torch.tensor([True, True, True]),
        erasable=torch.tensor([True, False, True]),
        start=torch.tensor([[0, 2, 4], [0, 2, 4], [0, 2, 0]]),
        segments=torch.tensor([2, 2, 1]),
        erasures=erasures,
        first_u=torch.zeros(3, 2),
        u=torch.zeros(3, 2),
        theta=torch.zeros(3, 2),
        attempts=[],
    )


CORRECT = torch.tensor([[1.0, 0.0, 1.0]])
MASS = torch.tensor([[0.1, 0.3], [0.2, 0.2], [0.4, 0.0]])


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_group_advantages_are_equal_over_a_completion():
    got, erased, _ = assign_credit(CreditConfig(advantage="group", scale="none"), rollout(), CORRECT, None)
    close(got, [[1 / 3, 1 / 3], [-2 / 3, -2 / 3], [1 / 3, 1 / 3]])
    assert (erased == 0).all()


def test_attention_shares_the_reward_of_a_completion():
    """Densities 0.05 and 0.15 share the first member's two rewards as 0.5 and 1.5; the third has one segment."""
    got, *_ = assign_credit(CreditConfig(scale="none"), rollout(), CORRECT, MASS)
    close(got, [[0.0, 0.75], [-0.5, -0.75], [0.5, 0.0]])


def test_tau_evens_the_shares():
    """At tau 2 the densities 0.05 and 0.15 share as 1 to the root of 3."""
    got, *_ = assign_credit(CreditConfig(scale="none", tau=2.0), rollout(), CORRECT, MASS)
    first, second = 2 / (1 + 3**0.5), 2 * 3**0.5 / (1 + 3**0.5)
    mean = (first + 1) / 3
    close(got, [[first - mean, second / 2], [-mean, -second / 2], [1 - mean, 0.0]])


def test_uniform_allocation_ignores_attention():
    got, *_ = assign_credit(CreditConfig(scale="none", allocation="uniform"), rollout(), CORRECT, None)
    close(got, [[1 / 3, 0.5], [-2 / 3, -0.5], [1 / 3, 0.0]])


def test_negatives_lower_the_mean_of_their_segment():
    settings = CreditConfig(scale="none", allocation="uniform", negatives=True)
    got, erased, _ = assign_credit(settings, rollout(), CORRECT, None)
    close(got, [[2 / 3, 0.5], [-1 / 3, -0.5], [2 / 3, 0.0]])  # mean of 1, 0, 1 and three erased zeros: 1/3
    close(erased, [[-1 / 3, 0.0]])


def test_acceptance_weighs_the_erasing_members_only():
    settings = CreditConfig(scale="none", allocation="uniform", acceptance=True)
    got, *_ = assign_credit(settings, rollout(), CORRECT, None)
    rate = 2 / 5  # two accepted, three erased
    close(got, [[rate / 3, 0.5], [-2 / 3, -0.5], [rate / 3, 0.0]])


def test_overlong_completions_lose_reward():
    settings = CreditConfig(advantage="group", scale="none", overlong_buffer=0.5, overlong_penalty=0.6)
    got, *_ = assign_credit(settings, rollout(), CORRECT, None)
    close(got[:, 0], [0.4 - 0.8 / 3, -0.6 - 0.8 / 3, 1.0 - 0.8 / 3])  # rewards 0.4, -0.6, 1.0


def test_overlong_completions_lose_reward_in_every_segment():
    settings = CreditConfig(scale="none", allocation="uniform", overlong_buffer=0.5, overlong_penalty=0.6)
    got, *_ = assign_credit(settings, rollout(), CORRECT, None)  # returns 0.4, -0.6, 1.0 in each segment they have
    close(got, [[0.4 - 0.8 / 3, 0.5], [-0.6 - 0.8 / 3, -0.5], [1.0 - 0.8 / 3, 0.0]])
