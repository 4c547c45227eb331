"""Pointer rollback: after any of it, the next token's logits are those of a fresh prefill."""

import pytest
import torch
import transformers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, SIZE, small_model

from replication.errors import UserError
from replication.rollout.builtin.cache import RowCache
from replication.rollout.masks import refuse_unsupported

CAPACITY = 24


def fresh_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


def feed(model, cache, positions, ids):
    mask = cache.aim(positions)
    with torch.no_grad():
        out = model(input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True)
    return out.logits[:, -1]


ROWS = 4
tokens = st.integers(2, 30)
passes = st.lists(
    st.tuples(
        st.integers(1, ROWS),  # rows fed
        st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, 20)), max_size=2),  # rows cut, and by how much
        st.lists(st.permutations(range(ROWS)).map(lambda p: p[:2]), max_size=1),  # rows that change places
        tokens,
    ),
    min_size=12,
    max_size=30,
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])  # to shrink takes minutes
@given(first=st.lists(tokens, min_size=ROWS, max_size=ROWS), passes=passes, seed=st.integers(0, 3))
def test_logits_after_rollbacks_equal_fresh_prefill(family, first, passes, seed):
    """Rows grow, are cut back and change places at random, some of them in each pass: ragged lengths and batches."""
    model = small_model(family, seed=seed)
    cache = RowCache(model.config, ROWS, CAPACITY)
    texts = [[token] for token in first]  # what each row holds; the last token is pending
    for count, cuts, swaps, token in passes:
        for row, by in cuts:
            texts[row] = texts[row][: max(1, len(texts[row]) - by)]  # the rollback
        for a, b in swaps:
            held = max(len(texts[a]), len(texts[b])) - 1  # entries; the last token is pending
            cache.move(torch.tensor([a, b]), torch.tensor([b, a]), held)
            texts[a], texts[b] = texts[b], texts[a]
        positions = torch.tensor([[len(text) - 1] for text in texts[:count]])
        logits = feed(model, cache, positions, torch.tensor([[text[-1]] for text in texts[:count]]))
        for row in range(count):
            torch.testing.assert_close(logits[row], fresh_logits(model, texts[row]), atol=1e-5, rtol=1e-5)
            grown = [*texts[row], 2 + (token + 7 * row) % 29]
            texts[row] = grown if len(grown) <= CAPACITY else grown[:3]


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_prefilled_once_serve_every_copy(family):
    model = small_model(family)
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [9, 10]]
    short = RowCache(model.config, 2, 8)
    feed(model, short, torch.arange(8).expand(2, -1), torch.tensor([prompts[0][:-1], [9] + [0] * 7]))
    cache = RowCache(model.config, 6, 12)
    cache.fill(torch.tensor([0, 2, 4, 5]), short, torch.tensor([0, 1, 1, 0]))
    place = {0: 0, 2: 1, 4: 1, 5: 0}
    own = [prompts[place[row]] if row in place else [3] for row in range(6)]
    positions = torch.tensor([[len(p) - 1] for p in own])
    logits = feed(model, cache, positions, torch.tensor([[p[-1]] for p in own]))
    for row in range(6):
        torch.testing.assert_close(logits[row], fresh_logits(model, own[row]), atol=1e-5, rtol=1e-5)


def test_rollback_and_passes_of_some_rows_copy_nothing():
    model = small_model()
    cache = RowCache(model.config, 3, 8)
    feed(model, cache, torch.zeros(3, 1, dtype=torch.long), torch.tensor([[3], [4], [5]]))
    layer = cache.layers[0]
    before = layer.keys.data_ptr()
    for position in (1, 2, 3, 1, 2):
        feed(model, cache, torch.full((2, 1), position), torch.tensor([[3], [4]]))
        cache.aim(torch.full((2, 1), position))
        read, _ = layer.update(torch.zeros(2, 2, 1, 8), torch.zeros(2, 2, 1, 8))
        assert read.data_ptr() == before and read.shape == (2, 2, position + 1, 8)  # rows, heads, live, width
    assert layer.keys.data_ptr() == before and layer.keys.shape == (3, 8, 2, 8)  # rows, capacity, heads, width


LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
OLD = {"vocab_size": 31, "hidden_size": 32, "n_layer": 1, "n_head": 4, "num_hidden_layers": 1, "num_attention_heads": 4}
REFUSED = {
    "recurrent state": ("mamba", {**OLD, "state_size": 4}),
    "recurrent state, which": (
        "qwen3_5_text",
        {**SIZE, **LINEAR, "head_dim": 8, "layer_types": ["linear_attention"] * 2},
    ),
    "takes no position_ids": ("bloom", OLD),
    "position_ids, so that": ("falcon", {**OLD, "alibi": True}),
    "cuts windows by itself": (
        "gpt_neo",
        {
            "vocab_size": 31,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
    ),
    "is an encoder": ("roberta", {**OLD, "intermediate_size": 48}),
    "keeps no keys and values": ("openai-gpt", {"vocab_size": 31, "n_embd": 32, "n_layer": 1, "n_head": 4}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_rolled_back_is_refused(why):
    kind, sizes = REFUSED[why]
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **sizes))
    with pytest.raises(UserError, match=why):
        refuse_unsupported(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_of_eager_attention_are_added_in_the_models_own_type(dtype):
    """The rows' logits are those of texts alone, within the type's rounding."""
    model = small_model("gemma3").to(dtype)
    model.config.dtype = dtype
    model.set_attn_implementation("eager")
    cache = RowCache(model.config, 2, 12)
    texts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [9, 10]]
    feed(model, cache, torch.arange(8).expand(2, -1), torch.tensor([texts[0][:-1], [9] + [0] * 7]))
    logits = feed(model, cache, torch.tensor([[8], [1]]), torch.tensor([[13], [10]]))
    for row in range(2):
        slack = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(logits[row], fresh_logits(model, texts[row]), atol=slack, rtol=slack)


def test_layers_of_unknown_kinds_are_refused():
    model = small_model("gemma3")
    model.config.layer_types = ["chunked_attention", "full_attention"]
    with pytest.raises(UserError, match="gemma3_text has chunked_attention layers"):
        refuse_unsupported(model)


def test_positions_that_are_scaled_by_the_longest_row_are_refused():
    size = {**SIZE, "num_key_value_heads": 4, "pad_token_id": 0, "max_position_embeddings": 64}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 24}
    scaled = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    config = transformers.AutoConfig.for_model("phi3", **size, rope_parameters=scaled)
    with pytest.raises(UserError, match=r"phi3 scales its positions \(longrope\) by the longest row"):
        refuse_unsupported(transformers.AutoModelForCausalLM.from_config(config))
    plain = transformers.AutoConfig.for_model("phi3", **size)
    refuse_unsupported(transformers.AutoModelForCausalLM.from_config(plain))


def test_attention_that_takes_no_mask_is_refused():
    model = small_model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="attn_implementation='sdpa'"):
        refuse_unsupported(model)


def test_encoder_decoders_are_refused():
    model = small_model()
    model.config.is_encoder_decoder = True
    with pytest.raises(UserError, match="encoder-decoder"):
        refuse_unsupported(model)
