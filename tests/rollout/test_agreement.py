"""The check before a run: it passes what is right, in any precision, and stops what would be of another model."""

import pytest
import torch
import transformers
from small_models import FAMILIES, small_model

from replication.errors import UserError
from replication.rollout.agreement import check_engine, check_sampler, in_float32, plain_logp
from replication.rollout.builtin.decoder import TorchEngine
from replication.rollout.masks import window_of

PROMPT = [5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_right_passes_in_any_precision(family, dtype):
    model = small_model(family).to(dtype)
    before = [weight.clone() for weight in model.parameters()]
    done = check_sampler(model, PROMPT, [1], 0)
    assert done.attempts, "the way back after an erasure is part of the check"
    assert all(ours.equal(theirs) for ours, theirs in zip(model.parameters(), before, strict=True))


def test_a_model_that_sees_what_follows_is_named(monkeypatch):
    """Its attention is not causal, as of a checkpoint whose config calls a decoder an encoder."""
    model = small_model("llama")
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    forward = type(model.model).forward

    def seeing(self, *args, **kwargs):
        if kwargs.get("cache", kwargs.get("past_key_values")) is None:
            kwargs["attention_mask"] = torch.ones(1, 1, *[kwargs["input_ids"].shape[1]] * 2, dtype=torch.bool)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model.model), "forward", seeing)
    with pytest.raises(UserError, match=r"llama: the sampler's log-probabilities differ .* it is not causal"):
        check_sampler(model, PROMPT, [1], 0)


def test_a_model_that_fails_in_its_own_way_is_refused_by_name(monkeypatch):
    model = small_model()

    def broken(*_, **__):
        raise RuntimeError("view size is not\ncompatible")

    monkeypatch.setattr(model.model.layers[0].self_attn, "forward", broken)
    with pytest.raises(UserError, match=r"qwen3 cannot be rolled out \(RuntimeError: view size is not compatible\)"):
        check_sampler(model, PROMPT, [1], 0)


def test_ids_that_the_model_lacks_are_refused():
    with pytest.raises(UserError, match="prompt 0 has the id 31, and the model reads ids below 31"):
        check_sampler(small_model(), [5, 31], [1], 0)


def test_rounding_does_not_count():
    """In bfloat16 itself the two differ by far more than the limit."""
    model = small_model().to(torch.bfloat16)
    done = check_sampler(model, PROMPT, [1], 0)
    rounded = torch.cat([plain_logp(model, done, row) for row in range(4)])
    with in_float32(model):
        exact = torch.cat([plain_logp(model, done, row) for row in range(4)])
    assert (done.logp[done.mask] - exact).abs().max() < 1e-4 < 1e-3 < (rounded - exact).abs().mean()


def test_an_error_leaves_the_weights_as_they_were():
    model = small_model().to(torch.bfloat16)
    with pytest.raises(IndexError), in_float32(model):
        model(torch.tensor([[40]]))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_window_that_the_model_does_not_read_is_none():
    """A Llama's config.json with another family's key: its forward pass sees everything, and so must the sampler."""
    model = small_model("llama")
    model.config.sliding_window = 4
    assert window_of(model.config) is None and window_of(small_model("mistral").config) == 6
    check_sampler(model, PROMPT, [1], 0)


def test_the_check_reaches_beyond_the_window(monkeypatch):
    """A window of 100, of which the sampler knows nothing: seen though the prompt is short."""
    config = small_model("mistral").config
    config.sliding_window = 100
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    check_sampler(model, PROMPT, [1], 0)
    monkeypatch.setattr("replication.rollout.masks.window_of", lambda _: None)
    with pytest.raises(UserError, match=r"mistral: the sampler's log-probabilities differ"):
        check_sampler(model, PROMPT, [1], 0)


def test_a_prompt_that_ends_the_text_is_refused():
    with pytest.raises(UserError, match=r"the prompt ends with the end of text \(id 1\)"):
        check_sampler(small_model(), [5, 6, 1], [1], 0)
    check_sampler(small_model(), [1], [1], 0)  # GPT-2 begins a text with the token that ends one


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_engine_of_other_weights_is_found(dtype):
    model, other = (small_model(seed=seed).to(dtype) for seed in (0, 1))
    assert check_engine(TorchEngine(model), model, PROMPT, [1], 0) < (1e-4 if dtype == torch.float32 else 0.1)
    with pytest.raises(UserError, match=r"qwen3: the engine's log-probabilities .* use --rollout.engine torch"):
        check_engine(TorchEngine(other), model, PROMPT, [1], 0)
