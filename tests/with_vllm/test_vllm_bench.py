"""Every part of the comparison of engines, small."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here: `make vllm`", allow_module_level=True)

import transformers
from small_models import SIZE

from experiments.decoding import engines, trl_rollout


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    size = {**SIZE, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = transformers.AutoModelForCausalLM.from_config(transformers.Qwen3Config(**size, head_dim=32)).eval()
    return engines.Case("small", model, range(SIZE["vocab_size"]), (2,), 16, 8, 1, 8).parts()


def test_side_by_side(parts):
    found = parts["2 rows"]()
    assert (found["rows"], found["tokens"]) == (2, 16)
    assert found["tokens in a second"].keys() == {"torch", "vLLM", "generate", "continuous batching"}
    assert min(found["tokens in a second"].values()) > 0


def test_what_is_resubmitted_comes_from_the_cache(parts):
    """Prompts of 48, 56, ..., 96 tokens in blocks of 32, of which a last token is never taken from the cache."""
    found = parts["boundaries"]()
    sizes = range(48, 97, 8)
    assert found["resubmitted tokens from the cache"] == round(sum((n - 1) // 32 * 32 for n in sizes) / sum(sizes), 3)
    assert found["tokens in a second"].keys() == {"one segment", "eight segments"}


def test_seeds_and_erasing(parts):
    assert parts["seeds"]()["tokens in a second"].keys() == {"seeds", "no seeds"}
    rate = parts["erasing"]()["tokens in a second"]
    assert rate.keys() == {"plain", "all rows twice", "a quarter of the rows twice"}


def test_waiting_is_held_against_a_level_that_erases_as_much(parts):
    found = parts["waiting"]()
    share, busy = found["share of tokens erased"], found["share of rows busy in a pass"]
    assert share.keys() == busy.keys() == found["tokens in a second"].keys() and len(share) == 4
    for engine in ("torch", "vLLM"):
        assert share[f"{engine}, fixed"] == pytest.approx(share[f"{engine}, group"], abs=0.1)
        assert 0 < busy[f"{engine}, group"] < busy[f"{engine}, fixed"] <= 1


@pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed here: experiments/decoding/trl_rollout.py")
def test_trls_own_generation_beside_ours():
    case = replace(engines.cases(None)[0], rows=8, rounds=1)
    found = trl_rollout.beside(case, 64, False)
    assert found["segments"] == 2 and "TRL" in found["tokens in a second"]
    assert min(found["tokens in a second"].values()) > 0
