"""The weights that correct for a sampler whose probabilities are not the trainer's, worked by hand."""

import math

import pytest
import torch

from replication.config import Config, ObjectiveConfig, PolicyConfig, RolloutConfig, TrainConfig, TrainerConfig
from replication.objectives.correction import correction_of, masked_weight, sampler_ratio, truncated_weight
from replication.objectives.objective import token_loss

RATIO = torch.tensor([0.1, 0.5, 0.9, 1.0, 2.0, 2.5, 5.0, 5.5])


def close(a, b):
    torch.testing.assert_close(a, torch.tensor(b), rtol=1e-5, atol=1e-6)


def test_the_samplers_ratio_is_the_trainers_probability_over_its_own():
    trainer, sampler = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-2.0, -1.5, -0.5])
    close(sampler_ratio(trainer, sampler), [math.e, math.exp(-0.5), 1.0])


def test_the_samplers_ratio_is_bounded_at_20_nats_and_has_no_gradient():
    trainer = torch.tensor([-1.0, -200.0, -40.0], requires_grad=True)
    ratio = sampler_ratio(trainer, torch.tensor([-200.0, -1.0, -59.0]))
    torch.testing.assert_close(ratio, torch.tensor([math.exp(20), math.exp(-20), math.exp(19)]), rtol=1e-5, atol=0)
    assert not ratio.requires_grad


def test_truncation_caps_the_ratio_and_leaves_what_is_below():
    close(truncated_weight(RATIO, 2.0), [0.1, 0.5, 0.9, 1.0, 2.0, 2.0, 2.0, 2.0])


def test_the_mask_drops_what_lies_beyond_its_bounds_and_keeps_the_bounds():
    close(masked_weight(RATIO, 0.5, 5.0), [0.0, 0.5, 0.9, 1.0, 2.0, 2.5, 5.0, 0.0])


@pytest.mark.parametrize(
    ("kind", "weight", "outside"),
    [
        ("truncate", [0.25, 1.0, 1.5, 1.5], [False, False, False, True]),
        ("mask", [0.0, 1.0, 1.5, 0.0], [True, False, False, True]),
    ],
)
def test_a_correction_takes_its_own_bounds_and_knows_where_they_are_passed(kind, weight, outside):
    settings = ObjectiveConfig(correction_cap=1.5, correction_low=0.3, correction_high=3.0)
    sampled = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    found = correction_of(kind, settings, sampled + torch.tensor([0.25, 1.0, 1.5, 4.0]).log(), sampled)
    close(found.weight, weight)
    assert found.outside.tolist() == outside


@pytest.mark.parametrize(
    ("settings", "losses"),
    [
        ({"clip_low": 0.1, "clip_high": 0.3}, [-2.6, 5.0, 3.6]),
        ({"surrogate": "sigmoid", "tau_positive": 0.8, "tau_negative": 2.0}, [-5.986877, 4.979675, 3.210499]),
        ({"level": "sequence", "clip_low": 0.1, "clip_high": 0.3}, [-2.289428, 4.578857, 4.578857]),
    ],
)
def test_the_weight_multiplies_the_surrogate_after_its_clip_and_not_the_kl_term(settings, losses):
    """Ratios 1.5, 1.25, 0.8 (their geometric mean is 1.1447142) and advantages 2, -4, -4; weights 0.5, 3 and 0."""
    log_ratio, advantage = torch.tensor([[1.5, 1.25, 0.8]]).log(), torch.tensor([[2.0, -4.0, -4.0]])
    old, mask, weight = torch.tensor([[-1.0, -3.0, -0.5]]), torch.ones(1, 3, dtype=torch.bool), [0.5, 3.0, 0.0]
    reference = old + log_ratio + torch.tensor([[1.0, -1.0, 0.5]])
    k3 = [math.e - 2, math.exp(-1), math.exp(0.5) - 1.5]
    given = ObjectiveConfig(**settings, kl=0.5)
    out = token_loss(given, old + log_ratio, old, advantage, mask, reference, torch.tensor([weight]))
    close(out.loss, [[w * x + 0.5 * k for w, x, k in zip(weight, losses, k3, strict=True)]])


@pytest.mark.parametrize(
    ("engine", "rank", "precision", "auto"),
    [
        ("torch", 0, "32", "none"),
        ("torch", 0, "bf16", "none"),
        ("torch", 4, "32", "none"),
        ("torch", 4, "bf16", "truncate"),  # adapters are merged in bfloat16
        ("vllm", 0, "32", "truncate"),
    ],
)
def test_auto_corrects_where_sampler_and_trainer_differ_and_what_is_named_is_for_all(engine, rank, precision, auto):
    parts = {
        "rollout": RolloutConfig(engine=engine),
        "policy": PolicyConfig(lora_rank=rank),
        "trainer": TrainerConfig(precision=precision),
    }
    for named, found in (("auto", auto), ("none", "none"), ("truncate", "truncate"), ("mask", "mask")):
        assert Config(objective=ObjectiveConfig(correction=named), **parts).correction == found


@pytest.mark.parametrize(
    ("correction", "minibatches", "epochs", "scores"),
    [("mask", 2, 1, True), ("truncate", 1, 2, True), ("truncate", 1, 1, False), ("none", 4, 2, False)],
)
def test_the_samples_are_scored_first_where_a_correction_makes_several_updates(correction, minibatches, epochs, scores):
    train = TrainConfig(minibatches=minibatches, epochs=epochs)
    assert Config(objective=ObjectiveConfig(correction=correction), train=train).scores_first == scores
