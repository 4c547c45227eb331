"""The algorithms of params.yaml against verl's own code: equal where it says the same, different as documented where it
does not (goldens/make_goldens.py, docs/objectives.md)."""

from __future__ import annotations

import pytest
import torch
from goldens.compare import BOUNDS, Ours, goldens, name

from replication.credit.advantage import group_advantage
from replication.objectives.losses import clipped_loss, kl_k3

VERL = goldens("verl")
INPUTS = VERL["inputs"]


def cases(variant: str) -> list:
    return [case for case in VERL["cases"] if case["variant"] == variant]


def test_the_inputs_are_those_of_trl():
    assert goldens("trl")["inputs"] == INPUTS
    assert len(cases("plain")) == 5 * 2 * 2 * 2 and len(cases("dual_clip")) == 3 * 2 * 2


def sequence_gradient_differs(case) -> bool:
    return case["algorithm"] == "gspo" and (case["advantage"] == "token" or case["variant"] in BOUNDS)


EQUAL = [case for variant in ("plain", *BOUNDS) for case in cases(variant)]


@pytest.mark.parametrize("case", [c for c in EQUAL if not sequence_gradient_differs(c)], ids=name)
def test_loss_and_gradient_are_those_of_verl(case):
    assert max(Ours(INPUTS, case).differences(case)) < 1e-6


@pytest.mark.parametrize("case", [c for c in EQUAL if sequence_gradient_differs(c)], ids=name)
def test_verls_gspo_gives_each_token_the_gradient_of_its_own_advantage(case):
    """Same loss; the gradient is that of s held constant, times the token's ratio to itself. So is that of its own
    weight, where there is a correction."""
    ours = Ours(INPUTS, case)
    out = ours.token_loss()
    loss, grad = ours.differences(case, out.loss)
    assert loss < 1e-6 and grad > 1e-2
    ratio = out.ratio.detach() * torch.exp(ours.logp - ours.logp.detach())
    theirs = clipped_loss(ratio, ours.advantage, ours.settings.clip_low, ours.settings.clip_high)
    theirs = theirs if ours.correction is None else ours.correction * theirs
    theirs = theirs + ours.settings.kl * kl_k3(ours.logp, ours.reference_logp)
    assert max(ours.differences(case, theirs)) < 1e-6


@pytest.mark.parametrize("case", cases("dual_clip"), ids=name)
def test_verl_bounds_the_loss_of_negative_advantages_at_three_times(case):
    ours = Ours(INPUTS, case)
    loss = ours.token_loss().loss
    assert max(ours.differences(case, loss)) > 1e-2
    bounded = torch.where(ours.advantage < 0, torch.minimum(loss, -3 * ours.advantage), loss)
    assert max(ours.differences(case, bounded)) < 1e-6


@pytest.mark.parametrize("case", cases("local"), ids=name)
def test_verl_without_the_minibatchs_numbers_counts_rows_with_tokens_and_the_tensors_width(case):
    rows = sum(any(row) for row in INPUTS["masks"][case["mask"]])
    width = len(INPUTS["logp"][0])
    ours = Ours(INPUTS | {"longest": width}, case, rows)
    loss, grad = ours.differences(case)
    assert loss < 1e-6
    assert sequence_gradient_differs(case) or grad < 1e-6


@pytest.mark.parametrize(("scale", "name"), [("std", "group"), ("none", "none")])
def test_advantages_are_those_of_verl_at_its_epsilon(scale, name):
    ours = group_advantage(torch.tensor(INPUTS["rewards"], dtype=torch.float64), 1e-6, scale)
    torch.testing.assert_close(ours, torch.tensor(VERL["advantages"][name], dtype=torch.float64), rtol=0, atol=1e-6)


def test_verl_keeps_the_reward_of_a_group_of_one_and_we_give_it_no_advantage():
    alone = VERL["advantage_of_a_group_of_one"]
    assert alone["advantage"] == pytest.approx(alone["reward"], abs=1e-5)
    assert group_advantage(torch.tensor([[alone["reward"]]]), 1e-4).item() == 0.0
