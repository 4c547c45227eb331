"""Scoring in chunks: the same gradients as without, and memory that the number of tokens hardly moves."""

from types import SimpleNamespace

import pytest
import torch
from small_models import small_model
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from experiments.training.measure import allocations
from replication.policy import recompute_activations
from replication.rollout.sampling import tempered_logp
from replication.training import logprobs
from replication.training.logprobs import chunks, completion_logp

VOCABULARY, WIDTH = 4096, 8


class Lookup(nn.Module):
    """A decoder that is an embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)

    def forward(self, input_ids, use_cache):
        return BaseModelOutput(last_hidden_state=self.embedding(input_ids))


class Bigram(nn.Module):
    """An embedding and a head: nothing but the loss takes memory."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.decoder, self.head = Lookup(), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.head(self.decoder(input_ids, use_cache).last_hidden_state))

    def get_decoder(self):
        return self.decoder

    def get_output_embeddings(self):
        return self.head


def peak(model, tokens):
    """The most bytes that forward and backward allocate, gradients of the weights included."""
    model.zero_grad()
    ids = torch.arange(tokens + 1)[None] % VOCABULARY
    at = torch.arange(1, tokens + 1)[None]
    with allocations() as seen:
        logp, _ = completion_logp(model, ids, at, ids[:, 1:], 1.0)
        logp.sum().backward()
    return seen.peak


def test_memory_grows_by_hidden_states_not_by_the_vocabulary(monkeypatch):
    """Of a token more: states, their gradients and a few numbers; one tensor of its logits would be 16 KiB."""
    monkeypatch.setattr(logprobs, "LOGITS", 64 * VOCABULARY)
    few, more = (peak(Bigram(), tokens) for tokens in (256, 1024))
    assert 0 < (more - few) / 768 < 32 * (WIDTH + 4)
    assert few < 64 * VOCABULARY * 4 * 6, "four tensors of a chunk, and the weights' gradients"


@pytest.mark.parametrize(("size", "at_least", "calls"), [(3, 1, 5), (7, 1, 2), (3, 8, 8), (100, 1, 1)])
def test_chunks_have_the_gradients_of_the_whole(monkeypatch, size, at_least, calls):
    """14 tokens of two rows, in chunks across rows and with empty ones, against logits all at once."""
    torch.manual_seed(1)
    ids, weight = torch.randint(31, (2, 9)), torch.randn(2, 7)
    at = torch.arange(2, 9).expand(2, -1)
    model, whole = small_model(), small_model()
    logp = tempered_logp(whole(ids).logits[:, 1:-1], 0.7)
    want = logp.gather(-1, ids[:, 2:, None]).squeeze(-1)
    (want * weight).sum().backward()

    monkeypatch.setattr(logprobs, "LOGITS", size * 31)
    made = []
    handle = model.get_output_embeddings().register_forward_hook(lambda *_: made.append(1))
    got, entropy = completion_logp(model, ids, at, ids[:, 2:], 0.7, at_least)
    handle.remove()
    assert len(made) == calls == max(at_least, chunks(model, ids[:, 2:]))
    assert not entropy.requires_grad
    (got * weight).sum().backward()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(entropy, -(logp.exp() * logp).sum(-1).detach(), rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6 * float(theirs.grad.abs().max()))


def test_blocks_make_their_activations_again_in_eval_mode_too():
    """Twice through each block where they are made again, once where not; and the rollout never does."""
    ids, at = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[1, 2, 3]])
    passes = {}
    for again in (False, True):
        model = small_model()
        if again:
            recompute_activations(model)
        seen = passes[again] = []
        model.model.layers[1].mlp.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        completion_logp(model, ids, at, ids[:, 1:], 1.0)[0].sum().backward()
        assert not any(module.training for module in model.modules())
    assert (len(passes[False]), len(passes[True])) == (1, 2)
