"""The check before a training: the trainer scores what was sampled as the sampler did."""

import math

import pytest
from small_models import FAMILIES, small_model

from replication.config import SECTIONS, Config
from replication.errors import UserError
from replication.training import logprobs
from replication.training.agreement import check_policy

PROMPT = [5, 6, 7, 8, 9, 10, 11]
TRAINING = ("rollout", "erasure", "credit", "objective", "train", "trainer")


def settings(allocation="uniform"):
    config = Config(**{name: SECTIONS[name]() for name in TRAINING})
    config.credit.allocation = allocation
    return config


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trainer_agrees_whatever_a_model_does_after_its_head(family):
    """Granite scales its logits, Gemma 2 caps them."""
    assert check_policy(small_model(family), settings(), PROMPT, [1], 0) < 1e-5


def test_a_trainer_that_leaves_out_what_follows_the_head_is_stopped(monkeypatch):
    """Granite's scaling, forgotten: what was once trained on, with exit code 0."""
    monkeypatch.setattr(logprobs, "logits_of", lambda model, out, states: model.get_output_embeddings()(states))
    with pytest.raises(UserError, match=r"granite: the trainer's log-probabilities differ from the sampler's by up to"):
        check_policy(small_model("granite"), settings(), PROMPT, [1], 0)
    check_policy(small_model("llama"), settings(), PROMPT, [1], 0)


@pytest.mark.parametrize(("value", "words"), [(math.nan, "hold nan"), (-math.inf, "hold nan"), (1e38, "are finite")])
def test_weights_that_are_no_numbers_are_named_and_not_told_as_a_difference(value, words):
    model = small_model()
    model.get_output_embeddings().weight.data[3] = value
    where = r", such as \S+weight; restore its files" if words == "hold nan" else ", so its precision is too low"
    with pytest.raises(UserError, match=rf"^the model's log-probabilities are nan: its weights {words}.*{where}"):
        check_policy(model, settings(), PROMPT, [1], 0)


def test_attention_that_cannot_be_looked_into_is_refused_before_the_training():
    with pytest.raises(UserError, match=r"gemma2 has (no sdpa attention|softcap) .*: set credit.allocation"):
        check_policy(small_model("gemma2"), settings("attention"), PROMPT, [1], 0)
    assert check_policy(small_model("gemma3"), settings("attention"), PROMPT, [1], 0) < 1e-5
