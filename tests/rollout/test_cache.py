"""Pointer rollback: after any of it, the next token's logits are those of a fresh prefill."""

import random

import pytest
import torch
from small_models import FAMILIES, SIZE, small_model
from transformers import MistralConfig, MistralForCausalLM

from replication.errors import UserError
from replication.rollout.cache import RowCache


def fresh_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


def feed(model, cache, rows, positions, ids):
    mask = cache.aim(rows, positions)
    with torch.no_grad():
        out = model(input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True)
    return out.logits[:, -1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trial", range(3))
def test_logits_after_rollbacks_equal_fresh_prefill(family, trial):
    """Rows grow and are rolled back at random, a few of them in each pass: ragged lengths, ragged batches."""
    rng = random.Random(trial)
    model = small_model(family, seed=trial)
    rows = 4
    cache = RowCache(model.config, rows, 40)
    texts = [[rng.randrange(2, 31)] for _ in range(rows)]  # what each row holds; the last token is pending
    for _ in range(40):
        chosen = sorted(rng.sample(range(rows), rng.randint(1, rows)))
        for row in chosen:
            if len(texts[row]) > 3 and (rng.random() < 0.3 or len(texts[row]) == 40):
                texts[row] = texts[row][: rng.randint(1, len(texts[row]) - 1)]  # the rollback
        positions = torch.tensor([[len(texts[row]) - 1] for row in chosen])
        pending = torch.tensor([[texts[row][-1]] for row in chosen])
        logits = feed(model, cache, torch.tensor(chosen), positions, pending)
        for i, row in enumerate(chosen):
            torch.testing.assert_close(logits[i], fresh_logits(model, texts[row]), atol=1e-5, rtol=1e-5)
            texts[row] = [*texts[row], rng.randrange(2, 31)]


def test_prompt_prefilled_once_serves_every_copy():
    model = small_model()
    prompts = [[5, 6, 7, 8], [9, 10]]
    short = RowCache(model.config, 2, 3)
    ids = torch.tensor([[5, 6, 7], [9, 0, 0]])
    feed(model, short, torch.arange(2), torch.arange(3).expand(2, -1), ids)
    cache = RowCache(model.config, 6, 10)
    cache.fill_from(short, 3)
    positions = torch.tensor([[3]] * 3 + [[1]] * 3)
    logits = feed(model, cache, torch.arange(6), positions, torch.tensor([[8]] * 3 + [[10]] * 3))
    for row in range(6):
        torch.testing.assert_close(logits[row], fresh_logits(model, prompts[row // 3]), atol=1e-5, rtol=1e-5)


def test_rollback_allocates_nothing():
    model = small_model()
    cache = RowCache(model.config, 2, 8)
    feed(model, cache, torch.arange(2), torch.zeros(2, 1, dtype=torch.long), torch.tensor([[3], [4]]))
    before = [layer.keys.data_ptr() for layer in cache.layers]
    for position in (1, 2, 3, 1, 2):
        feed(model, cache, torch.arange(2), torch.full((2, 1), position), torch.tensor([[3], [4]]))
    assert [layer.keys.data_ptr() for layer in cache.layers] == before
    assert cache.layers[0].keys.shape == (2, 8, 2, 8)  # rows, capacity, heads, width


def test_sliding_window_is_refused():
    config = MistralConfig(**SIZE, sliding_window=8)
    assert MistralForCausalLM(config) is not None
    config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    with pytest.raises(UserError, match="sliding_attention"):
        RowCache(config, 1, 4)
